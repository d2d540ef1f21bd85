"""What the agreed landmark statistics, and the landmark GAN trained from them, say about whose frame it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_partition.shards.shard import Shard
from evaluation.attacks.identification import distances_px, gan_templates, identified, model_landmarks, shape_distances
from evaluation.attacks.membership import seconds
from evaluation.attacks.separation import FloatArray, Sample, area_under_curve, resampled, resampled_mean
from evaluation.figures.tables import TextTable
from experiments.audit.section import Figure, Section
from model.checkpoint import Checkpoint
from model.designs.registry import design_of
from reenact.guidance_choice import Guidance

_AGREED, _SHAPE, _GAN = (
    "agreed mean landmarks, as they lie in the frame",
    "agreed mean landmarks, shape alone",
    "trained landmark GAN, shape alone",
)
_TEXT = (
    "Who: the server, or anybody with a checkpoint, who has a frame of one of the people and wants to know whose it "
    "is. The frame's landmarks are compared with what is held of each person: the nearest wins. Shape alone has "
    "position, size and rotation taken out (full Procrustes distance). Verification: the area under the curve of a "
    "frame's distance to its own person against its distance to the others. Held-out frames, intervals over whole "
    "seconds.",
    "One clip a person: camera and seat of that day are in it, so other recordings may be told apart less well. A "
    "recogniser of faces does better; this says that what is agreed on is a template of a face.",
)
_SECURE = (
    "Where the statistics of all people are pooled under a secure sum, the agreed rows are the same for all: ties, "
    "which count as chance. The rows of the landmark GAN are trained by their owners alone and stay a template, "
    "whatever is summed."
)


def identification_section(shards: Sequence[Shard], checkpoint: Checkpoint, size_px: int, *, seed: int) -> Section:
    """Identification and verification of held-out frames of the people that the checkpoint knows.

    The landmark GAN has the weights that are used: averaged ones if the run has them.

    Args:
        shards: people; those that the checkpoint does not know, or has no agreed statistics of, are left out.
        checkpoint: with its agreed statistics.
        size_px: image side of the model.
        seed: of the resampling.
    """
    title = "Whose frame it is, from what was agreed and trained"
    people = {name for name, has in zip(checkpoint.identities, checkpoint.has_landmarks_I, strict=True) if has}
    known = [shard for shard in shards if shard.identity in people and shard.is_test_F.any()]
    if len(known) < 2:
        reason = f"the dataset has {len(known)} people of the run with held-out frames, wanted at least two."
        return Section(title=title, text=_TEXT, not_measured=(reason,))
    figures: dict[str, Figure] = {}
    rows = []
    for source, distances in _distances(known, checkpoint, size_px).items():
        rate, area = _rates(known, distances, seed)
        figures |= {f"{source}: right person": rate, f"{source}: verification": area}
        rows.append((source, rate.to_text(1, scale=100), f"{100 * rate.chance:.1f}", area.to_text(3)))
    num_frames = sum(int(shard.is_test_F.sum()) for shard in known)
    table = TextTable(
        title=f"{num_frames} held-out frames of {len(known)} people",
        header=("known of each person", "right person, %", "chance, %", "verification, area (chance 0.5)"),
        rows=tuple(rows),
    )
    is_pooled = np.ptp(_agreed(known, checkpoint), axis=0).max() < 1e-6
    said = "The agreed rows of this run are all the same." if is_pooled else "The agreed rows of this run differ."
    return Section(title=title, text=(*_TEXT, f"{_SECURE} {said}"), tables=(table,), figures=figures)


def _distances(known: Sequence[Shard], checkpoint: Checkpoint, size_px: int) -> dict[str, list[FloatArray]]:
    """What is known to [N, I] distances for each person's held-out frames."""
    agreed_IKC = _agreed(known, checkpoint)
    networks = checkpoint.networks()
    rows = [checkpoint.identities.index(shard.identity) for shard in known]
    found: dict[str, list[FloatArray]] = {_AGREED: [], _SHAPE: []}
    if Guidance.LGAN in design_of(networks.config.network).guidances:
        found[_GAN] = []
    for shard in known:
        held_out = np.flatnonzero(shard.is_test_F)
        landmarks_NKC = model_landmarks(shard, held_out, size_px)
        found[_AGREED].append(distances_px(landmarks_NKC, agreed_IKC))
        found[_SHAPE].append(shape_distances(landmarks_NKC, agreed_IKC[None]))
        if _GAN in found:
            drawn_NIKC = gan_templates(networks, rows, shard, held_out)
            found[_GAN].append(shape_distances(landmarks_NKC, drawn_NIKC))
    return found


def _agreed(known: Sequence[Shard], checkpoint: Checkpoint) -> FloatArray:
    """[I, 68, 2] agreed mean landmarks of the people."""
    return np.stack(
        [checkpoint.landmark_mean_IKC[checkpoint.identities.index(shard.identity)] for shard in known]
    ).astype(np.float64)


def _rates(known: Sequence[Shard], distances: Sequence[FloatArray], seed: int) -> tuple[Figure, Figure]:
    """Share of frames whose person is found, and the area under the curve of verification."""
    right, own, others = [], [], []
    for person, (shard, distance_NI) in enumerate(zip(known, distances, strict=True)):
        block_N = person * 2**32 + seconds(shard, np.flatnonzero(shard.is_test_F))
        right.append((identified(distance_NI, np.full(len(block_N), person)), block_N))
        own.append((-distance_NI[:, person], block_N))
        strange_NI = np.delete(distance_NI, person, axis=1)
        others.append((-strange_NI.ravel(), np.repeat(block_N, strange_NI.shape[1])))
    area = resampled(area_under_curve, _joined(own), _joined(others), seed=seed)
    return Figure.of(resampled_mean(_joined(right), seed=seed), 1 / len(known)), Figure.of(area, 0.5)


def _joined(parts: Sequence[tuple[FloatArray, np.ndarray]]) -> Sample:
    values, blocks = zip(*parts, strict=True)
    return Sample(np.concatenate(values), np.concatenate(blocks))
