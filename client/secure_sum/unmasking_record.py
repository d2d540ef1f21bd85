"""What a site remembers of the sums that it helped to unmask, so that no two of them differ by one site's part.

A server that asks for a round again with one site fewer could subtract. So a site helps to unmask the sum over one set
of sites for every round of a run, and for every digest, which it computes itself, of what a round starts from. The
statistics before round 1 are the same in every run, so for them that set is the same in all runs.

A site is its key: a set is the sites' ids and the keys that are pinned for them. Once an id is another person's, the
same ids are another set. A simulation has no keys; there the ids are all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from client.state_file import alone_with
from federation.secure_sum.primitives import SecureSumError
from federation.secure_sum.session import Kind, SumName
from federation.secure_sum.signatures import Signatures
from model.errors import ConfigError
from model.files import read_json, write_json

RECORD_NAME = "secure-unmasked.json"
_NUM_KEPT = 20_000
"""Of entries, two a round: a server that wants one to be forgotten has to train ten thousand rounds first."""


class SpentSumError(SecureSumError):
    """This site helped to unmask the same over other sites; the server may go on with the next round."""


class _Summed(NamedTuple):
    """Whose sum was unmasked."""

    sites: list[int]
    keys: str
    """`Signatures.fingerprint` of the sites; empty in a simulation, and in a record that did not note keys yet."""


class UnmaskingRecord:
    """Of one site, in its state folder."""

    def __init__(self, folder: Path, signatures: Signatures) -> None:
        """The file need not be there.

        Args:
            folder: the site's own.
            signatures: knows the sites' own keys.
        """
        self._path = folder / RECORD_NAME
        self._signatures = signatures

    def check(self, site: int, name: SumName, start: str, sites: Sequence[int], *, is_final: bool) -> None:
        """Whether the site may go on with a sum.

        Args:
            site: partition id, for the message.
            name: of the sum.
            start: `session.start_digest` of the round; empty as long as the site has not seen what it starts from.
            sites: that are in it as far as is known.
            is_final: whether the sum is over exactly these; else some of them may still drop out.

        Raises:
            SpentSumError: if the record has another set of sites for it, or the same ids with another key.
            ConfigError: if the record is there and cannot be read.
        """
        self._require_same(site, name, start, sites, self._read(), is_final=is_final)

    def add(self, site: int, name: SumName, start: str, sites: Sequence[int]) -> None:
        """That the site helps to unmask the sum over these sites; on disk when this returns.

        Entries of a version that noted ids alone take on the keys that are pinned today.

        Raises:
            SpentSumError, ConfigError: as `check`.
        """
        with alone_with(self._path):
            known = self._read()
            self._require_same(site, name, start, sites, known, is_final=True)
            known |= {key: _Summed(list(sites), "") for key in _keys(name, start)}
            for key in [key for key in known if key != Kind.STATISTICS][: max(0, len(known) - _NUM_KEPT)]:
                del known[key]
            write_json(self._path, {key: self._to_json(one) for key, one in known.items()}, is_private=True)

    def _to_json(self, summed: _Summed) -> object:
        keys = summed.keys or self._signatures.fingerprint(summed.sites)
        return {"sites": summed.sites, "keys": keys} if keys else summed.sites

    def _require_same(
        self, site: int, name: SumName, start: str, sites: Sequence[int], known: dict[str, _Summed], *, is_final: bool
    ) -> None:
        by_name = "digest " + name.digest[:32]  # of an entry of a version that trusted the name's digest
        for before in filter(None, map(known.get, [*_keys(name, start), by_name])):
            if not set(before.sites) <= set(sites) or (is_final and set(before.sites) != set(sites)):
                raise SpentSumError(
                    f"site {site}: it helped to unmask {name.kind} of round {name.round_number} over sites "
                    f"{before.sites}; with the sum over sites {list(sites)} besides, the server could subtract"
                )
            keys = self._signatures.fingerprint(before.sites)
            if before.keys and keys and before.keys != keys:
                raise SpentSumError(
                    f"site {site}: it helped to unmask {name.kind} of round {name.round_number} over sites "
                    f"{before.sites}, and one of them had another key then; with the sum over those of today besides, "
                    "the server could subtract"
                )

    def _read(self) -> dict[str, _Summed]:
        try:
            return {str(key): _from_json(value) for key, value in read_json(self._path).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"the site's {RECORD_NAME} cannot be read ({type(error).__name__}); restore it: without it two sums "
                "that differ by one site's update could be unmasked"
            ) from error


def _keys(name: SumName, start: str) -> list[str]:
    if name.kind is Kind.STATISTICS:
        return [str(name.kind)]
    of_run = json.dumps([name.run_id, name.kind, name.round_number]).encode()
    keys = ["round " + hashlib.sha256(of_run).hexdigest()[:32]]
    return [*keys, "start " + start[:32]] if start else keys


def _from_json(value: Any) -> _Summed:
    """Ids and keys, or the ids alone."""
    sites, keys = (value["sites"], value["keys"]) if isinstance(value, dict) else (value, "")
    return _Summed([int(site) for site in sites], str(keys))
