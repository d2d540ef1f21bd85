"""Drawn people with known landmarks, pose and action units."""
