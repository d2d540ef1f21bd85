"""Runs as people see them: status, metrics, refusals."""
