"""Which source meets which driving frame: the protocols, drawn from a seed, kept in a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_partition.batches import FrameRef
from data_partition.shards.shard import Shard
from model.errors import ConfigError, DataError
from model.files import csv_text, write_text

PAIR_COLUMNS = ("protocol", "source_identity", "source_file", "driving_identity", "driving_file")
"""What names a pair in every CSV file of an evaluation."""

Rows = NDArray[np.int64]


class Protocol(StrEnum):
    """Rule for the two frames of a pair; no model has been trained on the driving frame."""

    SELF = "self"
    """Two held-out frames of one clip."""
    SELF_ANY = "self-any"
    """One clip again, the source from its training part: another time of the recording."""
    CROSS = "cross"
    """Two people the model knows, both frames held out."""
    CROSS_UNSEEN = "cross-unseen"
    """Two people the model has never seen, any frame of both."""
    SELF_UNSEEN = "self-unseen"
    """`self` of people the model has never seen; further sources are from the rest of the clip."""

    @property
    def has_truth(self) -> bool:
        """Whether the driving frame is the picture that should come out."""
        return self in (Protocol.SELF, Protocol.SELF_ANY, Protocol.SELF_UNSEEN)

    @property
    def is_unseen(self) -> bool:
        """Whether it is about people the model has never seen."""
        return self in (Protocol.CROSS_UNSEEN, Protocol.SELF_UNSEEN)


def protocols_named(name: str) -> tuple[Protocol, ...]:
    """The protocol of that name, or for "all" every one for people the model knows.

    Raises:
        ConfigError: for any other name.
    """
    if name == "all":
        return tuple(protocol for protocol in Protocol if not protocol.is_unseen)
    if name not in list(Protocol):
        raise ConfigError(f"--protocol: got {name!r}, wanted {', '.join(Protocol)} or all")
    return (Protocol(name),)


class EvaluationPair(NamedTuple):
    """One source and one driving frame under one protocol."""

    protocol: Protocol
    source: FrameRef
    driving: FrameRef

    def cells(self) -> tuple[str, ...]:
        """The row of the CSV file: protocol, then identity and file name of both frames."""
        return (self.protocol.value, *_name(self.source), *_name(self.driving))

    def driving_second(self) -> tuple[str, str, str]:
        """Identity, clip and second of the driving frame: pairs of one second are resampled together."""
        return second_of(self.driving)


def second_of(frame: FrameRef) -> tuple[str, str, str]:
    """Identity, clip and whole second, in words, that a frame is from: frames of one second are much alike."""
    shard, row = frame
    return shard.identity, str(shard.clip[row]), str(int(shard.timestamp_s[row]))


def draw_pairs(
    protocol: Protocol, shards: Sequence[Shard], *, num_pairs: int, seed: int, is_total: bool = False
) -> list[EvaluationPair]:
    """Up to `num_pairs` different pairs for every source identity, the same for the same seed.

    Every possible driving frame is used equally often (to within one), each time with another source, both
    in random order; there are fewer pairs where the frames allow no more. The pairs of an identity do not
    depend on the order of the shards.

    Args:
        protocol: the rule.
        shards: one per identity.
        num_pairs: wanted for each source identity, >= 1.
        seed: of all draws, >= 0.
        is_total: `num_pairs` is meant for all identities together: divided evenly, the first by name get one more.

    Raises:
        DataError: if the frames of an identity allow no pair at all.
    """
    shards = sorted(shards, key=lambda shard: shard.identity)
    num_each, num_extra = divmod(num_pairs, len(shards)) if is_total else (num_pairs, 0)
    return [
        pair
        for rank, shard in enumerate(shards)
        for pair in _draw_of(shard, protocol, shards, num_each + (rank < num_extra), seed)
    ]


def _draw_of(
    shard: Shard, protocol: Protocol, shards: Sequence[Shard], num_pairs: int, seed: int
) -> list[EvaluationPair]:
    sources = _Sources(shard, protocol)
    drivers = _drivers(shard, protocol, shards)
    rows_of = [np.flatnonzero(may_drive(other, protocol)) for other in drivers]
    driver = np.repeat(np.arange(len(drivers)), [len(rows) for rows in rows_of])
    row = np.concatenate([np.empty(0, np.int64), *rows_of])
    counts = sources.counts(row)
    driver, row, counts = driver[counts > 0], row[counts > 0], counts[counts > 0]
    if not len(row):
        raise DataError(f"{shard.path}: no {protocol} pair can be formed; {_needs(protocol)}")
    rng = np.random.default_rng([seed, list(Protocol).index(protocol), *shard.identity.encode()])
    num_each, num_extra = divmod(num_pairs, len(row))
    pairs = []
    for rank, index in enumerate(rng.permutation(len(row))[:num_pairs]):
        driving = FrameRef(drivers[driver[index]], int(row[index]))
        if wanted := min(num_each + (rank < num_extra), int(counts[index])):
            chosen = rng.choice(sources.rows(driving.row), wanted, replace=False)
            pairs += [EvaluationPair(protocol, FrameRef(shard, int(source)), driving) for source in chosen]
    return pairs


def _drivers(shard: Shard, protocol: Protocol, shards: Sequence[Shard]) -> list[Shard]:
    return [shard] if protocol.has_truth else [other for other in shards if other.identity != shard.identity]


class _Sources:
    """Frames of one shard that may be the source for a driving frame."""

    def __init__(self, shard: Shard, protocol: Protocol) -> None:
        is_candidate_F = _may_be_driven(shard, protocol)
        rows = np.flatnonzero(is_candidate_F)
        if not protocol.has_truth:
            self._rows_of_clip = [rows]
            self._clip_F = None
            return
        self._clip_F = np.unique(shard.clip, return_inverse=True)[1]
        by_clip = rows[np.argsort(self._clip_F[rows], kind="stable")]
        self._rows_of_clip = np.split(
            by_clip, np.cumsum(np.bincount(self._clip_F[rows], minlength=self._clip_F.max() + 1))[:-1]
        )
        self._is_candidate_F = is_candidate_F

    def counts(self, rows: Rows) -> Rows:
        """[R] how many there are for each driving frame."""
        if self._clip_F is None:
            return np.full(len(rows), len(self._rows_of_clip[0]))
        num_of_clip = np.array([len(of_clip) for of_clip in self._rows_of_clip])
        return np.asarray(num_of_clip[self._clip_F[rows]] - self._is_candidate_F[rows], np.int64)

    def rows(self, driving_row: int) -> Rows:
        """[R] their rows for one driving frame, ascending."""
        if self._clip_F is None:
            return self._rows_of_clip[0]
        rows = self._rows_of_clip[self._clip_F[driving_row]]
        return np.asarray(rows[rows != driving_row], np.int64)


def may_drive(shard: Shard, protocol: Protocol) -> NDArray[np.bool_]:
    """[F] which frames drive under a protocol: those held out of training, or all where nothing is trained on them."""
    return shard.is_test_F | (protocol is Protocol.CROSS_UNSEEN)


def _may_be_driven(shard: Shard, protocol: Protocol) -> NDArray[np.bool_]:
    """[F] which frames are sources under a protocol."""
    return ~shard.is_test_F if protocol is Protocol.SELF_ANY else may_drive(shard, protocol)


def _needs(protocol: Protocol) -> str:
    return {
        Protocol.SELF: "wanted a clip of at least 15 frames, so that two are held out",
        Protocol.SELF_ANY: "wanted a clip of at least 6 frames, so that one is held out",
        Protocol.CROSS: "wanted two people with held-out frames",
        Protocol.CROSS_UNSEEN: "wanted two people",
        Protocol.SELF_UNSEEN: "wanted a clip with two held-out frames",
    }[protocol]


def write_pairs(path: Path, pairs: Sequence[EvaluationPair]) -> None:
    """Write the pairs as CSV, one a row, in a form `read_pairs` takes; the file appears whole."""
    write_text(path, csv_text(PAIR_COLUMNS, [pair.cells() for pair in pairs]))


def read_pairs(path: Path, shards: Sequence[Shard]) -> list[EvaluationPair]:
    """The pairs of a file, in its order.

    Args:
        path: CSV as `write_pairs` writes it.
        shards: the dataset the file names belong to.

    Raises:
        DataError: naming file and line, for a file that is not readable, a missing column, an unknown
            protocol, identity or frame, or a pair that breaks its protocol's rule.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = set(PAIR_COLUMNS) - set(reader.fieldnames or ())
            if missing:
                wanted = ", ".join(PAIR_COLUMNS)
                raise DataError(f"{path}: missing column {', '.join(sorted(missing))}; wanted {wanted}")
            frames = {_name(FrameRef(s, row)): FrameRef(s, row) for s in shards for row in range(s.num_frames)}
            pairs = [_parse(f"{path} line {reader.line_num}", row, frames) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read pairs ({error}); wanted a pairs.csv of an earlier evaluation") from error
    if not pairs:
        raise DataError(f"{path}: no pairs in it; wanted a pairs.csv of an earlier evaluation")
    return pairs


def _parse(where: str, row: Mapping[str, str], frames: Mapping[tuple[str, str], FrameRef]) -> EvaluationPair:
    if row["protocol"] not in list(Protocol):
        raise DataError(f"{where}: protocol is {row['protocol']!r}, wanted one of {', '.join(Protocol)}")
    refs = []
    for role in ("source", "driving"):
        name = (row[f"{role}_identity"], row[f"{role}_file"])
        if name not in frames:
            raise DataError(f"{where}: {role} frame {name[1]} of {name[0]} is not in the dataset")
        refs.append(frames[name])
    pair = EvaluationPair(Protocol(row["protocol"]), *refs)
    if not _keeps_its_rule(pair):
        raise DataError(f"{where}: this is no {pair.protocol} pair in this dataset; draw new pairs")
    return pair


def _keeps_its_rule(pair: EvaluationPair) -> bool:
    """Whether the pair is one that `draw_pairs` could draw."""
    (shard, source_row), (driver, row) = pair.source, pair.driving
    is_same_person = shard.identity == driver.identity
    if is_same_person != pair.protocol.has_truth or not may_drive(driver, pair.protocol)[row]:
        return False
    if not _may_be_driven(shard, pair.protocol)[source_row]:
        return False
    return not is_same_person or (source_row != row and shard.clip[source_row] == shard.clip[row])


def _name(frame: FrameRef) -> tuple[str, str]:
    return frame.shard.identity, frame.shard.file_name[frame.row]
