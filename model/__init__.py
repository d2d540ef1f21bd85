"""Networks, losses, one trainer and checkpoints; knows neither Flower nor file formats of data."""
