"""Whatever can be drawn with, by its path."""

from __future__ import annotations

from pathlib import Path

from model.checkpoint import Checkpoint, load_checkpoint
from reenact import published
from reenact.exported import model as exported


def read_model(path: Path) -> Checkpoint:
    """A run's or a round's folder, a file that `export` wrote, or a published one of first-order-model.

    Raises:
        CheckpointError: if it cannot be used.
        ConfigError: if what draws it is not installed.
    """
    if path.is_file() and path.suffix == exported.SUFFIX:
        return exported.read_exported(path)
    if path.is_file() and path.suffix in published.SUFFIXES:
        return published.read_published(path)
    return load_checkpoint(path)
