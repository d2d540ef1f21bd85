"""Flower's processes and the door before them."""
