"""The dataset on disk: one folder a person."""
