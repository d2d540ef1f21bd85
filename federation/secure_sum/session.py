"""What one secure sum is about: the name under which all its keys, masks and signatures are made.

The digest in it covers what a site is asked to work on. Two sites that were given different models, settings, sizes or
rounds have different names for their sum: their masks do not cancel, and the server is left with noise (against the
model inconsistency of Pasquini, Francati and Ateniese 2022, Eluding Secure Aggregation in Federated Learning).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np

from federation.secure_sum.primitives import SecureSumError
from federation.settings import MEANINGS, Settings
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays
from model.setting import Leeway, Scalar


class Kind(StrEnum):
    """What is summed."""

    STATISTICS = "statistics"
    """Landmarks and part sizes, before round 1."""
    TRAIN = "train"
    """The updates of a round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SumName:
    """Of one sum; the same at all its sites and at the server."""

    session: str
    """Random, drawn by the server: no two sums have the same."""
    run_id: str
    """Of the run, as the server calls it."""
    kind: Kind
    round_number: int
    """From 1; 0 for statistics."""
    digest: str
    """`content_digest` of what the sites are given."""

    def __str__(self) -> str:
        """All of it as canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def to_flat(self) -> dict[str, Scalar]:
        """Scalars of a message."""
        return {
            "session": self.session,
            "run-id": self.run_id,
            "kind": self.kind.value,
            "server-round": self.round_number,
            "digest": self.digest,
        }

    @classmethod
    def from_flat(cls, flat: Mapping[str, Scalar]) -> SumName:
        """What `to_flat` gave; other keys are ignored.

        Raises:
            SecureSumError: if a key is missing or has another type.
        """
        texts = [flat.get(key) for key in ("session", "run-id", "kind", "digest")]
        round_number = flat.get("server-round")
        is_number = isinstance(round_number, int) and not isinstance(round_number, bool)
        if not all(isinstance(text, str) for text in texts) or not is_number or texts[2] not in list(Kind):
            raise SecureSumError(
                f"got a secure sum called {texts} of round {round_number!r}, wanted session, run-id, kind and digest "
                "as text and server-round as a whole number"
            )
        session, run_id, kind, digest = (str(text) for text in texts)
        assert isinstance(round_number, int)
        return cls(session=session, run_id=run_id, kind=Kind(kind), round_number=round_number, digest=digest)


def content_digest(
    kind: Kind,
    settings: Settings,
    *,
    round_number: int = 0,
    part_sizes: PartSizes | None = None,
    tensors: NamedArrays | None = None,
) -> str:
    """SHA-256, in hexadecimal, of all that a site's part of a sum depends on besides its own frames and chance.

    All settings are in it: they travel to the server and to every site in the run config, so sites of one run agree.

    Args:
        kind: of the sum.
        settings: of the run.
        round_number: from 1; 0 for statistics.
        part_sizes: agreed; None for statistics.
        tensors: the global ones in their order: names, shapes, dtypes and values count.
    """
    return _digest(kind, settings.to_flat(), round_number, part_sizes, tensors or {})


def start_digest(settings: Settings, *, round_number: int, part_sizes: PartSizes, tensors: NamedArrays) -> str:
    """SHA-256, in hexadecimal, of what the sites' parts of a round's sum say something about.

    Of the settings those count that a run must have as a site approved them: the others, which a server may choose anew
    for every run, leave the parts as they are. So what a run is called does not change it.

    Args:
        settings: of the run.
        round_number: from 1.
        part_sizes: agreed.
        tensors: the global ones in their order: names, shapes, dtypes and values count.
    """
    approved = {key: value for key, value in settings.to_flat().items() if MEANINGS[key].leeway is Leeway.SAME}
    return _digest(Kind.TRAIN, approved, round_number, part_sizes, tensors)


def _digest(
    kind: Kind,
    settings: Mapping[str, Scalar],
    round_number: int,
    part_sizes: PartSizes | None,
    tensors: NamedArrays,
) -> str:
    head = {
        "kind": kind.value,
        "settings": settings,
        "round": round_number,
        "part-sizes": part_sizes.to_flat() if part_sizes else None,
    }
    digest = hashlib.sha256()
    pieces: list[bytes | memoryview] = [json.dumps(head, sort_keys=True).encode()]
    for name, array in tensors.items():
        pieces.append(json.dumps([name, list(array.shape), array.dtype.str]).encode())
        pieces.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    for piece in pieces:  # every piece after its length: no two lists of pieces give the same bytes
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.hexdigest()
