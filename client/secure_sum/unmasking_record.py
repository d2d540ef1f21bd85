"""What a site remembers of the sums that it helped to unmask, so that no two of them differ by one site's part.

A server that asks for a round again with one site fewer could subtract. So for every round of a run, and for every
digest of what a round starts from, a site helps to unmask the sum over one set of sites. The statistics before round 1
are the same in every run, so for them that set is the same in all runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from federation.secure_sum.primitives import SecureSumError
from federation.secure_sum.session import Kind, SumName
from model.errors import ConfigError
from model.files import read_json, write_json

RECORD_NAME = "secure-unmasked.json"
_NUM_KEPT = 20_000
"""Of entries, two a round: a server that wants one to be forgotten has to train ten thousand rounds first."""


class SpentSumError(SecureSumError):
    """This site helped to unmask the same over other sites; the server may go on with the next round."""


class UnmaskingRecord:
    """Of one site, in its state folder."""

    def __init__(self, folder: Path) -> None:
        """The file need not be there."""
        self._path = folder / RECORD_NAME

    def check(self, site: int, name: SumName, sites: Sequence[int], *, is_final: bool) -> None:
        """Whether the site may go on with a sum.

        Args:
            site: partition id, for the message.
            name: of the sum.
            sites: that are in it as far as is known.
            is_final: whether the sum is over exactly these; else some of them may still drop out.

        Raises:
            SpentSumError: if the record has another set of sites for it.
            ConfigError: if the record is there and cannot be read.
        """
        _require_same(site, name, sites, self._read(), is_final=is_final)

    def add(self, site: int, name: SumName, sites: Sequence[int]) -> None:
        """That the site helps to unmask the sum over these sites; on disk when this returns.

        Raises:
            SpentSumError, ConfigError: as `check`.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(self._path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at one site have a process each
            known = self._read()
            _require_same(site, name, sites, known, is_final=True)
            known |= {key: list(sites) for key in _keys(name)}
            for key in [key for key in known if key != Kind.STATISTICS][: max(0, len(known) - _NUM_KEPT)]:
                del known[key]
            write_json(self._path, known, is_private=True)

    def _read(self) -> dict[str, list[int]]:
        try:
            known = read_json(self._path)
            return {str(key): [int(site) for site in sites] for key, sites in known.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"the site's {RECORD_NAME} cannot be read ({type(error).__name__}); restore it: without it two sums "
                "that differ by one site's update could be unmasked"
            ) from error


def _keys(name: SumName) -> list[str]:
    if name.kind is Kind.STATISTICS:
        return [str(name.kind)]
    of_run = json.dumps([name.run_id, name.kind, name.round_number]).encode()
    return ["round " + hashlib.sha256(of_run).hexdigest()[:32], "digest " + name.digest[:32]]


def _require_same(
    site: int, name: SumName, sites: Sequence[int], known: dict[str, list[int]], *, is_final: bool
) -> None:
    for before in filter(None, map(known.get, _keys(name))):
        if not set(before) <= set(sites) or (is_final and set(before) != set(sites)):
            raise SpentSumError(
                f"site {site}: it helped to unmask {name.kind} of round {name.round_number} over sites {before}; with "
                f"the sum over sites {list(sites)} besides, the server could subtract"
            )
