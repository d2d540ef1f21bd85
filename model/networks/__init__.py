"""The networks: modules with weights, no loss and no optimiser."""
