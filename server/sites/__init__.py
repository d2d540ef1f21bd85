"""Who the sites are, and whether enough of them are there."""
