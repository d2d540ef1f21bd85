"""How many sites a secure sum may have. A module of its own: settings are checked without the arithmetic of sums."""

MIN_SITES = 3
"""In a sum: from the sum of two, each of them knows the other's vector."""
MAX_SITES = 64
"""In a sum; federation/secure_sum/vector.py counts on it to exclude overflow."""


def fewest_in_sum(num_sites: int) -> int:
    """Sites of a federation below which no sum is unmasked: in each there are two that do not help the server.

    The server chooses which sites take part. Fewer than a third of all may help it, and all of these may be in the sum.

    Args:
        num_sites: of the federation.
    """
    return max(MIN_SITES, -(-num_sites // 3) + 1)
