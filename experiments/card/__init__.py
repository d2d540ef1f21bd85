"""The model card of a run, and its release."""
