"""Blocks of the systems that the thesis compares with, by noun; `model/designs` puts them together."""
