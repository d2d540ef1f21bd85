"""How many sites a secure sum may have. A module of its own: settings are checked without the arithmetic of sums."""

MIN_SITES = 3
"""In a sum: from the sum of two, each of them knows the other's vector."""
MAX_SITES = 64
"""In a sum; federation/secure_sum/vector.py counts on it to exclude overflow."""
