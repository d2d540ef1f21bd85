"""Drawn talking heads: a dataset with exact labels that needs no camera and nobody's consent."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from data_partition.consent.record import synthetic_record
from data_partition.shards.shard import MAX_SIZE_PX
from data_partition.shards.writer import ShardWriter, require_free
from data_partition.synth.look import draw_look
from data_partition.synth.motion import FRAME_RATE_HZ, animate
from data_partition.synth.scene import Scene
from model.errors import ConfigError

ANNOTATOR = "synth"
ANNOTATOR_VERSION = "1"
CLIP_FRAMES = 200
"""Longest clip; more frames make more clips."""

_MIN_CLIP_FRAMES = 20  # a tenth for the test split must be a pair
_MAX_FRAMES, _MAX_IDENTITIES = 1_000_000, 10_000
_MIN_SIZE_PX = 32


def synthesize(
    out: Path,
    *,
    num_identities: int = 5,
    num_frames: int = 400,
    size_px: int = 128,
    seed: int = 0,
    num_workers: int | None = None,
) -> list[Path]:
    """Write one shard for each drawn person: person-01, person-02, ...

    Equal arguments give the same pictures and labels; the number of workers does not matter, nor does the
    number of identities change those that a smaller number gives.

    Args:
        out: dataset folder; shards of the same names are replaced.
        num_identities: people, 1 to 10,000.
        num_frames: frames of each, 20 to 1,000,000, in clips of at most 200.
        size_px: side of the frames, 32 to 4096.
        seed: of everybody's looks and motion, 0 to 2^63 - 1.
        num_workers: processes; None takes one a core.

    Returns:
        The shards' folders.

    Raises:
        ConfigError: if a number is out of range, or something that is no shard has a shard's name.
    """
    for name, value, least, most in (
        ("identities", num_identities, 1, _MAX_IDENTITIES),
        ("frames", num_frames, _MIN_CLIP_FRAMES, _MAX_FRAMES),
        ("size", size_px, _MIN_SIZE_PX, MAX_SIZE_PX),
        ("seed", seed, 0, 2**63 - 1),
    ):
        if not least <= value <= most:
            raise ConfigError(f"--{name}: got {value}, wanted {least} to {most}")
    for index in range(num_identities):
        require_free(out / _identity_of(index))
    draw = functools.partial(_write_identity, out, num_frames, size_px, seed)
    num_workers = min(num_workers or os.cpu_count() or 1, num_identities)
    if num_workers <= 1:
        return [draw(index) for index in range(num_identities)]
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(draw, range(num_identities)))


def _write_identity(out: Path, num_frames: int, size_px: int, seed: int, index: int) -> Path:
    """Draw one person and write the shard; deterministic given its arguments."""
    cv2.setNumThreads(1)
    scene = Scene(draw_look(index, seed), size_px)
    identity = _identity_of(index)
    sources = [{"name": "drawn by fedreenact synth", "sha256": "", "seed": seed, "person": index}]
    with ShardWriter(
        out,
        identity,
        size_px,
        ANNOTATOR,
        annotator_version=ANNOTATOR_VERSION,
        sources=sources,
        consent=synthetic_record(identity),
    ) as writer:
        for clip, clip_frames in enumerate(_clip_lengths(num_frames)):
            rng = np.random.default_rng([seed, 2, index, clip])
            _write_clip(writer, scene, f"take-{clip + 1}", clip_frames, rng)
    return out / identity


def _identity_of(index: int) -> str:
    return f"person-{index + 1:02d}"


def _write_clip(writer: ShardWriter, scene: Scene, clip: str, num_frames: int, rng: np.random.Generator) -> None:
    for frame_index, moment in enumerate(animate(num_frames, rng)):
        image_HWC, landmarks_KC = scene.frame(moment.pose, moment.expression)
        writer.add(
            image_HWC,
            clip=clip,
            frame_index=frame_index,
            timestamp_s=frame_index / FRAME_RATE_HZ,
            landmarks_KC=landmarks_KC,
            pose_C=moment.pose.angles_deg_C(),
            au_presence_A=moment.au_presence_A(),
            au_intensity_A=moment.au_intensity_A(),
            confidence=1.0,
            irises_EC=scene.irises(moment.pose, moment.expression),
        )


def _clip_lengths(num_frames: int) -> list[int]:
    """Nearly equal lengths of the fewest clips that are not longer than CLIP_FRAMES."""
    num_clips = -(-num_frames // CLIP_FRAMES)
    return [len(part) for part in np.array_split(np.arange(num_frames), num_clips)]
