"""Flower server: the FedGAN strategy, its round loop, simulation, and centralized training."""
