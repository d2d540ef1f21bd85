"""What a run is doing right now, in one small file of its folder that anyone may read at any moment."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from model.errors import ConfigError
from model.files import read_json, write_json

_log = logging.getLogger(__name__)

LIVE_NAME = "live.json"
_WRITE_INTERVAL_S = 5.0


class Phase(StrEnum):
    """What a run is waiting for."""

    WAITING = "waiting"
    """For sites to say who they are."""
    TRAINING = "training"
    """For the sites' updates."""
    ENDED = "ended"
    """Nothing; result.json says how it ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """The file's content; times are Unix seconds."""

    phase: Phase
    round: int
    """Round in progress; 0 before the first."""
    time: float
    """When this was written: every few seconds while the server app lives."""
    phase_since: float
    last_contact: dict[int, float] = field(default_factory=dict)
    """Partition id of every site seen in this run to when it was last connected."""
    connected: list[int] = field(default_factory=list)
    """Partition ids connected now."""
    refused: dict[str, str] = field(default_factory=dict)
    """A connected node that does not take part, in words, to the reason."""
    num_sites: int = 0
    """That are to take part; 0 where there are none, or where it is not said."""
    attempt: int = 1
    """How often the round in progress was begun; above 1 it gave too few valid updates before."""
    trouble: str = ""
    """Why it is not got on with; "" while nothing is in the way."""

    @classmethod
    def read(cls, run: Path) -> Live | None:
        """What the run folder's file says; None if there is none.

        Raises:
            ConfigError: if it is damaged.
        """
        try:
            values: dict[str, Any] = read_json(run / LIVE_NAME)
            contacts = {int(site): float(seen) for site, seen in values.get("last_contact", {}).items()}
            connected = [int(site) for site in values.get("connected", [])]
            return cls(**values | {"phase": Phase(values["phase"]), "last_contact": contacts, "connected": connected})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{run / LIVE_NAME}: damaged ({type(error).__name__}); remove it") from error


class LiveStatus:
    """Writes the file, at most every few seconds unless the phase changes."""

    def __init__(self, run: Path) -> None:
        """Go on from the last contacts that the folder's file knows; a damaged one is as none."""
        before = _read_if_intact(run)
        self._path = run / LIVE_NAME
        self._last_contact = dict(before.last_contact) if before else {}
        self._connected: list[int] = []
        self._refused: dict[str, str] = {}
        self._num_sites, self._attempt, self._trouble = 0, 0, ""  # the first phase begins with `enter`
        self._phase, self._round, self._phase_since = Phase.WAITING, 0, time.time()
        self._next_write = 0.0

    def expect(self, num_sites: int, contacts: Mapping[int, float]) -> None:
        """So many sites are to take part.

        Args:
            num_sites: theirs.
            contacts: partition id of sites that took part before to when that was, where the file does not know better.
        """
        self._num_sites = num_sites
        self._last_contact = {**contacts, **self._last_contact}

    def enter(self, phase: Phase, round_number: int) -> None:
        """A phase begins, or the same one of the same round once more."""
        if (phase, round_number) == (self._phase, self._round):
            self._attempt += 1
        else:
            self._phase, self._round, self._phase_since = phase, round_number, time.time()
            self._attempt, self._trouble = 1, ""
        self._write()

    def tell(self, trouble: str) -> None:
        """Why the run does not get on."""
        self._trouble = trouble
        self._write()

    def see(self, partition_ids: Iterable[int], refused: Mapping[str, str]) -> None:
        """These sites are connected now, and these nodes, in words, are refused for these reasons."""
        self._connected = list(partition_ids)
        self._last_contact |= dict.fromkeys(self._connected, time.time())
        self._refused = dict(refused)
        if time.monotonic() >= self._next_write:
            self._write()

    def _write(self) -> None:
        self._next_write = time.monotonic() + _WRITE_INTERVAL_S
        values = {
            "phase": self._phase.value,
            "round": self._round,
            "time": time.time(),
            "phase_since": self._phase_since,
            "last_contact": {str(site): seen for site, seen in self._last_contact.items()},
            "connected": [str(site) for site in self._connected],
            "refused": self._refused,
            "num_sites": self._num_sites,
            "attempt": self._attempt,
            "trouble": self._trouble,
        }
        try:
            write_json(self._path, values)
        except OSError as error:  # training does not need it
            _log.warning("%s could not be written: %s", self._path, error)


def _read_if_intact(run: Path) -> Live | None:
    try:
        return Live.read(run)
    except ConfigError as error:  # training does not need it
        _log.warning("%s, or leave it: training goes on and writes it anew", error)
        return None
