"""Metrics of single pictures and pairs."""
