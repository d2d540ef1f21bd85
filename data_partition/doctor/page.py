"""The page of `fedreenact doctor`: one HTML file that needs nothing beside it.

Pictures are drawn while the page is written, so that a page of hundreds of people takes no more memory than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.doctor.checks import Finding, Severity
from data_partition.doctor.diagnosis import Diagnosis
from data_partition.doctor.duplicates import SharedPictures, seen_test_frames
from data_partition.doctor.figures import distributions_png
from data_partition.doctor.numbers import ShardNumbers
from data_partition.pages import data_uri, templates_of
from model.batch import AU_ORDER
from model.files import whole_file

MAX_OPEN_PEOPLE = 8
"""With more people their details are folded; the table on top leads to them."""
MAX_OPEN_WARNINGS = 40
_THUMBNAIL_QUALITY = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class _Person:
    """What the template shows of one person."""

    numbers: ShardNumbers
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    facts: dict[str, str]
    """Name to value, with its unit."""


def write_page(path: Path, diagnosis: Diagnosis) -> Path:
    """Write the page whole or not at all.

    Args:
        path: of the HTML file; its folder is made if needed.
        diagnosis: of a dataset.

    Returns:
        `path`.
    """
    environment = templates_of("data_partition.doctor")
    environment.filters |= {"figure": _figure_uri, "jpeg": _jpeg_uri}
    people = [_person(diagnosis, numbers) for numbers in diagnosis.people]
    pieces = environment.get_template("doctor.html.j2").generate(
        diagnosis=diagnosis,
        people=people,
        anchors={person.numbers.shard.path: f"person-{index}" for index, person in enumerate(people)},
        errors=_of(diagnosis.findings, "error"),
        warnings=_of(diagnosis.findings, "warning"),
        max_open_people=MAX_OPEN_PEOPLE,
        max_open_warnings=MAX_OPEN_WARNINGS,
        num_action_units=len(AU_ORDER),
    )
    with whole_file(path) as file:
        file.writelines(piece.encode() for piece in pieces)
    return path


def _person(diagnosis: Diagnosis, numbers: ShardNumbers) -> _Person:
    own = [finding for finding in diagnosis.findings if finding.where == numbers.shard.path]
    return _Person(
        numbers=numbers,
        errors=_of(own, "error"),
        warnings=_of(own, "warning"),
        facts=_facts(numbers) | _duplicates(numbers, diagnosis.shared),
    )


def _of(findings: Sequence[Finding], severity: Severity) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.severity == severity)


def _facts(numbers: ShardNumbers) -> dict[str, str]:
    shard = numbers.shard
    low_C, high_C = numbers.pose_quantiles(0.02, 0.98)
    pose = {
        f"{name}, 96 % of frames": f"{low:.0f} to {high:.0f} degrees"
        for name, low, high in zip(("pitch", "yaw", "roll"), low_C, high_C, strict=True)
    }
    blurred, median, sharp = numbers.sharpness_quantiles(0.05, 0.5, 0.95)
    return {
        "training frames": f"{shard.num_frames - numbers.num_test:,}",
        "test frames": f"{numbers.num_test:,}",
        "clips": f"{numbers.num_clips:,}",
        "side of the frames": f"{shard.size_px} px",
        **pose,
        "sharpness, 5 / 50 / 95 %": f"{blurred:.2f} / {median:.2f} / {sharp:.2f}",
        "face, median": f"{100 * float(np.median(numbers.face_sizes())):.0f} % of the frame's side",
        "action units that occur": f"{int((numbers.au_share_A > 0).sum())} of {len(AU_ORDER)}",
        "frames like the one before": f"{numbers.num_still:,}",
        "frames that cannot be read": f"{numbers.num_unread:,}",
        "annotated by": f"{shard.info['annotator']} {shard.info['annotator_version']}",
        "consent": f"{shard.consent.id}, until {shard.consent.expires}" if shard.consent else "not on record",
    }


def _duplicates(numbers: ShardNumbers, shared: Sequence[SharedPictures]) -> dict[str, str]:
    seen = seen_test_frames(numbers)
    others = [
        f"{(pair.other if pair.one is numbers else pair.one).shard.identity} ({pair.num_pictures})"
        for pair in shared
        if numbers in (pair.one, pair.other)
    ]
    return {
        "test frames seen in training": f"{seen.num_frames:,}" if seen else "0",
        "pictures in common with": ", ".join(others) or "nobody",
    }


def _figure_uri(numbers: ShardNumbers) -> str:
    return data_uri(distributions_png(numbers), "image/png")


def _jpeg_uri(thumbnail_HWC: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", thumbnail_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _THUMBNAIL_QUALITY])
    return data_uri(data.tobytes(), "image/jpeg")
