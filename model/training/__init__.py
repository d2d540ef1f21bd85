"""Training steps: objectives, losses, optimisers and their moments."""
