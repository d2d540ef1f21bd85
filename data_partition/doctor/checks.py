"""The single checks of `fedreenact doctor`: from measured numbers to findings in words.

The limits below were set by looking at real and drawn faces; they are advice, not science.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_partition.config import MIN_FRAMES_OF_BASE
from data_partition.consent.check import NO_RECORD, WHEN_WITHDRAWN
from data_partition.consent.kinds import Role
from data_partition.doctor.duplicates import SharedPictures, seen_test_frames
from data_partition.doctor.faces import MIN_OFF, SampledFaces, same_people
from data_partition.doctor.numbers import ShardNumbers
from data_partition.shards.shard import Shard
from model.batch import AU_ORDER

MIN_FRAMES = 200
"""Below this a person's frames are soon learnt by heart."""
MIN_FRAMES_TO_SPLIT = 5
"""Below this a clip is too short to keep a tenth of it for testing."""
MIN_YAW_SPAN_DEG = 3.0
MIN_SHAPE_CHANGE = 0.004
"""Mean standard deviation of the landmarks around their centre, in sides of the frame."""
MIN_FACE, MAX_FACE = 0.25, 0.85
"""Face size in sides of the frame."""
MIN_SHARPNESS = 0.05
"""Sharp faces have 0.2 to 1.1."""
MIN_BRIGHTNESS = 25
"""Median grey of 255."""
MAX_ROLL_DEG = 50.0
MAX_STILL_SHARE = 0.5
MAX_OUTSIDE_SHARE = 0.05
MIN_ACTIVE_AUS = 6
MIN_KEPT_SHARE = 0.98
SOON = datetime.timedelta(days=30)
"""Before the end of a consent, to ask for another one in time."""

Severity = Literal["error", "warning", "ok"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked and found."""

    severity: Severity
    where: Path
    """Shard or dataset folder."""
    text: str
    """What it means and what to do, one sentence or two."""


def check_dataset(
    dataset: Path,
    people: Sequence[ShardNumbers],
    shared: Sequence[SharedPictures],
    faces: Sequence[SampledFaces] = (),
) -> list[Finding]:
    """What only shows when people are put side by side.

    Args:
        dataset: its folder.
        people: one entry a shard, measured.
        shared: pictures that two of them have in common.
        faces: what a few frames of each show.
    """
    shards = [person.shard for person in people]
    if not people:
        return []
    warnings = [*_check_split(people), *_check_uniformity(shards), *_check_sources(shards), *_check_pictures(shared)]
    warnings += _check_names(faces)
    return [Finding("error", dataset, text) for text in _check_identities(shards)] + [
        Finding("warning", dataset, text) for text in warnings
    ]


def check_faces(person: SampledFaces) -> list[Finding]:
    """What a few frames tell of whose faces they show.

    Args:
        person: looked at.
    """
    texts = []
    if person.num_off >= MIN_OFF:
        texts.append(
            f"in {person.num_off} of {person.num_looked_at} frames looked at no face is found under the landmarks; "
            "look at the contact sheet"
        )
    if person.num_of_others:
        texts.append(
            f"{person.num_of_others} of {person.num_looked_at} frames looked at seem to show somebody else than the "
            "others; look at the contact sheet, and prepare one folder a person"
        )
    return [Finding("warning", person.shard.path, text) for text in texts]


def check_person(person: ShardNumbers) -> list[Finding]:
    """Errors, warnings and one summary of a person.

    Args:
        person: measured.
    """
    checks: tuple[Callable[[ShardNumbers], Iterator[str]], ...] = (
        _check_amount,
        _check_preparation,
        _check_consent,
        _check_movement,
        _check_action_units,
        _check_framing,
        _check_frames,
        _check_test_frames,
    )
    where = person.shard.path
    warnings = [text for check in checks for text in check(person)]
    return (
        [Finding("error", where, text) for text in _errors(person)]
        + [Finding("warning", where, text) for text in warnings]
        + [Finding("ok", where, _summary(person))]
    )


def _check_identities(shards: Sequence[Shard]) -> Iterator[str]:
    first: dict[str, Shard] = {}
    for shard in shards:
        one = first.setdefault(shard.identity, shard)
        if one is not shard:
            yield f"{one.path.name} and {shard.path.name} both claim to be {one.identity}; remove one"


def _check_split(people: Sequence[ShardNumbers]) -> Iterator[str]:
    if all(person.is_for_evaluation_only for person in people):
        yield "every frame is kept for testing, so this dataset is for evaluation only; train on another one"
    elif not any(person.num_test or _has_short_clips_only(person) for person in people):
        yield "no frame is kept for testing, so results have to be measured on another dataset"


def _check_uniformity(shards: Sequence[Shard]) -> Iterator[str]:
    sizes = sorted({shard.size_px for shard in shards})
    if len(sizes) > 1:
        text = f"frames have different sizes ({', '.join(map(str, sizes))} px); small ones will look soft"
        yield f"{text}; prepare all with one --size"
    annotators = sorted({f"{shard.info['annotator']} {shard.info['annotator_version']}" for shard in shards})
    if len(annotators) > 1:
        text = f"annotated by different programs ({', '.join(annotators)}), which place landmarks differently"
        yield f"{text}; prepare all with one"


def _check_sources(shards: Sequence[Shard]) -> Iterator[str]:
    first: dict[str, Shard] = {}
    told = set()
    for shard in shards:
        for digest in sorted({str(source["sha256"]) for source in shard.info["sources"] if source.get("sha256")}):
            one = first.setdefault(digest, shard)
            if one is not shard and (one.path, shard.path) not in told:
                told.add((one.path, shard.path))
                yield f"{one.identity} and {shard.identity} come from the same source file; one has a wrong name"


def _check_pictures(shared: Sequence[SharedPictures]) -> Iterator[str]:
    for one, other, num_pictures, (row, other_row) in shared:
        names = (f"{p.shard.path.name}/{p.shard.file_name[r]}" for p, r in ((one, row), (other, other_row)))
        text = f"{one.shard.identity} and {other.shard.identity} have at least {num_pictures} picture(s) in common"
        yield f"{text} (first: {' and '.join(names)}); one has a wrong name, remove its copies"


def _check_names(faces: Sequence[SampledFaces]) -> Iterator[str]:
    for one, other in same_people(faces):
        yield f"{one.identity} and {other.identity} seem to be one person under two names; remove or rename one"


def _errors(person: ShardNumbers) -> Iterator[str]:
    if person.num_unread:
        yield f"{person.num_unread} of {person.shard.num_frames} frames cannot be read; first: {person.problem}"
    side, is_used_F = "training", ~person.shard.is_test_F
    if person.is_for_evaluation_only:
        side, is_used_F = "test", person.shard.is_test_F
    _, counts = np.unique(person.shard.clip[is_used_F], return_counts=True)
    if not (counts >= 2).any():
        yield f"no clip has two {side} frames, so no (source, driving) pair can be made; add video"


def _summary(person: ShardNumbers) -> str:
    shard = person.shard
    low, high = person.pose_quantiles(0.02, 0.98)
    names = ("pitch", "yaw", "roll")
    pose = ", ".join(f"{n} {a:.0f} to {b:.0f}" for n, a, b in zip(names, low, high, strict=True))
    frames = f"{shard.num_frames} frames of {shard.size_px} px in {person.num_clips} clip(s)"
    kept = "all of them kept for testing: for evaluation only"
    if not person.is_for_evaluation_only:
        kept = f"{person.num_test or 'none'} of them kept for testing"
    num_active = int((person.au_share_A > 0).sum())
    blurred, median = person.sharpness_quantiles(0.05, 0.5)
    return (
        f"{frames}, {kept}; head pose in degrees: {pose}; {num_active} of {len(AU_ORDER)} action units; "
        f"sharpness {median:.2f}, 5 % of the frames below {blurred:.2f}"
    )


def _check_amount(person: ShardNumbers) -> Iterator[str]:
    shard = person.shard
    if shard.num_frames < MIN_FRAMES and not person.is_for_evaluation_only:
        yield f"only {shard.num_frames} frames; add video until there are at least {MIN_FRAMES}"
        yield from _check_base(shard.num_frames - person.num_test)
    if not person.num_test and _has_short_clips_only(person):
        yield (
            f"no test frames, because every clip is shorter than {MIN_FRAMES_TO_SPLIT} frames; "
            "results cannot be measured"
        )


def _check_base(num_train: int) -> Iterator[str]:
    """Whether a deployed site that has these training frames alone may send the sums for a base."""
    needs = ((MIN_FRAMES_OF_BASE, ""), (2 * MIN_FRAMES_OF_BASE - 1, " with secure-aggregation"))
    unmet = [f"{number}{words}" for number, words in needs if num_train < number]
    if unmet:
        yield (
            f"only {num_train} training frames: a deployed site that has no others takes no part in runs with "
            f"lgan-base = closed (tiny, small, studio), which need {' and '.join(unmet)}; add video"
        )


def _has_short_clips_only(person: ShardNumbers) -> bool:
    _, lengths = np.unique(person.shard.clip, return_counts=True)
    return bool(lengths.max() < MIN_FRAMES_TO_SPLIT)


def _check_preparation(person: ShardNumbers) -> Iterator[str]:
    sources = person.shard.info["sources"]
    yield from (": ".join(problem[:2]) for source in sources for problem in source.get("problems", []))
    num_frames = sum(source.get("num_frames", 0) for source in sources)
    num_kept = sum(source.get("num_kept", 0) for source in sources)
    if num_frames and num_kept / num_frames < MIN_KEPT_SHARE:
        share = 100 * (1 - num_kept / num_frames)
        yield f"{share:.0f} % of the frames were dropped (no face, or takes too short); see the videos"


def _check_consent(person: ShardNumbers) -> Iterator[str]:
    record, today = person.shard.consent, datetime.date.today()
    if record is None:
        if not person.is_for_evaluation_only:
            yield (
                f"{NO_RECORD}, so training refuses this person; `fedreenact consent` writes one to fill in, and "
                "`prepare` takes it in"
            )
    elif record.revoked is not None:
        yield f"consent {record.id} was revoked on {record.revoked}, so training refuses this person; {WHEN_WITHDRAWN}"
    elif reason := record.refusal(Role.TRAINING, today):
        yield f"{reason}, so training refuses this person"
    elif record.expires - today <= SOON:
        yield f"consent {record.id} ends after {record.expires}; ask the person again, or take the person out then"


def _check_movement(person: ShardNumbers) -> Iterator[str]:
    (_, low, _), (_, high, _) = person.pose_quantiles(0.05, 0.95)
    if high - low < MIN_YAW_SPAN_DEG:
        yield f"the head hardly turns (yaw {low:.0f} to {high:.0f} degrees); add clips with turns"
    landmarks_FKC = person.shard.landmarks_FKC
    shape_FKC = landmarks_FKC - landmarks_FKC.mean(axis=1, keepdims=True)
    if shape_FKC.std(axis=0).mean() / person.shard.size_px < MIN_SHAPE_CHANGE:
        yield "the face hardly moves; add clips with speech and expressions"


def _check_action_units(person: ShardNumbers) -> Iterator[str]:
    is_active_A = person.au_share_A > 0
    if is_active_A.sum() < MIN_ACTIVE_AUS:
        silent = ", ".join(f"AU{au}" for au, is_active in zip(AU_ORDER, is_active_A, strict=True) if not is_active)
        yield f"only {int(is_active_A.sum())} of {len(AU_ORDER)} action units ever occur (never: {silent})"


def _check_framing(person: ShardNumbers) -> Iterator[str]:
    shard = person.shard
    low_FC, high_FC = shard.landmarks_FKC.min(axis=1), shard.landmarks_FKC.max(axis=1)
    is_outside_F = (low_FC < -0.5).any(axis=1) | (high_FC > shard.size_px - 0.5).any(axis=1)
    if is_outside_F.mean() > MAX_OUTSIDE_SHARE:
        share = 100 * is_outside_F.mean()
        yield f"in {share:.0f} % of the frames landmarks lie outside of the frame; the face is cut off"
    roll = float(np.median(shard.pose_FC[:, 2]))
    if abs(roll) > MAX_ROLL_DEG:
        yield f"the head lies on its side or upside down (roll {roll:.0f} degrees); turn the video and prepare again"
    face = float(np.median(person.face_sizes()))
    if not MIN_FACE <= face <= MAX_FACE:
        words = "small" if face < MIN_FACE else "large"
        yield f"the face is {words}: {100 * face:.0f} % of the frame's side; about 50 % is usual"


def _check_frames(person: ShardNumbers) -> Iterator[str]:
    num_frames = person.shard.num_frames
    if person.sharpness_quantiles(0.5)[0] < MIN_SHARPNESS:
        yield "most frames are blurred; use sharper video or a smaller --size"
    is_dark = person.brightness < MIN_BRIGHTNESS
    if is_dark:
        yield f"most frames are very dark (median grey {person.brightness:.0f} of 255); film with more light"
    if not is_dark and person.num_still > MAX_STILL_SHARE * num_frames:
        yield f"{person.num_still} of {num_frames} frames repeat the one before: a still picture?"


def _check_test_frames(person: ShardNumbers) -> Iterator[str]:
    seen = seen_test_frames(person)
    if seen is not None:
        names = [person.shard.file_name[row] for row in (seen.test_row, seen.train_row)]
        yield (
            f"{seen.num_frames} of {person.num_test} test frames are training frames too (first: {names[0]} is "
            f"{names[1]}), so results look too good; remove the repeated video"
        )
