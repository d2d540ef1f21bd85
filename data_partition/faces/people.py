"""Whether faces are of one person, by SFace's embeddings.

Legend: F frames with a face, T takes, D = 128.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.sface import SFace, unit
from model.errors import WeightsError

SAME_PERSON = 0.363
"""Cosine above which OpenCV's makers of the model take two faces for one person's. Of five real people 0.78 to 1 from
frame to frame's mean, at most 0.30 between two of them."""

Embedding = NDArray[np.float32]
Take = TypeVar("Take", bound=Hashable)
"""What a take is called by."""

_log = logging.getLogger(__name__)


def open_recogniser() -> SFace | None:
    """SFace, or None and a warning where its file is missing."""
    try:
        return SFace()
    except WeightsError as error:
        _log.warning("whether all frames show one person is not looked at: %s", error)
        return None


def split_by_person(take_F: NDArray[np.int64], identity_F: Sequence[Embedding | None]) -> NDArray[np.int64]:
    """Takes cut in two wherever another person takes the place of the first.

    Args:
        take_F: [F] number of the take of each frame, rising.
        identity_F: [F] unit embedding of some frames, None for the others.

    Returns:
        [F] numbers of takes, rising; -1 for frames between the last one of one person and the first of the next, of
        which it is not known whom they show.
    """
    result_F = np.empty_like(take_F)
    number = -1
    for take in np.unique(take_F):
        rows = np.flatnonzero(take_F == take)
        number += 1
        result_F[rows] = number
        for last, first in _changes(rows, identity_F):
            number += 1
            result_F[rows[rows > last]] = -1
            result_F[rows[rows >= first]] = number
    return result_F


def others_than_main(people: Mapping[Take, Embedding], num_frames: Mapping[Take, int]) -> set[Take]:
    """Takes that show another person than most frames do.

    Args:
        people: unit embedding of each take.
        num_frames: of each take.
    """
    if not people:
        return set()
    identity_TD, num_T = np.stack(list(people.values())), np.array([num_frames[take] for take in people])
    support = {take: int(num_T @ (identity_TD @ here >= SAME_PERSON)) for take, here in people.items()}
    best = max(support, key=lambda take: (support[take], num_frames[take]))
    near = [take for take, there in people.items() if float(people[best] @ there) >= SAME_PERSON]
    main = unit(sum(people[take] * num_frames[take] for take in near))
    return {take for take, there in people.items() if float(main @ there) < SAME_PERSON}


def _changes(rows: NDArray[np.int64], identity_F: Sequence[Embedding | None]) -> list[tuple[int, int]]:
    """Last row of one person and first known row of the next, within a take."""
    seen = [(int(row), who) for row in rows if (who := identity_F[row]) is not None]
    changes: list[tuple[int, int]] = []
    so_far: Embedding | None = None
    for place, (row, who) in enumerate(seen):
        if so_far is not None and not _is_like(who, so_far):
            following = seen[place + 1][1] if place + 1 < len(seen) else who
            if not _is_like(following, so_far):  # one odd frame, blurred or turned away, is no other person
                changes.append((seen[place - 1][0], row))
                so_far = None
        so_far = who if so_far is None else so_far + who
    return changes


def _is_like(who: Embedding, so_far: Embedding) -> bool:
    """Whether an embedding is like the sum of those of one person."""
    return float(who @ unit(so_far)) >= SAME_PERSON
