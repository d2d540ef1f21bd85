"""What sites and server agree on: settings' bounds, reported numbers, local training, secure sums. Knows no Flower."""
