"""Flower clients: one site each, local training, and what may leave the site."""
