"""Training steps: losses, optimisers and their moments."""
