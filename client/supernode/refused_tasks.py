"""Counts the tasks that a site refused, in the site's state folder."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


class RefusedTasks:
    """The count outlives the SuperNode; every reply to a round tells it to the server."""

    def __init__(self, folder: Path) -> None:
        """The file need not be there."""
        self._path = folder / "refused-tasks.json"

    def total(self) -> int:
        """Tasks refused so far; 0 where there is no file, or one that cannot be read."""
        try:
            return int(json.loads(self._path.read_text(encoding="utf-8"))["refused_tasks"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("%s cannot be read (%s); refused tasks are counted from 0", self._path, type(error).__name__)
            return 0

    def count_one(self) -> None:
        """One more; a full disk is logged, and does not stop the site from refusing."""
        partial = self._path.with_suffix(".partial")
        try:
            total = self.total() + 1
            with partial.open("w", encoding="utf-8") as file:
                file.write(json.dumps({"refused_tasks": total}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            _log.error("a refused task is not counted: %s: %s", self._path, error.strerror)
