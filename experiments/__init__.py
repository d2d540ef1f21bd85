"""The thesis' tables on one's own data: trains what is missing, evaluates, and writes them."""
