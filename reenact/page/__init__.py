"""The page of `fedreenact serve`: who, movement, result; live from a camera; a check of any file's marks."""
