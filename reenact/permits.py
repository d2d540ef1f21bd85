"""By whose consent requests are drawn: records are read whenever they are asked for, faces compared once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from data_partition.shards.shard import shard_folders
from model.errors import DataError
from reenact.consent import Permission, check_face, likeness_of, permission_for, person_shown, require_drawable
from reenact.face_frame import FaceFrame
from reenact.live import LiveRequest
from reenact.person import Person
from reenact.request import ReenactRequest


class Permits:
    """Of one studio's requests. Records may change while it is open; the face that a source shows does not."""

    def __init__(self, person: Callable[[tuple[Path, ...], int], FaceFrame], digest: Callable[[Path], str]) -> None:
        """Ask nobody yet.

        Args:
            person: who is drawn, by sources and number of the face.
            digest: SHA-256 of an input.
        """
        self._person, self._digest = person, digest
        self._likeness = lru_cache(maxsize=None)(likeness_of)
        self._shown = lru_cache(maxsize=32)(self._find_shown)
        self._require_face = lru_cache(maxsize=32)(self._compare)

    def ask(self, request: ReenactRequest | LiveRequest) -> Permission:
        """By what a request may be drawn, as the records are now.

        Raises:
            ConfigError, DataError: as `require_drawable`, `permission_for`, `person_shown` and `check_face`.
            OSError: if an input cannot be read.
        """
        require_drawable(request.sources)
        consent = request.consent
        if consent is not None and consent.is_dir() and shard_folders(consent):
            consent = self._shown(request.sources, request.face, consent)
        permission = permission_for(
            request.sources,
            request.driving if isinstance(request, ReenactRequest) else None,
            consent=consent,
            without_consent=request.without_consent,
            digest=self._digest,
        )
        if permission.likeness is not None and permission.likeness == request.consent:  # else it was found by the face
            self._require_face(request.sources, request.face, permission.likeness)
        return permission

    def require(self, request: ReenactRequest, permission: Permission) -> None:
        """Ask once more before a result is delivered: drawing may have taken hours.

        Raises:
            DataError: if the records no longer say what they said.
        """
        if self.ask(request) != permission:
            raise DataError(f"{request.out}: not delivered, a record of consent changed meanwhile; draw it again")

    def forget(self) -> None:
        """Compare the faces of later requests anew."""
        self._shown.cache_clear()
        self._require_face.cache_clear()

    def _find_shown(self, sources: tuple[Path, ...], face: int, dataset: Path) -> Path:
        likenesses = {shard: self._likeness(shard) for shard in shard_folders(dataset)}
        return person_shown(_faces_of(self._person(sources, face)), likenesses, dataset)

    def _compare(self, sources: tuple[Path, ...], face: int, shard: Path) -> None:
        check_face(_faces_of(self._person(sources, face)), self._likeness(shard), shard)


def _faces_of(source: FaceFrame) -> tuple[FaceFrame, ...]:
    """All that a source is drawn from."""
    return source.references.frames if isinstance(source, Person) else (source,)
