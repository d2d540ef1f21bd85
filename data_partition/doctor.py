"""What is wrong with a dataset, in words a site's engineer understands: `fedreenact doctor`.

An error keeps the dataset from being used; a warning tells why a model trained on it may disappoint.
The limits below were set by looking at real and drawn faces; they are advice, not science.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.shard import INFO_NAME, UNFINISHED_SUFFIXES, Shard, open_shard, shard_folders
from model.batch import AU_ORDER
from model.errors import DataError

MIN_FRAMES = 200
"""Below this a person's frames are soon learnt by heart."""
MIN_YAW_SPAN_DEG = 3.0
MIN_SHAPE_CHANGE = 0.004
"""Mean standard deviation of the landmarks around their centre, in sides of the frame."""
MIN_FACE, MAX_FACE = 0.25, 0.85
"""Face size in sides of the frame."""
SHARP_SIDE_PX = 128
MIN_SHARPNESS = 0.05
"""Laplacian variance over grey variance in the face at 128 px; sharp faces have 0.2 to 1.1."""
MAX_STILL_SHARE = 0.5
STILL_CHANGE = 0.2
"""Mean grey difference of neighbouring frames, of 255, below which they show the same picture."""
MAX_OUTSIDE_SHARE = 0.05
MIN_ACTIVE_AUS = 6
MIN_KEPT_SHARE = 0.98

Severity = Literal["error", "warning", "ok"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked and found."""

    severity: Severity
    where: Path
    """Shard or dataset folder."""
    text: str
    """What it means and what to do, one sentence or two."""


def diagnose(dataset: Path) -> list[Finding]:
    """Check every shard of a dataset; reads every frame once.

    Args:
        dataset: dataset folder, or one shard.

    Returns:
        Findings of the whole dataset, then of each shard; a shard always has at least one.

    Raises:
        DataError: if there is no shard at all.
    """
    folders = [dataset] if (dataset / INFO_NAME).is_file() else shard_folders(dataset)
    findings = _left_overs(dataset, folders)
    if not folders and not findings:
        raise DataError(f"{dataset}: no shard found; run `fedreenact prepare` or `fedreenact synth` first")
    shards = []
    for folder in folders:
        try:
            shards.append(open_shard(folder))
        except DataError as error:
            findings.append(Finding("error", folder, str(error)))
    findings += _compared(dataset, shards)
    for shard in shards:
        findings += _examined(shard)
    return findings


def _left_overs(dataset: Path, folders: Sequence[Path]) -> list[Finding]:
    findings = []
    for entry in sorted(set(dataset.iterdir()) - set(folders)) if dataset not in folders else []:
        if entry.suffix in UNFINISHED_SUFFIXES:
            findings.append(
                Finding("warning", entry, "an unfinished preparation; run `fedreenact prepare` again to finish it")
            )
        elif entry.is_dir() and not entry.name.startswith("."):
            findings.append(Finding("warning", entry, "a folder without a shard; move it elsewhere"))
    return findings


def _compared(dataset: Path, shards: Sequence[Shard]) -> list[Finding]:
    """What only shows when shards are put side by side."""
    findings = []
    sizes = sorted({shard.size_px for shard in shards})
    if len(sizes) > 1:
        text = f"frames have different sizes ({', '.join(map(str, sizes))} px); small ones will look soft"
        findings.append(Finding("warning", dataset, f"{text}; prepare all with one --size"))
    annotators = sorted({f"{shard.info['annotator']} {shard.info['annotator_version']}" for shard in shards})
    if len(annotators) > 1:
        text = f"annotated by different programs ({', '.join(annotators)}), which place landmarks differently"
        findings.append(Finding("warning", dataset, f"{text}; prepare all with one"))
    for one, other in combinations(shards, 2):
        if one.identity == other.identity:
            text = f"{one.path.name} and {other.path.name} both claim to be {one.identity}; remove one"
            findings.append(Finding("error", dataset, text))
        if _hashes(one) & _hashes(other):
            text = f"{one.identity} and {other.identity} come from the same source file; one has a wrong name"
            findings.append(Finding("warning", dataset, text))
    return findings


def _hashes(shard: Shard) -> set[str]:
    return {str(source["sha256"]) for source in shard.info["sources"] if source.get("sha256")}


def _examined(shard: Shard) -> list[Finding]:
    checks: tuple[Callable[[Shard], list[str]], ...] = (
        _check_amount,
        _check_preparation,
        _check_movement,
        _check_action_units,
        _check_framing,
    )
    errors, picture_warnings = _look_at_frames(shard)
    if not _has_pairs(shard):
        errors.append("no clip has two training frames, so no (source, driving) pair can be made; add video")
    warnings = [text for check in checks for text in check(shard)] + picture_warnings
    return (
        [Finding("error", shard.path, text) for text in errors]
        + [Finding("warning", shard.path, text) for text in warnings]
        + [Finding("ok", shard.path, _summary(shard))]
    )


def _summary(shard: Shard) -> str:
    low, high = np.quantile(shard.pose_FC, (0.02, 0.98), axis=0)
    names = ("pitch", "yaw", "roll")
    pose = ", ".join(f"{n} {a:.0f} to {b:.0f}" for n, a, b in zip(names, low, high, strict=True))
    return (
        f"{shard.num_frames} frames of {shard.size_px} px in {len(np.unique(shard.clip))} clip(s), "
        f"{int(shard.is_test_F.sum())} of them kept for testing; head pose in degrees: {pose}"
    )


def _has_pairs(shard: Shard) -> bool:
    _, counts = np.unique(shard.clip[~shard.is_test_F], return_counts=True)
    return bool((counts >= 2).any())


def _check_amount(shard: Shard) -> list[str]:
    texts = []
    if shard.num_frames < MIN_FRAMES:
        texts.append(f"only {shard.num_frames} frames; add video until there are at least {MIN_FRAMES}")
    if not shard.is_test_F.any():
        texts.append("no test frames, because every clip is shorter than 5 frames; results cannot be measured")
    return texts


def _check_preparation(shard: Shard) -> list[str]:
    sources = shard.info["sources"]
    texts = [str(problem) for source in sources for problem in source.get("problems", [])]
    num_frames = sum(source.get("num_frames", 0) for source in sources)
    num_kept = sum(source.get("num_kept", 0) for source in sources)
    if num_frames and num_kept / num_frames < MIN_KEPT_SHARE:
        share = 100 * (1 - num_kept / num_frames)
        texts.append(f"{share:.0f} % of the frames were dropped (no face, or takes too short); see the videos")
    if sources and not shard.info["consent"]:
        texts.append("no consent on record; prepare with --consent and name where it is kept")
    return texts


def _check_movement(shard: Shard) -> list[str]:
    texts = []
    low, high = np.quantile(shard.pose_FC[:, 1], (0.05, 0.95))
    if high - low < MIN_YAW_SPAN_DEG:
        texts.append(f"the head hardly turns (yaw {low:.0f} to {high:.0f} degrees); add clips with turns")
    shape = shard.landmarks_FKC - shard.landmarks_FKC.mean(axis=1, keepdims=True)
    if shape.std(axis=0).mean() / shard.size_px < MIN_SHAPE_CHANGE:
        texts.append("the face hardly moves; add clips with speech and expressions")
    return texts


def _check_action_units(shard: Shard) -> list[str]:
    active = np.asarray(shard.au_presence_FA.any(axis=0))
    if active.sum() >= MIN_ACTIVE_AUS:
        return []
    silent = ", ".join(f"AU{au}" for au, is_active in zip(AU_ORDER, active, strict=True) if not is_active)
    return [f"only {int(active.sum())} of {len(AU_ORDER)} action units ever occur (never: {silent})"]


def _check_framing(shard: Shard) -> list[str]:
    texts = []
    low_FC, high_FC = shard.landmarks_FKC.min(axis=1), shard.landmarks_FKC.max(axis=1)
    is_outside = (low_FC < -0.5).any(axis=1) | (high_FC > shard.size_px - 0.5).any(axis=1)
    if is_outside.mean() > MAX_OUTSIDE_SHARE:
        share = 100 * is_outside.mean()
        texts.append(f"in {share:.0f} % of the frames landmarks lie outside of the frame; the face is cut off")
    face = float(np.median((high_FC - low_FC).max(axis=1))) / shard.size_px
    if not MIN_FACE <= face <= MAX_FACE:
        words = "small" if face < MIN_FACE else "large"
        texts.append(f"the face is {words}: {100 * face:.0f} % of the frame's side; about 50 % is usual")
    return texts


def _look_at_frames(shard: Shard) -> tuple[list[str], list[str]]:
    """Errors (broken frames) and warnings (blur, stills) from reading every frame once."""
    broken: list[str] = []
    sharpness: list[float] = []
    num_still = 0
    previous: NDArray[np.uint8] | None = None
    for row in range(shard.num_frames):
        try:
            frame = shard.read_frame(row)
        except DataError as error:
            broken.append(str(error))
            continue
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)
        sharpness.append(_sharpness(grey, shard.landmarks_FKC[row]))
        if previous is not None and cv2.absdiff(grey, previous).mean() < STILL_CHANGE:
            num_still += 1
        previous = grey
    errors = [f"{len(broken)} of {shard.num_frames} frames cannot be read; first: {broken[0]}"] if broken else []
    warnings = []
    if sharpness and np.median(sharpness) < MIN_SHARPNESS:
        warnings.append("most frames are blurred; use sharper video or a smaller --size")
    if num_still > MAX_STILL_SHARE * shard.num_frames:
        warnings.append(f"{num_still} of {shard.num_frames} frames repeat the one before: a still picture?")
    return errors, warnings


def _sharpness(grey_HW: NDArray[np.uint8], landmarks_KC: NDArray[np.float32]) -> float:
    """Laplacian variance over grey variance within the face, at most at 128 px."""
    side = grey_HW.shape[0]
    scale = min(1.0, SHARP_SIDE_PX / side)
    if scale < 1:
        grey_HW = np.asarray(
            cv2.resize(grey_HW, (SHARP_SIDE_PX, SHARP_SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8
        )
    last = grey_HW.shape[0] - 1
    x0, y0 = np.clip(landmarks_KC.min(axis=0) * scale, 0, last - 1).astype(int)
    x1, y1 = np.clip(landmarks_KC.max(axis=0) * scale, 1, last).astype(int)
    face = (slice(y0, y1 + 1), slice(x0, x1 + 1))
    contrast = max(float(grey_HW[face].var()), 1.0)
    return float(np.asarray(cv2.Laplacian(grey_HW, cv2.CV_32F))[face].var()) / contrast
