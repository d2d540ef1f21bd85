"""Faces in pictures as analysers and embedders see them."""
