"""The privacy audit of a run."""
