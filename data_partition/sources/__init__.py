"""What a user's folder holds: layouts, videos, annotations and what was left out."""
