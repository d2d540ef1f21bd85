"""The same picture in two places where it should not be: found by sorting, never by comparing all frames with all.

Two joins are made. Exact: the digests of the grey pictures are equal. Alike: the 64-bit difference hashes are equal and
the 8 x 8 grey pictures differ by at most `MAX_TINY_CHANGE`. On crops of real faces that were encoded or scaled again
the second finds 5 to 7 of 10 pictures, as a bit of the hash may flip: enough to find a video under two names, but no
proof that a single picture has no copy. Mirrored, cropped and recoloured pictures are not found.

Between people both joins are used: no two of the people it was tried on came nearer than 7 bits and 20 grey values.
Within a person the second would cry wolf, because somebody who sits still in front of a camera is alike for seconds, on
both sides of the border between training and test frames; so there the pictures have to be exact copies. Even these are
normal where a video shows a picture twice in a row (25 Hz material in a 50 Hz file): a test frame is not counted for
training frames that it is joined to by equal frames of its clip without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_partition.doctor.numbers import ShardNumbers

MAX_TINY_CHANGE = 2.0
"""Mean absolute difference of two 8 x 8 grey pictures, of 255."""

IntArray = NDArray[np.int64]


class SharedPictures(NamedTuple):
    """Pictures that two people have in common."""

    one: ShardNumbers
    other: ShardNumbers
    num_pictures: int
    """Different pictures; those with equal hashes count once."""
    rows: tuple[int, int]
    """A row of each that show the same picture; an exact copy if there is one."""


class SeenTestFrames(NamedTuple):
    """Test frames of one person that are training frames as well."""

    num_frames: int
    test_row: int
    """The first of them."""
    train_row: int
    """A training frame with the same picture."""


def shared_pictures(people: Sequence[ShardNumbers]) -> list[SharedPictures]:
    """Pairs of people with a picture in common, in the order of `people`.

    A picture that more than two people have links each to the next one only.

    Args:
        people: one entry a person, at least one, measured.
    """
    rows = [np.flatnonzero(person.is_read_F) for person in people]
    person_N = np.repeat(np.arange(len(people)), [len(part) for part in rows])
    row_N = np.concatenate(rows)
    digest_N, hash_N, tiny_N = (
        np.concatenate([getattr(person, name)[person.is_read_F] for person in people])
        for name in ("digest_F", "hash_F", "tiny_FHW")
    )
    found: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}
    for one_M, other_M in (_meetings(digest_N, person_N), _meetings(hash_N, person_N)):
        change_M = np.abs(tiny_N[one_M].astype(np.int16) - tiny_N[other_M]).mean(axis=(1, 2))
        is_alike_M = change_M <= MAX_TINY_CHANGE
        for one, other in zip(one_M[is_alike_M], other_M[is_alike_M], strict=True):
            pictures = found.setdefault((int(person_N[one]), int(person_N[other])), {})
            pictures.setdefault(int(hash_N[one]), (int(row_N[one]), int(row_N[other])))
    return [
        SharedPictures(people[one], people[other], len(pictures), next(iter(pictures.values())))
        for (one, other), pictures in sorted(found.items())
    ]


def seen_test_frames(person: ShardNumbers) -> SeenTestFrames | None:
    """Test frames whose exact picture is a training frame too; None if there are none.

    Args:
        person: measured.
    """
    run_F = _runs(person)
    is_test_F = person.shard.is_test_F
    training: dict[int, dict[int, int]] = {}  # digest to run to its first row
    for row in np.flatnonzero(~is_test_F & person.is_read_F):
        training.setdefault(int(person.digest_F[row]), {}).setdefault(int(run_F[row]), int(row))
    seen = []
    for row in np.flatnonzero(is_test_F & person.is_read_F):
        twins = training.get(int(person.digest_F[row]), {})
        elsewhere = [twin for run, twin in twins.items() if run != run_F[row]]
        if elsewhere:
            seen.append((int(row), elsewhere[0]))
    return SeenTestFrames(len(seen), *seen[0]) if seen else None


def _meetings(key_N: NDArray[np.uint64], person_N: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of frames with equal keys of different people, each key's people in a chain; by one sort."""
    order_N = np.lexsort((person_N, key_N))
    one_N, other_N = order_N[:-1], order_N[1:]
    is_meeting_N = (key_N[one_N] == key_N[other_N]) & (person_N[one_N] != person_N[other_N])
    return one_N[is_meeting_N], other_N[is_meeting_N]


def _runs(person: ShardNumbers) -> IntArray:
    """[F] number of the run of equal, neighbouring frames of one clip that each frame belongs to."""
    shard = person.shard
    _, clip_F = np.unique(shard.clip, return_inverse=True)
    order_F = np.lexsort((shard.frame_index, clip_F))
    clip_F, digest_F = clip_F[order_F], person.digest_F[order_F]  # in time from here on
    is_new_F = np.append(True, (clip_F[1:] != clip_F[:-1]) | (digest_F[1:] != digest_F[:-1]))
    run_F = np.empty(shard.num_frames, np.int64)
    run_F[order_F] = np.cumsum(is_new_F)
    return run_F
