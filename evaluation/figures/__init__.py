"""Figures over many pairs: means, intervals, tables."""
