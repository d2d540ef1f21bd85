"""Counts the tasks that a site refused, in the site's state folder."""

from __future__ import annotations

import logging
from pathlib import Path

from model.files import read_json, write_json

_log = logging.getLogger(__name__)


class RefusedTasks:
    """The count outlives the SuperNode; every reply to a round tells it to the server."""

    def __init__(self, folder: Path) -> None:
        """The file need not be there."""
        self._path = folder / "refused-tasks.json"

    def total(self) -> int:
        """Tasks refused so far; 0 where there is no file, or one that cannot be read."""
        try:
            return int(read_json(self._path)["refused_tasks"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("%s cannot be read (%s); refused tasks are counted from 0", self._path, type(error).__name__)
            return 0

    def count_one(self) -> None:
        """One more; a full disk is logged, and does not stop the site from refusing."""
        try:
            write_json(self._path, {"refused_tasks": self.total() + 1})
        except OSError as error:
            _log.error("a refused task is not counted: %s: %s", self._path, error.strerror)
