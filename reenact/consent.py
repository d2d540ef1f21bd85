"""Whether a face may be drawn: every source needs a record of consent that holds today and is about this face.

Frames of a shard have the shard's record. Other files need one that names their SHA-256, or a shard of the person to be
compared with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from data_partition.consent.check import NO_RECORD
from data_partition.consent.kinds import Role, WithoutConsent
from data_partition.consent.record import CONSENT_NAME, ConsentRecord, ConsentUse, consent_file, read_consent
from data_partition.doctor.faces import MIN_SAMPLE_PX, sample_faces
from data_partition.faces.people import SAME_PERSON, Embedding
from data_partition.faces.sface import SFace, unit
from data_partition.shards.shard import FRAMES_NAME, INFO_NAME, consent_of_shard, open_shard
from data_partition.sources.video import has_pictures
from model.errors import ConfigError, DataError
from reenact.face_frame import FaceFrame


@dataclass(frozen=True, kw_only=True, slots=True)
class Permission:
    """What allows a result."""

    uses: tuple[ConsentUse, ...] = ()
    """Records of the people in it: of sources, in order, then of the driving person, each once."""
    without_consent: WithoutConsent | None = None
    """What is said of sources without a record; None if all have one."""
    likeness: Path | None = None
    """Shard whose person the source has to show; None if the record names the files."""

    def __str__(self) -> str:
        """By whose consent."""
        told = [f"{use.record.id} of {use.record.person} as {use.role}" for use in self.uses]
        if self.without_consent is not None:
            told.append(f"none on record, said to be {self.without_consent}")
        return f"consent: {', '.join(told)}"


def permission_for(
    sources: Sequence[Path],
    driving: Path | None,
    *,
    consent: Path | None,
    without_consent: WithoutConsent | None,
    digest: Callable[[Path], str],
) -> Permission:
    """What allows a result of these inputs; whom the source shows is not looked at yet (`check_face`).

    Args:
        sources: pictures, clips, folders of pictures or shards.
        driving: picture or clip; None for a camera. Its person is not drawn, so no record is needed; one that is there
            has to allow it.
        consent: record of the sources, or a shard of their person; None takes what lies with them or with a folder
            that they are in.
        without_consent: what sources are that have no record; a record that does not hold is never passed over.
        digest: SHA-256 of a file or of a folder of pictures.

    Raises:
        ConfigError: if `consent` is given for frames of a shard.
        DataError: if an input is not there, or a record is missing, cannot be read or does not allow it.
    """
    require_inputs([*sources, *([driving] if driving else [])])
    found = [(source, _records_for(source, consent)) for source in sources]
    missing = [source for source, records in found if not records]
    if missing and without_consent is None:
        raise DataError(
            f"{missing[0]}: {NO_RECORD}; `fedreenact consent` writes one to fill in, --consent names one or a shard of "
            f"the person, --without-consent {'|'.join(WithoutConsent)} is for faces that need none (docs/consent.md)"
        )
    uses = [_use(source, records, Role.SOURCE) for source, records in found if records]
    for source, records in found:
        if records and not _is_shard(records[0].place):
            _require_file(records[0], source, digest(source))
    driving_records = [] if driving is None else _own_records(driving)
    if driving is not None and driving_records:
        uses.append(_use(driving, driving_records, Role.DRIVING))
    return Permission(
        uses=tuple(dict.fromkeys(uses)),
        without_consent=without_consent if missing else None,
        likeness=consent if consent is not None and _is_shard(consent) else None,
    )


def require_inputs(paths: Iterable[Path]) -> None:
    """Refuse the first that is not there or cannot be read.

    Raises:
        DataError: naming it.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: does not exist; wanted a picture, a clip, a folder of pictures or a shard")
        if not os.access(path, os.R_OK):
            raise DataError(f"{path}: cannot be read; wanted read permission for the user who runs this")


def require_drawable(sources: Iterable[Path]) -> None:
    """Refuse the first folder in which there is nothing to draw from.

    Raises:
        DataError: naming it.
    """
    for path in sources:
        if path.is_dir() and not (_is_shard(path) or has_pictures(path)):
            raise DataError(
                f"{path}: neither pictures nor {INFO_NAME} in this folder; wanted a picture, a video, a folder of "
                "pictures or one shard"
            )


def likeness_of(shard_dir: Path) -> Embedding:
    """[128] unit embedding of the person of a shard, the mean of a few frames.

    Raises:
        DataError: if the shard cannot be used or its frames are too small.
        WeightsError: if SFace's file is missing.
    """
    SFace()  # a missing file is an error here, and only a warning to those who sample
    (seen,) = sample_faces([open_shard(shard_dir)])
    if not len(seen.identity_ND):
        raise DataError(f"{shard_dir}: frames below {MIN_SAMPLE_PX} pixels do not tell a face; prepare them larger")
    return unit(seen.identity_ND.mean(axis=0))


def check_face(faces: Sequence[FaceFrame], likeness_D: Embedding, shard_dir: Path) -> None:
    """Refuse a source that shows another person than a shard.

    Args:
        faces: all that the source is drawn from.
        likeness_D: of the shard's person, by `likeness_of`.
        shard_dir: for the message.

    Raises:
        DataError: if one of them is another person's, or too small to tell.
        WeightsError: if SFace's file is missing.
    """
    alike = _alike(_embeddings(faces), likeness_D)
    if alike < SAME_PERSON:
        raise DataError(
            f"--consent {shard_dir}: the source shows another face than this person's ({_in_words(alike)}); give the "
            "record of who is shown"
        )


def person_shown(faces: Sequence[FaceFrame], likenesses: Mapping[Path, Embedding], dataset: Path) -> Path:
    """Of a dataset's shards the one whose person the source shows.

    Args:
        faces: all that the source is drawn from.
        likenesses: shard to its person's, by `likeness_of`; one at least.
        dataset: for the message.

    Raises:
        DataError: if it is nobody of them, or too small to tell.
        WeightsError: if SFace's file is missing.
    """
    shown = _embeddings(faces)
    alike = {shard: _alike(shown, likeness_D) for shard, likeness_D in likenesses.items()}
    best = max(alike, key=alike.__getitem__)
    if alike[best] < SAME_PERSON:
        raise DataError(f"--consent {dataset}: the source shows nobody of this dataset ({_in_words(alike[best])})")
    return best


def _embeddings(faces: Sequence[FaceFrame]) -> list[Embedding]:
    network, size_px = SFace(), len(faces[0].image_HWC)
    if size_px < MIN_SAMPLE_PX:
        raise DataError(f"--consent: a model of {size_px} pixels cannot compare faces; give a record of the file")
    return [network.embed(face.image_HWC, face.landmarks_KC) for face in faces]


def _alike(shown: Sequence[Embedding], likeness_D: Embedding) -> float:
    """Least cosine of a face to a person, by which `prepare` tells people apart."""
    return min(float(face_D @ likeness_D) for face_D in shown)


def _in_words(alike: float) -> str:
    return f"likeness {alike:.2f}, wanted {SAME_PERSON:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A record of consent and where it is."""

    record: ConsentRecord
    place: Path
    """Its file, or the shard."""


def _records_for(source: Path, consent: Path | None) -> list[_Found]:
    """Records that say whether a source may be drawn; empty if there is none."""
    if consent is None:
        return _own_records(source)
    if _shard_around(source) is not None:
        raise ConfigError(f"--consent: {source} is of a shard, whose own record holds; leave --consent out")
    record = consent_of_shard(consent) if _is_shard(consent) else read_consent(consent)
    if record is None:
        raise DataError(f"--consent {consent}: {NO_RECORD} in this shard; prepare it again with one")
    return [_Found(record=record, place=consent)]


def _require_file(found: _Found, source: Path, sha256: str) -> None:
    record = found.record
    if sha256 not in record.source_sha256:
        raise DataError(
            f"{source}: consent {record.id} of {record.person} ({found.place}) does not name this source; add {sha256} "
            "to source_sha256 if the person agrees, or give --consent a dataset or shard with the person to compare "
            "faces"
        )


def _own_records(path: Path) -> list[_Found]:
    """The record of a shard, or the nearest one around a file or folder; for a link, also where it leads to."""
    found = []
    for one in dict.fromkeys((Path(os.path.abspath(path)), path.resolve())):
        shard = _shard_around(one)
        place = shard or next((place for place in _places_of_record(one) if place.is_file()), None)
        record = None if place is None else consent_of_shard(place) if shard else read_consent(place)
        if place is not None and record is not None:
            found.append(_Found(record=record, place=place))
    return found


def _places_of_record(path: Path) -> Iterator[Path]:
    """Where the record of a file or folder may be: with it, or with a folder that it is in, the nearest first.

    `prepare` takes a person's clips at any depth below the folder that has the record.
    """
    for one in (path, *path.parents[:-1]):
        yield consent_file(one)
        yield one.with_name(f"{one.name}.{CONSENT_NAME}")


def _shard_around(path: Path) -> Path | None:
    """The shard that a path is, or is the frames or one frame of."""
    folders = (path, path.parent, path.parent.parent) if FRAMES_NAME in (path.name, path.parent.name) else (path,)
    return next((folder for folder in folders if _is_shard(folder)), None)


def _is_shard(path: Path) -> bool:
    return (path / INFO_NAME).is_file()


def _use(path: Path, found: Sequence[_Found], role: Role) -> ConsentUse:
    """By the first of the records, where none is against it."""
    for one in found:
        reason = one.record.refusal(role, date.today())
        if reason:
            raise DataError(
                f"{path}: not used as {role}: {reason} ({one.place}); ask {one.record.person} for a new one, or take "
                "another"
            )
    return ConsentUse(role=role, record=found[0].record)
