"""Metrics, and comparisons of a checkpoint with baselines."""
