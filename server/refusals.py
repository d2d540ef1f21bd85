"""Counts the connections that a SuperLink refused, from its log file."""

from __future__ import annotations

import re
from pathlib import Path

REASONS = ("plaintext", "tls", "no-key", "unknown-key", "not-for-sites")
"""plaintext: no TLS. tls: for example another CA. no-key and unknown-key: a SuperNode without a registered key.
not-for-sites: the Control or Runtime API asked for at the sites' door."""

_LINE = re.compile(rb"refused connection \(([a-z-]+)\)|\[/v1/fleet/[^\]]*\]\[ApiError:(2001|2004)\]")
_API_ERRORS = {b"2001": "no-key", b"2004": "unknown-key"}


class RefusalCounter:
    """Follows a log file that grows, and begins again when it is rotated."""

    def __init__(self, log_path: Path) -> None:
        self._path = log_path
        self._offset = 0
        self._inode = 0
        self.counts = dict.fromkeys(REASONS, 0)
        """Refusals seen so far, by reason."""

    def update(self) -> None:
        """Count the lines that are new; a file that is not there has none."""
        try:
            stat = self._path.stat()
        except OSError:
            return
        if stat.st_ino != self._inode or stat.st_size < self._offset:
            self._inode, self._offset = stat.st_ino, 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]  # a line that is still being written is counted next time
        self._offset += len(complete)
        for found in _LINE.finditer(complete):
            reason = found[1].decode() if found[1] else _API_ERRORS[found[2]]
            if reason in self.counts:
                self.counts[reason] += 1
