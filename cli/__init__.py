"""`fedreenact ...`: reads the command line, calls the package that does the work, prints what came of it."""

from cli.entry import app, main

__all__ = ["app", "main"]
