"""Whether the metrics move the right way on altered pictures."""
