"""Landmarks: their geometry, parts and style."""
