"""Promises of data_partition.doctor.diagnosis."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_partition.consent.kinds import Role
from data_partition.doctor.checks import Finding, check_dataset, check_person
from data_partition.doctor.diagnosis import Diagnosis, diagnose
from data_partition.doctor.numbers import measure
from data_partition.shards.images import write_image
from data_partition.shards.shard import Shard, open_shard
from data_partition.shards.writer import ShardWriter, record_consent
from model.errors import DataError
from tests.support.consents import DAY, NO_CONSENT, TODAY, consent_of
from tests.support.rights import bound_by_modes
from tests.support.shards import write_random_shard


def _texts(findings: Sequence[Finding], severity: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.severity == severity)


def _poor_shard(root: Path, identity: str = "anna", *, landmark_shift: float = 0.0, num_frames: int = 30) -> Shard:
    """The same smooth picture again and again, with one expression and one pose."""
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    angle = np.linspace(0, 2 * np.pi, 68)
    face = 32 + 14 * np.stack([np.cos(angle), np.sin(angle)], axis=-1) + landmark_shift
    with ShardWriter(root, identity, 64, "test") as writer:
        for index in range(num_frames):
            writer.add(
                ramp,
                clip="c",
                frame_index=index,
                timestamp_s=index / 25,
                landmarks_KC=face,
                pose_C=[0, 1, 0],
                au_presence_A=np.arange(18) < 2,
                au_intensity_A=np.full(18, np.nan),
                confidence=1.0,
            )
    return open_shard(root / identity)


def test_a_good_dataset_gets_one_ok_per_person(tmp_path: Path) -> None:
    write_random_shard(tmp_path, "anna", num_frames=220)
    write_random_shard(tmp_path, "ben", num_frames=220, seed=1)
    findings = diagnose(tmp_path).findings
    assert [finding.severity for finding in findings] == ["ok", "ok"]
    assert "220 frames of 32 px in 1 clip(s), 22 of them kept for testing" in findings[0].text


@pytest.mark.parametrize(
    ("num_frames", "said"),
    [
        (66, "only 59 training frames: .* which need 60 and 119 with secure-aggregation; add video"),
        (67, "only 60 training frames: .* which need 119 with secure-aggregation; add video"),
        (131, "only 118 training frames: "),
        (132, ""),
    ],
)
def test_frames_too_few_for_a_deployed_site_are_said_with_what_it_needs(
    tmp_path: Path, num_frames: int, said: str
) -> None:
    write_random_shard(tmp_path, "anna", num_frames=num_frames)
    found = re.search(r"only \d+ training frames.*", _texts(diagnose(tmp_path).findings, "warning"))
    assert (found is None) if not said else (found is not None and re.match(said, found[0]))


def test_dark_frames_are_dark_and_not_still(tmp_path: Path) -> None:
    shard = _poor_shard(tmp_path)
    for name in shard.file_name:
        write_image(shard.path / name, np.full((64, 64, 3), 6, np.uint8))
    warnings = _texts(diagnose(shard.path).findings, "warning")
    assert "most frames are very dark (median grey 6 of 255)" in warnings and "a still picture?" not in warnings
    assert "in 12 of 12 frames looked at no face is found under the landmarks" in warnings


def test_too_little_variety_is_said_in_words(tmp_path: Path) -> None:
    findings = diagnose(_poor_shard(tmp_path).path).findings
    warnings = _texts(findings, "warning")
    assert "only 30 frames" in warnings
    assert "the head hardly turns (yaw 1 to 1 degrees)" in warnings
    assert "the face hardly moves" in warnings
    assert "only 2 of 18 action units ever occur (never: AU4, AU5" in warnings
    assert "frames are blurred" in warnings
    assert "29 of 30 frames repeat the one before" in warnings
    assert not _texts(findings, "error")


def test_landmarks_outside_of_the_frame_are_reported(tmp_path: Path) -> None:
    warnings = _texts(diagnose(_poor_shard(tmp_path, landmark_shift=25).path).findings, "warning")
    assert "in 100 % of the frames landmarks lie outside of the frame" in warnings


def test_broken_pictures_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna", num_frames=20)
    for name in ("000003.jpg", "000007.jpg"):
        path = shard.path / "frames" / name
        path.write_bytes(path.read_bytes()[:200])
    errors = _texts(diagnose(tmp_path).findings, "error")
    assert errors.startswith("2 of 20 frames cannot be read") and "000003.jpg: truncated picture" in errors


def test_a_shard_that_cannot_be_opened_does_not_hide_the_others(tmp_path: Path) -> None:
    write_random_shard(tmp_path, "anna")
    write_random_shard(tmp_path, "ben")
    (tmp_path / "anna" / "metadata.parquet").unlink()
    findings = diagnose(tmp_path).findings
    assert [(finding.severity, finding.where.name) for finding in findings if finding.severity != "warning"] == [
        ("error", "anna"),
        ("ok", "ben"),
    ]


def test_a_missing_frame_is_an_error(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna")
    (shard.path / "frames" / "000000.jpg").unlink()
    assert "000000.jpg: frame file missing" in _texts(diagnose(tmp_path).findings, "error")


def test_different_sizes_and_left_overs_are_reported(tmp_path: Path) -> None:
    write_random_shard(tmp_path, "anna", size_px=32)
    write_random_shard(tmp_path, "ben", size_px=48)
    (tmp_path / "cat.parts").mkdir()
    (tmp_path / "holiday").mkdir()
    findings = diagnose(tmp_path).findings
    assert "different sizes (32, 48 px)" in _texts(findings, "warning")
    assert {finding.where.name for finding in findings[:2]} == {"cat.parts", "holiday"}
    assert "unfinished preparation" in findings[0].text


def test_one_source_under_two_names_is_reported(tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        path = write_random_shard(tmp_path, name).path / "shard.json"
        info = json.loads(path.read_text()) | {"sources": [{"name": "x.mp4", "sha256": "ab"}]}
        path.write_text(json.dumps(info))
    assert "anna and ben come from the same source file" in _texts(diagnose(tmp_path).findings, "warning")


def test_two_shards_of_one_identity_are_an_error(tmp_path: Path) -> None:
    write_random_shard(tmp_path, "anna")
    path = write_random_shard(tmp_path, "ben").path / "shard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": "anna"}))
    assert "both claim to be anna" in _texts(diagnose(tmp_path).findings, "error")


def test_what_preparation_lost_is_repeated(tmp_path: Path) -> None:
    path = write_random_shard(tmp_path, "anna").path / "shard.json"
    source = {"name": "x", "sha256": "a", "num_frames": 100, "num_kept": 40, "problems": [["x", "cut short"]]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sources": [source]}))
    warnings = _texts(diagnose(tmp_path).findings, "warning")
    assert "60 % of the frames were dropped" in warnings
    assert "x: cut short" in warnings


def test_a_shard_without_pairs_is_an_error(tmp_path: Path) -> None:
    shard = _poor_shard(tmp_path, num_frames=1)
    assert "no (source, driving) pair can be made" in _texts(diagnose(shard.path).findings, "error")


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no shard found"):
        diagnose(tmp_path)


def test_unfinished_preparations_alone_are_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "anna.partial").mkdir()
    with pytest.raises(DataError, match=r"only unfinished shards \(anna.partial\)"):
        diagnose(tmp_path)


def test_copied_pictures_are_warnings_that_name_the_files(tmp_path: Path) -> None:
    anna, ben = (write_random_shard(tmp_path, name, seed=seed) for seed, name in enumerate(("anna", "ben")))
    shutil.copyfile(anna.path / anna.file_name[3], ben.path / ben.file_name[7])
    shutil.copyfile(anna.path / anna.file_name[5], anna.path / anna.file_name[39])
    diagnosis = diagnose(tmp_path)
    warnings = _texts(diagnosis.findings, "warning")
    assert "anna and ben have at least 1 picture(s) in common" in warnings
    assert "anna/frames/000003.jpg and ben/frames/000007.jpg" in warnings
    assert "1 of 4 test frames are training frames too (first: frames/000039.jpg is frames/000005.jpg)" in warnings
    assert not diagnosis.has_errors and diagnosis.verdict == "fit for training"


@pytest.mark.integration
def test_drawn_people_get_no_false_duplicates(drawn_people: list[Shard]) -> None:
    warnings = _texts(diagnose(drawn_people[0].path.parent).findings, "warning")
    assert "in common" not in warnings and "training frames too" not in warnings


def test_shards_of_test_frames_only_are_for_evaluation_only(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna")
    held_out = measure(replace(shard, is_test_F=np.ones(40, np.bool_)), num_thumbnails=0, on_frame=lambda done: None)
    findings = check_person(held_out)
    assert [finding.severity for finding in findings] == ["ok"]
    assert "all of them kept for testing: for evaluation only" in findings[0].text
    dataset_findings = check_dataset(tmp_path, [held_out], [])
    assert "this dataset is for evaluation only" in _texts(dataset_findings, "warning")
    diagnosis = Diagnosis(dataset=tmp_path, findings=tuple(dataset_findings), people=(held_out,), shared=())
    assert diagnosis.verdict == "for evaluation only"
    training = measure(write_random_shard(tmp_path, "ben"), num_thumbnails=0, on_frame=lambda done: None)
    assert not check_dataset(tmp_path, [held_out, training], [])


def test_a_single_test_frame_cannot_be_evaluated(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna", num_frames=1)
    held_out = measure(replace(shard, is_test_F=np.ones(1, np.bool_)), num_thumbnails=0, on_frame=lambda done: None)
    assert "no clip has two test frames" in _texts(check_person(held_out), "error")


def test_a_dataset_without_test_frames_says_so_once(tmp_path: Path) -> None:
    shards = [write_random_shard(tmp_path, name, seed=seed) for seed, name in enumerate(("anna", "ben"))]
    people = [
        measure(replace(shard, is_test_F=np.zeros(40, np.bool_)), num_thumbnails=0, on_frame=lambda done: None)
        for shard in shards
    ]
    assert "results have to be measured on another dataset" in _texts(check_dataset(tmp_path, people, []), "warning")
    assert "test" not in _texts(check_person(people[0]), "warning")
    assert "none of them kept for testing" in _texts(check_person(people[0]), "ok")


def test_faces_that_every_user_can_read_are_said_in_one_line(tmp_path: Path) -> None:
    """Its own mode decides, and whether others get there: the folder above is closed at first."""
    dataset = tmp_path / "dataset"
    write_random_shard(dataset, "anna")
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own are closed
        if folder.stat().st_uid == os.getuid() and "pytest-" in str(folder):
            folder.chmod(0o711)
    words = f"every user of this machine can read these faces (mode 755); run chmod -R go-rwx {dataset}"
    for mode, above, wanted in ((0o755, 0o711, 1), (0o755, 0o700, 0), (0o700, 0o711, 0), (0o750, 0o711, 0)):
        dataset.chmod(mode)
        tmp_path.chmod(above)
        found = [one for one in diagnose(dataset).findings if "every user" in one.text]
        assert [one.text for one in found] == [words] * wanted, (mode, above)
        assert all(one.severity == "warning" for one in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (NO_CONSENT["revoked"], "consent 2026-014 was revoked on"),
        (NO_CONSENT["expired"], "consent 2026-014 expired on"),
        ({"roles": (Role.SOURCE,)}, "is for source, not for training, so training refuses this person"),
        ({"expires": TODAY + 30 * DAY}, "consent 2026-014 ends after"),
    ],
)
def test_a_consent_that_does_not_hold_or_ends_soon_is_a_warning(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    write_random_shard(tmp_path, "anna", num_frames=220, consent=consent_of("anna", **changes))
    diagnosis = diagnose(tmp_path)
    assert said in _texts(diagnosis.findings, "warning")
    if "revoked" in changes:
        wanted = 'not to be trained on: anna withdrew; docs/consent.md, "When a person withdraws", says what to do'
    else:
        wanted = "fit for training" + ("" if "ends after" in said else ", once consent is on record")
    assert diagnosis.verdict == wanted


def test_a_person_without_a_record_is_told_and_one_with_a_year_left_is_not(tmp_path: Path) -> None:
    write_random_shard(tmp_path, "anna", num_frames=220, consent=consent_of("anna"))
    record_consent(write_random_shard(tmp_path, "ben", num_frames=220, seed=1).path, None)
    warnings = [(one.where.name, one.text) for one in diagnose(tmp_path).findings if one.severity == "warning"]
    assert [name for name, _ in warnings] == ["ben"] and "no record of consent, so training refuses" in warnings[0][1]


def test_a_folder_that_may_not_be_looked_into_is_a_warning(tmp_path: Path) -> None:
    locked = tmp_path / "lost+found"
    locked.mkdir(mode=0)
    with bound_by_modes(), pytest.raises(DataError, match="no shard found"):
        diagnose(tmp_path)
    write_random_shard(tmp_path, "anna", num_frames=40)
    with bound_by_modes():
        findings = diagnose(tmp_path).findings
    assert Finding("warning", locked, "a folder without a shard; move it elsewhere") in findings
