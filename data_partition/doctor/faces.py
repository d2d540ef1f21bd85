"""Whose faces a person's frames show, and whether landmarks lie on them: a few frames looked at by YuNet and SFace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.finder import FaceFinder, open_finder
from data_partition.faces.people import SAME_PERSON, Embedding, open_recogniser
from data_partition.faces.sface import EMBEDDING_SIZE, SFace, unit
from data_partition.shards.shard import Shard
from model.errors import DataError

SAMPLE_FRAMES = 12
"""Looked at of each person."""
MIN_SAMPLE_PX = 64
"""Smaller frames are not looked at: nobody can be told from anybody in them."""
ALIKE = 0.75
"""Cosine of two people's mean embeddings above which they are said to be one. Invented people reach 0.73, five real
ones 0.23."""
MIN_OFF = 3
"""Frames without a face under the landmarks, of the sample, that make a finding."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SampledFaces:
    """What a few frames of a person show."""

    shard: Shard
    num_looked_at: int
    num_off: int
    """Frames in which no face is found where the landmarks are; 0 where YuNet is missing."""
    identity_ND: NDArray[np.float32]
    """[N, 128] unit embeddings of the sampled faces; N = 0 where SFace is missing or the frames are small."""

    @property
    def num_of_others(self) -> int:
        """Sampled frames that show another person than the middle one of them."""
        if not len(self.identity_ND):
            return 0
        alike_NN = self.identity_ND @ self.identity_ND.T >= SAME_PERSON
        return int(len(alike_NN) - alike_NN.sum(axis=1).max())


def sample_faces(shards: Sequence[Shard]) -> list[SampledFaces]:
    """Look at a few frames of each person; frames that cannot be read are passed over."""
    finder, recogniser = open_finder(), open_recogniser()
    return [_sample(shard, finder, recogniser) for shard in shards]


def same_people(people: Sequence[SampledFaces]) -> Iterator[tuple[Shard, Shard]]:
    """Pairs of shards that seem to show one person under two names."""
    named = [(person.shard, unit(person.identity_ND.mean(axis=0))) for person in people if len(person.identity_ND)]
    for place, (shard, who) in enumerate(named):
        for other, who_else in named[place + 1 :]:
            if float(who @ who_else) >= ALIKE:
                yield shard, other


def _sample(shard: Shard, finder: FaceFinder | None, recogniser: SFace | None) -> SampledFaces:
    num_rows = SAMPLE_FRAMES if shard.size_px >= MIN_SAMPLE_PX else 0
    rows = np.unique(np.linspace(0, shard.num_frames - 1, num_rows).astype(int)).tolist()
    num_off, identities = 0, list[Embedding]()
    for row in rows:
        try:
            frame_HWC = shard.read_frame(row)
        except DataError:
            continue
        landmarks_KC = shard.landmarks_FKC[row]
        num_off += finder is not None and not _has_face_at(finder, frame_HWC, landmarks_KC)
        if recogniser is not None:
            identities.append(recogniser.embed(frame_HWC, landmarks_KC))
    return SampledFaces(
        shard=shard,
        num_looked_at=len(rows),
        num_off=num_off,
        identity_ND=np.array(identities, np.float32).reshape(len(identities), EMBEDDING_SIZE),
    )


def _has_face_at(finder: FaceFinder, frame_HWC: NDArray[np.uint8], landmarks_KC: NDArray[np.float32]) -> bool:
    x, y = landmarks_KC[17:].mean(axis=0).tolist()  # without the outline
    return any(
        face.left <= x <= face.left + face.width and face.top <= y <= face.top + face.height
        for face in finder.find(frame_HWC)
    )
