"""Why the SuperLink refuses somebody, how that is written to its log, and how the exporter counts it from there."""

from __future__ import annotations

import asyncio
import re
from enum import StrEnum
from logging import WARNING
from pathlib import Path

from flwr.supercore import log

_LINE_EVERY_S = 10.0


class Reason(StrEnum):
    """Why a connection or a request was refused at the sites' door."""

    PLAINTEXT = "plaintext"
    """No TLS where TLS is spoken."""
    TLS = "tls"
    """The handshake failed, for example because the peer trusts another CA."""
    NO_KEY = "no-key"
    """No key, or one that the SuperNode made for itself because it was given none."""
    UNKNOWN_KEY = "unknown-key"
    """A key that is not registered."""
    BAD_SIGNATURE = "bad-signature"
    """A registered key, and a signature that is not by it."""
    CLOCK = "clock"
    """A registered key and its signature over a time that is too far from this machine's."""
    WRONG_NODE = "wrong-node"
    """A registered key that speaks for another key's node."""
    UNKNOWN_NODE = "unknown-node"
    """Without registered keys: a node that this SuperLink does not know (any more)."""
    ALREADY_CONNECTED = "already-connected"
    """A registered key whose node still counts as connected: a site that was killed, or a key in two places."""
    NOT_FOR_SITES = "not-for-sites"
    """The Control or Runtime API, or anything else but the Fleet API."""
    TOO_LARGE = "too-large"
    """A body larger than any that a site sends."""
    TOO_SLOW = "too-slow"
    """A handshake, a header or a body that did not come in time."""
    TOO_MANY = "too-many"
    """More connections, or more requests of one node at once, than are kept."""
    MALFORMED = "malformed"
    """Not HTTP, or a header longer than 16 KiB."""


class RefusalLog:
    """Writes refusals to Flower's log: the first of its kind at once, those after it as one line every ten seconds.

    A line says how many refusals it stands for, so that a flood does not fill the disk and is counted all the same.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[Reason, str], tuple[int, str]] = {}

    def add(self, reason: Reason, peer: str, words: str, node: str = "") -> None:
        """One refusal, within the event loop.

        Args:
            reason: why.
            peer: network address that was refused.
            words: what a person should know; text of the peer's in it must have been escaped.
            node: who it is, if its key is known: kept apart from other nodes' refusals.
        """
        kind, end = (reason, node), f"from {peer}: {words}"
        if kind in self._held:
            self._held[kind] = (self._held[kind][0] + 1, end)
            return
        self._write(kind, 1, end)

    def flush(self) -> None:
        """Write what is held back."""
        for kind in list(self._held):
            self._release(kind)

    def _write(self, kind: tuple[Reason, str], count: int, end: str) -> None:
        log(WARNING, "refused connection (%s) x%d %s", kind[0], count, end)
        self._held[kind] = (0, "")
        asyncio.get_running_loop().call_later(_LINE_EVERY_S, self._release, kind)

    def _release(self, kind: tuple[Reason, str]) -> None:
        count, end = self._held.pop(kind, (0, ""))
        if count:
            self._write(kind, count, end)


# Flower's log lines are "LEVEL flwr TIME | FILE:LINE | MESSAGE"; a message may quote a stranger, what precedes it not.
_LINE = re.compile(rb"^[^|\n]*\|[^|\n]*\| refused connection \(([a-z-]+)\) x(\d{1,9}) ", re.MULTILINE)


class RefusalCounter:
    """Follows a log file that grows, and begins again when it is rotated."""

    def __init__(self, log_path: Path) -> None:
        self._path = log_path
        self._offset = 0
        self._inode = 0
        self.counts = dict.fromkeys(Reason, 0)
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
            if (reason := found[1].decode()) in self.counts:
                self.counts[Reason(reason)] += int(found[2])
