"""Promises of data_partition.preparation.prepare, kept on drawn people with the real annotator."""

import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_partition.consent.kinds import Role
from data_partition.consent.withdrawal import remove_person
from data_partition.faces.annotate import MESH_TO_68
from data_partition.faces.track import face_of_picture
from data_partition.preparation import prepare as preparation
from data_partition.preparation.clip import ClipJob, ClipSummary, prepare_clip
from data_partition.preparation.clip_pool import PREPARING
from data_partition.preparation.prepare import COMPARING, PrepareReport, prepare
from data_partition.shards.images import read_image, write_image
from data_partition.shards.lock import sole_writer
from data_partition.shards.shard import Shard, open_dataset, shard_folders
from data_partition.sources.pictures import read_picture
from model.errors import ConfigError, DataError
from model.landmarks.irises import gaze_EC
from tests.data_partition.conftest import write_video
from tests.data_partition.preparation.test_clip import SquareAnnotator
from tests.support.consents import TODAY, consent_of, write_consent
from tests.support.rights import bound_by_modes


@dataclass
class Prepared:
    """A source folder and what was made of it."""

    src: Path
    out: Path
    report: PrepareReport
    progress: list[tuple[str, int, int]]


def _write_frames(folder: Path, shard: Shard, rows: range) -> None:
    folder.mkdir(parents=True)
    for row in rows:
        write_image(folder / f"{row:03d}.jpg", shard.read_frame(row))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, face_landmarker: Path, drawn_people: list[Shard]) -> Prepared:
    """Anna as one video; Ben as two folders of frames, one picture of them truncated; and a left-over."""
    src = tmp_path_factory.mktemp("src")
    anna, ben = drawn_people
    write_video(src / "anna.mp4", [anna.read_frame(row) for row in range(10)])
    _write_frames(src / "ben" / "first", ben, range(8))
    _write_frames(src / "ben" / "second", ben, range(8, 16))
    broken = src / "ben" / "second" / "010.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    (src / "notes.txt").write_text("hello")
    out = tmp_path_factory.mktemp("out")
    (out / "anna.partial" / "frames").mkdir(parents=True)  # a run was killed while it wrote anna
    progress: list[tuple[str, int, int]] = []
    report = prepare(
        src,
        out,
        size_px=96,
        num_workers=2,
        progress=lambda *step: progress.append(step),
    )
    return Prepared(src, out, report, progress)


@pytest.mark.integration
def test_each_person_becomes_one_shard(prepared: Prepared) -> None:
    anna, ben = open_dataset(prepared.out)
    assert (anna.identity, ben.identity) == ("anna", "ben")
    assert anna.size_px == 96 and anna.consent is None
    assert set(anna.clip) == {"anna.mp4"} and set(ben.clip) == {"first", "second"}
    assert anna.num_frames >= 9 and ben.num_frames >= 14
    assert all(shard.read_frame(row).shape == (96, 96, 3) for shard in (anna, ben) for row in range(9))


@pytest.mark.integration
def test_kept_frames_and_problems_are_reported(prepared: Prepared) -> None:
    (dataset,) = prepared.report.datasets
    anna, ben = dataset.identities
    assert (anna.num_frames, ben.num_frames) == (10, 15)
    assert ben.num_kept == open_dataset(prepared.out)[1].num_frames
    text = "\n".join(prepared.report.to_lines())
    assert "layout: videos (videos of people)" in text and "anna: kept" in text and "left out: " in text


@pytest.mark.integration
def test_what_was_left_out_is_in_a_file_with_path_and_reason(prepared: Prepared) -> None:
    with (prepared.out / "rejected.csv").open(newline="") as file:
        rows = {(row["identity"], Path(row["path"]).name): row["reason"] for row in csv.DictReader(file)}
    assert rows.keys() == {("ben", "010.jpg"), ("", "notes.txt")}
    assert rows["ben", "010.jpg"].startswith("truncated picture")
    assert rows["", "notes.txt"] == "ignored, neither a video nor a folder"


@pytest.mark.integration
def test_landmarks_lie_inside_of_the_crops(prepared: Prepared) -> None:
    for shard in open_dataset(prepared.out):
        assert np.mean((shard.landmarks_FKC > -1) & (shard.landmarks_FKC < 96)) > 0.99


@pytest.mark.integration
def test_irises_lie_between_the_corners_of_their_eyes_in_the_crops(prepared: Prepared) -> None:
    for shard in open_dataset(prepared.out):
        assert shard.irises_FEC is not None
        faces = zip(shard.landmarks_FKC, shard.irises_FEC, strict=True)
        gaze_FEC = np.stack([gaze_EC(landmarks_KC, irises_EC) for landmarks_KC, irises_EC in faces])
        assert np.abs(gaze_FEC[..., 0]).max() < 0.5 and np.abs(gaze_FEC[..., 1]).max() < 0.3


@pytest.mark.integration
def test_progress_rises_to_the_end(prepared: Prepared) -> None:
    assert [step for step in prepared.progress if step[0] == COMPARING] == [(COMPARING, n, 3) for n in (1, 2, 3)]
    frames = [step for step in prepared.progress if step[0] == PREPARING]
    done = [step[1] for step in frames]
    assert done == sorted(done) and done[-1] >= 2 * (10 + 15)
    assert all(step[1] <= step[2] for step in frames)


@pytest.mark.integration
def test_the_contact_sheet_shows_every_person(prepared: Prepared) -> None:
    sheet = read_image(prepared.report.datasets[0].contact_sheet)
    assert sheet.shape[0] == 2 * (96 + 22)


@pytest.mark.integration
def test_nothing_unfinished_is_left_behind(prepared: Prepared) -> None:
    assert sorted(path.name for path in prepared.out.iterdir()) == [
        "anna",
        "ben",
        "contact-sheet.jpg",
        "rejected.csv",
    ]


@pytest.mark.integration
def test_a_second_run_keeps_finished_shards(prepared: Prepared) -> None:
    before = (prepared.out / "anna" / "metadata.parquet").stat().st_mtime_ns
    report = prepare(prepared.src, prepared.out, size_px=96)
    assert [one.was_done for one in report.datasets[0].identities] == [True, True]
    assert (prepared.out / "anna" / "metadata.parquet").stat().st_mtime_ns == before
    assert "done before" in report.to_lines()[1]


@pytest.mark.integration
def test_a_record_is_taken_in_changed_and_taken_out_without_a_frame_being_prepared_again(
    prepared: Prepared, tmp_path: Path
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(prepared.src, src)
    shutil.copytree(prepared.out, out)
    assert prepared.report.not_to_train == ("anna, ben: no record of consent",)
    first, second = consent_of("anna"), consent_of("anna", version=2, revoked=TODAY)
    ben = consent_of("ben", roles=(Role.SOURCE,))
    write_consent(src / "ben" / "consent.toml", ben)
    file = src / "anna.consent.toml"
    for record in (first, second, None):
        write_consent(file, record) if record else file.unlink()
        report = prepare(src, out, size_px=96)
        assert [one.was_done for one in report.datasets[0].identities] == [True, True]
        assert [shard.consent for shard in open_dataset(out)] == [record, ben]
        assert not any("consent" in one.path for _, one in report.rejected)
        assert "ben: consent 2026-014 is for source, not for training" in report.not_to_train
    assert "not to be trained on: anna: no record of consent" in report.to_lines()


@pytest.mark.integration
def test_a_record_is_in_a_shard_that_is_made_anew(prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(prepared.src / "ben" / "first", tmp_path / "src" / "ben")
    write_consent(tmp_path / "src" / "ben" / "consent.toml", consent_of("ben"))
    prepare(tmp_path / "src", tmp_path / "out", size_px=96, num_workers=1)
    assert [shard.consent for shard in open_dataset(tmp_path / "out")] == [consent_of("ben")]


@pytest.mark.integration
def test_nobody_who_withdrew_comes_into_a_dataset_and_who_is_there_stays_until_taken_out(
    prepared: Prepared, tmp_path: Path
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(prepared.src, src)
    shutil.copytree(prepared.out, out)
    write_consent(src / "anna.consent.toml", consent_of("anna", revoked=TODAY))
    assert prepare(src, out, size_px=96).not_to_train[0].startswith("anna: consent 2026-014 was revoked")
    assert remove_person(out, "anna") == str(prepared.src.resolve())
    report = prepare(src, out, size_px=96)
    assert [str(one) for who, one in report.rejected if who == "anna"] == [
        f"{src / 'anna.consent.toml'}: consent 2026-014 was revoked on {TODAY}; remove the person's videos"
    ]
    assert [shard.identity for shard in open_dataset(out)] == ["ben"]


@pytest.mark.integration
@pytest.mark.parametrize("change", ["size", "mesh", "annotator", "video"])
def test_of_somebody_who_withdrew_no_frame_is_prepared_anew_whatever_changes(
    prepared: Prepared, tmp_path: Path, change: str
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(prepared.src, src)
    shutil.copytree(prepared.out, out)
    shutil.copytree(out / "anna", out / "ben.parts" / "first")  # of a run that was killed before
    if change == "annotator":
        info = json.loads((out / "ben" / "shard.json").read_text())
        (out / "ben" / "shard.json").write_text(json.dumps(info | {"annotator_version": "0"}))
    elif change == "video":
        shutil.copytree(src / "ben" / "first", src / "ben" / "third")
    write_consent(src / "ben" / "consent.toml", record := consent_of("ben", revoked=TODAY))
    before = _read_tree(out / "ben")
    report = prepare(src, out, size_px=64 if change == "size" else 96, num_workers=1, with_mesh=change == "mesh")
    after = _read_tree(out / "ben")
    assert after.pop("metadata.parquet") != before.pop("metadata.parquet") and after == before
    assert open_dataset(out)[1].consent == record and not (out / "ben.parts").exists()
    (line,) = [str(one) for who, one in report.rejected if who == "ben"]
    assert "was revoked on" in line and f"`fedreenact withdraw ben {out}` takes it out" in line
    assert report.kept == ("ben",) and report.strangers == ()
    assert any(line.startswith("ben: consent 2026-014 was revoked") for line in report.not_to_train)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "said"),
    [("roles = 3", "does not say"), ("person", "Expected '='"), (None, "is of 'ana', wanted 'anna', whose videos")],
)
def test_a_record_that_cannot_be_used_leaves_its_person_out_and_nobody_else(
    prepared: Prepared, tmp_path: Path, text: str | None, said: str
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(prepared.src, src)
    shutil.copytree(prepared.out, out)
    write_consent(src / "anna.consent.toml", consent_of("anna"))
    prepare(src, out, size_px=96)
    before = (out / "anna" / "frames" / "000000.jpg").stat()
    file = write_consent(src / "anna.consent.toml", consent_of("ana"))
    if text is not None:
        file.write_text(text)
    report = prepare(src, out, size_px=96)
    assert [one.identity for one in report.datasets[0].identities] == ["ben"]
    (line,) = [str(one) for who, one in report.rejected if who == "anna"]
    assert said in line and str(file) in line and report.removed == report.strangers == ()
    anna, _ = open_dataset(out)
    assert anna.consent is None and (out / "anna" / "frames" / "000000.jpg").stat() == before


@pytest.mark.integration
def test_only_a_changed_source_is_prepared_again_and_finished_clips_are_reused(
    prepared: Prepared, tmp_path: Path
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(prepared.src, src)
    shutil.copytree(prepared.out, out)
    shutil.rmtree(src / "ben" / "second")
    # ben's first clip was finished by a run that was killed before it came to the end
    part = out / "ben.parts" / "first"
    shutil.copytree(out / "ben", part)
    info = json.loads((part / "shard.json").read_text())
    info["sources"] = [source for source in info["sources"] if source["name"] == "first"]
    (part / "shard.json").write_text(json.dumps(info))
    report = prepare(src, out, size_px=96, num_workers=1)
    assert [one.was_done for one in report.datasets[0].identities] == [True, False]
    assert [source["name"] for source in open_dataset(out)[1].info["sources"]] == ["first"]
    assert not (out / "ben.parts").exists()


@pytest.mark.integration
def test_shards_of_an_annotator_without_irises_are_prepared_again_and_it_is_said(
    prepared: Prepared, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(prepared.out, out)
    shutil.copytree(out / "anna", tmp_path / "new")
    table = pq.read_table(out / "anna" / "metadata.parquet")
    pq.write_table(table.drop_columns(["irises"]), out / "anna" / "metadata.parquet")
    info = json.loads((out / "anna" / "shard.json").read_text())
    version = info["annotator_version"].removesuffix("+irises")
    (out / "anna" / "shard.json").write_text(json.dumps(info | {"annotator_version": version}))
    report = prepare(prepared.src, out, size_px=96, num_workers=1)
    anna, ben = report.datasets[0].identities
    assert not anna.was_done and ben.was_done
    assert anna.to_line().endswith(f", prepared again: was annotated by mediapipe-face-landmarker {version}")
    again, new = ((folder / "metadata.parquet").read_bytes() for folder in (out / "anna", tmp_path / "new"))
    assert again == new


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("shard.json", _shorten),
        ("metadata.parquet", _shorten),
        ("frames/000003.jpg", Path.unlink),
        ("frames/000003.jpg", _shorten),
        ("frames/000003.jpg", lambda path: path.write_bytes(b"")),
        ("frames/000003.jpg", lambda path: write_image(path, np.zeros((95, 96, 3), np.uint8))),
    ],
)
def test_a_damaged_shard_is_prepared_again_and_it_is_said(
    prepared: Prepared, tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(prepared.out, out)
    damage(out / "anna" / name)
    report = prepare(prepared.src, out, size_px=96, num_workers=1)
    anna, ben = report.datasets[0].identities
    assert not anna.was_done and ben.was_done
    assert f", prepared again: the shard was damaged ({out / 'anna' / name}: " in anna.to_line()
    assert _read_tree(out / "anna") == _read_tree(prepared.out / "anna")


@pytest.mark.integration
def test_meshes_are_kept_if_they_are_asked_for_once_and_lie_on_the_landmarks(
    prepared: Prepared, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(prepared.out, out)
    before = open_dataset(prepared.out)
    report = prepare(prepared.src, out, size_px=96, num_workers=1, with_mesh=True)
    assert not any(one.was_done for one in report.datasets[0].identities)
    for shard, bare in zip(open_dataset(out), before, strict=True):
        assert shard.mesh_FVC is not None and bare.mesh_FVC is None
        points_FKC = (shard.mesh_FVC[:, list(MESH_TO_68), :2].astype(np.float32) + 1) * 48 - 0.5
        np.testing.assert_allclose(points_FKC, shard.landmarks_FKC, atol=0.05)
        np.testing.assert_array_equal(shard.landmarks_FKC, bare.landmarks_FKC)
        np.testing.assert_array_equal(shard.read_frame(0), bare.read_frame(0))
        nose_F, cheeks_F2 = shard.mesh_FVC[:, 4, 2], shard.mesh_FVC[:, [234, 454], 2]
        assert (nose_F + 0.2 < cheeks_F2.min(axis=1)).all()
    again = prepare(prepared.src, out, size_px=96, num_workers=1)
    assert all(one.was_done for one in again.datasets[0].identities)
    assert all(shard.mesh_FVC is not None for shard in open_dataset(out))


def _read_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.integration
def test_runs_killed_at_any_moment_leave_no_process_and_in_the_end_the_same_bytes(
    prepared: Prepared, tmp_path: Path
) -> None:
    src, out, undisturbed = tmp_path / "src", tmp_path / "out", tmp_path / "undisturbed"
    for person, source in (("anna", "first"), ("ben", "second")):
        for clip in range(4):
            shutil.copytree(prepared.src / "ben" / source, src / person / f"{clip}")
    command = [sys.executable, "-m", "cli.entry", "prepare", str(src)]
    started = time.monotonic()
    subprocess.run([*command, str(undisturbed), "--size", "64"], check=True, capture_output=True)
    duration_s = time.monotonic() - started
    rng = random.Random(int(os.environ.get("CHAOS_SEED", "0")))
    for _ in range(10):
        run = subprocess.Popen([*command, str(out), "--size", "64"], stdout=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(rng.uniform(0.1, 1.0) * duration_s)
        run.kill()
        run.wait()
    time.sleep(1)
    before = _read_tree(out)
    time.sleep(1)
    assert _read_tree(out) == before, "a process goes on writing"
    subprocess.run([*command, str(out), "--size", "64"], check=True, capture_output=True)
    assert _read_tree(out) == _read_tree(undisturbed)


@pytest.mark.integration
def test_an_interrupt_of_the_command_alone_ends_the_clip_under_way_and_says_how_to_go_on(
    prepared: Prepared, tmp_path: Path, drawn_people: list[Shard]
) -> None:
    """Finished is the first clip, and so it stays; the other one is of minutes."""
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(prepared.src / "ben" / "first", src / "anna" / "first")
    write_video(src / "anna" / "second.mp4", [drawn_people[0].read_frame(row) for row in range(20)] * 100)
    run = subprocess.Popen(
        [sys.executable, "-m", "cli.entry", "prepare", str(src), str(out), "--size", "64", "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    finished = out / "anna.parts" / "first" / "shard.json"
    while run.poll() is None and not finished.exists():
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=300)
    assert (run.returncode, said) == (130, "stopped; the same command goes on from there\n")
    assert list(out.rglob("shard.json")) == [finished]


@pytest.mark.integration
def test_photos_are_each_looked_at_and_cropped_by_themselves(
    tmp_path: Path, face_landmarker: Path, drawn_people: list[Shard]
) -> None:
    """Five that happen to be alike do not make a shot of thirteen."""
    folder = tmp_path / "src" / "anna"
    folder.mkdir(parents=True)
    for row in range(13):
        framed = np.pad(drawn_people[0].read_frame(row), ((0, 0), (0, 16 * max(0, row - 4)), (0, 0)), "edge")
        write_image(folder / f"IMG_{row}.jpg", framed)
    report = prepare(tmp_path / "src", tmp_path / "out", size_px=64, num_workers=1)
    (shard,) = open_dataset(tmp_path / "out")
    assert shard.frame_index.tolist() == shard.timestamp_s.tolist() == list(range(13)) and set(shard.clip) == {"anna"}
    assert report.rejected == []
    for row in range(13):
        picture = read_picture(folder / f"IMG_{row}.jpg")
        alone = face_of_picture(picture, 64, path=folder, on_problem=lambda _: None)
        assert alone is not None
        np.testing.assert_allclose(shard.landmarks_FKC[row], alone.annotation.landmarks_KC, atol=1e-3)


@pytest.mark.integration
def test_people_without_a_usable_frame_are_left_out_and_named(
    tmp_path: Path, face_landmarker: Path, drawn_people: list[Shard]
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    _write_frames(src / "anna", drawn_people[0], range(6))
    (src / "ben").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)
    write_video(src / "cat.mp4", list(noise))
    report = prepare(src, out, size_px=64, num_workers=1)
    assert [shard.identity for shard in open_dataset(out)] == ["anna"]
    assert [str(one) for _, one in report.rejected] == [
        "ben: no clip in this person's folder; add a video or pictures, or remove it",
        f"{src / 'cat.mp4'}: no face found in any of 6 frames",
    ]
    shutil.rmtree(src / "anna")
    with pytest.raises(DataError, match=r"nobody with a usable frame \(2 things left out, ben: no clip"):
        prepare(src, tmp_path / "other", size_px=64, num_workers=1)


@pytest.mark.integration
def test_folders_that_may_not_be_looked_into_end_nothing(
    tmp_path: Path, face_landmarker: Path, drawn_people: list[Shard]
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    _write_frames(src / "anna", drawn_people[0], range(6))
    (src / "anna" / "006.jpg").symlink_to("nowhere.jpg")
    for disk in (src, out):
        (disk / "lost+found").mkdir(mode=0, parents=True)
    with bound_by_modes():
        report = prepare(src, out, size_px=64, num_workers=1)
        assert [shard.identity for shard in open_dataset(out)] == ["anna"]
    assert [one.num_kept for one in report.datasets[0].identities] == [6, 0]
    assert {Path(one.path).name for _, one in report.rejected} == {"lost+found", "006.jpg"}


def test_where_nobody_is_usable_the_error_names_what_matters_and_the_whole_list(tmp_path: Path) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    (src / "anna").mkdir(parents=True)
    for name in ("a-note.txt", "anna/face.mp4", "anna/consent.toml"):
        (src / name).touch()
    with pytest.raises(DataError) as refused:
        prepare(src, out)
    said = f"(2 things left out, {src}/anna/consent.toml: does not say id, "
    assert said in str(refused.value) and f"all of them are in {out}/rejected.csv" in str(refused.value)
    assert len((out / "rejected.csv").read_text().splitlines()) == 3


def test_an_empty_source_folder_is_refused(tmp_path: Path, face_landmarker: Path) -> None:
    (tmp_path / "src").mkdir()
    with pytest.raises(DataError, match="nobody found by the layout videos; wanted a video"):
        prepare(tmp_path / "src", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_preparation_at_a_time_writes_to_a_dataset_and_a_killed_one_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    write_video(tmp_path / "src" / "anna.mp4", [np.zeros((48, 64, 3), np.uint8)])
    out = tmp_path / "out"
    hold = f"""
import pathlib, time; from data_partition.shards.lock import sole_writer
with sole_writer(pathlib.Path({str(out)!r})): print("held", flush=True); time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        try:
            with pytest.raises(ConfigError, match=f"{out}: another preparation is writing to it; wait until it has"):
                prepare(tmp_path / "src", out)
        finally:
            holder.kill()
    with sole_writer(out):
        assert list(out.iterdir()) == []


def test_frames_of_a_part_that_was_made_of_another_clip_are_in_nobodys_shard(
    tmp_path: Path, face_landmarker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[30:70, 40:80] = 255
    for name, picture_HWC in (("anna", picture), ("ben", picture[:, ::-1])):
        write_video(tmp_path / "src" / f"{name}.mp4", [np.ascontiguousarray(picture_HWC)] * 6)

    def replaced_meanwhile(jobs: Sequence[ClipJob], *_: object) -> dict[ClipJob, ClipSummary]:
        done = {job: prepare_clip(job, SquareAnnotator(), lambda: None) for job in jobs}
        anna, ben = jobs
        shutil.rmtree(anna.part)
        shutil.copytree(ben.part, anna.part)
        return done

    monkeypatch.setattr(preparation, "run_clips", replaced_meanwhile)
    with pytest.raises(DataError, match=r"anna\.mp4: not made of .*src/anna\.mp4, which it is named for"):
        prepare(tmp_path / "src", tmp_path / "out", size_px=64)
    assert shard_folders(tmp_path / "out") == []
