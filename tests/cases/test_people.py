"""Whose face a clip shows, which way up, and what becomes of people who come and go."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_partition.faces.finder import FaceFinder, chosen, quarter_turns
from data_partition.faces.people import others_than_main, split_by_person
from data_partition.faces.track import face_of_picture, track_faces, turns_of
from data_partition.preparation.prepare import PrepareReport, is_prepared, prepare
from data_partition.preparation.preview import find_several_faces, first_faces, write_preview
from data_partition.shards.names import check_distinct, check_identity
from data_partition.shards.shard import Shard, open_dataset
from data_partition.sources import video
from data_partition.sources.layouts import annotator_of
from data_partition.sources.pictures import read_picture
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import read_frames
from data_partition.synth.dataset import synthesize
from model.errors import ConfigError, DataError
from server.run_folder.folder import require_same_people
from tests.data_partition.conftest import drawn_people, face_landmarker, write_picture, write_video  # noqa: F401
from tests.support.consents import TODAY, consent_of, write_consent


def _one_hot(place: int) -> np.ndarray:
    return np.eye(128, dtype=np.float32)[place]


def test_another_person_in_the_same_place_starts_a_new_take() -> None:
    who = [_one_hot(0), None, None, _one_hot(0), None, None, _one_hot(1), None, None, _one_hot(1)]
    take = split_by_person(np.zeros(10, np.int64), who)
    assert take.tolist() == [0, 0, 0, 0, -1, -1, 1, 1, 1, 1]


def test_one_odd_frame_is_no_other_person() -> None:
    who = [_one_hot(0), _one_hot(0), _one_hot(1), _one_hot(0)]
    assert split_by_person(np.zeros(4, np.int64), who).tolist() == [0, 0, 0, 0]


def test_the_main_person_is_the_one_of_most_frames() -> None:
    people = {"a": _one_hot(0), "b": _one_hot(1), "c": _one_hot(1)}
    assert others_than_main(people, {"a": 50, "b": 30, "c": 30}) == {"a"}
    assert others_than_main(people, {"a": 70, "b": 30, "c": 30}) == {"b", "c"}


@pytest.mark.integration
@pytest.mark.parametrize("turns", range(4))
def test_faces_are_turned_upright(drawn_people: list[Shard], turns: int) -> None:  # noqa: F811
    pictures = [np.rot90(drawn_people[0].read_frame(row), -turns) for row in (0, 8, 16)]
    assert quarter_turns(FaceFinder(), pictures) == turns


@pytest.mark.integration
def test_of_two_faces_the_choice_is_said_and_can_be_made(drawn_people: list[Shard]) -> None:  # noqa: F811
    anna, ben = (shard.read_frame(0) for shard in drawn_people)
    both = np.concatenate([anna, ben], axis=1)
    faces = FaceFinder().find(both)
    assert len(faces) == 2 and chosen(faces, 2).left > chosen(faces, 1).left
    said: list[Rejected] = []
    path = Path("both.png")
    left, right = (face_of_picture(both, 96, face=number, path=path, on_problem=said.append) for number in (1, 2))
    assert left is not None and right is not None
    assert not np.array_equal(left.image_HWC, right.image_HWC)
    assert "2 faces" in said[0].reason and "number 1 from the left" in said[0].reason
    assert "number 2 from the left" in said[1].reason


@pytest.mark.integration
@pytest.mark.parametrize(
    ("num_people", "number", "words"), [(1, 2, "1 face, number 2 from the left"), (2, 3, "2 faces, number 3")]
)
def test_a_face_that_is_not_there_is_an_error_of_a_picture_and_a_note_of_a_clip(
    drawn_people: list[Shard],  # noqa: F811
    tmp_path: Path,
    num_people: int,
    number: int,
    words: str,
) -> None:
    picture = np.concatenate([shard.read_frame(0) for shard in drawn_people[:num_people]], axis=1)
    with pytest.raises(DataError, match=rf"a\.png: found {words}.*; choose a number up to {num_people}, or 0"):
        face_of_picture(picture, 96, face=number, path=Path("a.png"), on_problem=lambda _: None)
    clip = write_video(tmp_path / "a.mp4", [picture] * 3)
    source, said = ClipSource(path=clip, face=number), []
    with annotator_of(source).open(source) as annotator:
        tracked = track_faces(source, annotator, on_problem=said.append, on_frame=lambda: None)
    assert len(tracked.faces) == 3
    (note,) = said
    assert note.is_note and words in note.reason and "the largest is used" in note.reason


@pytest.mark.integration
@pytest.mark.parametrize("first_index", [0, 3])
def test_the_wanted_face_is_taken_wherever_the_first_face_of_a_clip_is(
    drawn_people: list[Shard],  # noqa: F811
    tmp_path: Path,
    first_index: int,
) -> None:
    both = np.concatenate([shard.read_frame(0) for shard in drawn_people], axis=1)
    clip = write_video(tmp_path / "a.mp4", [np.zeros_like(both)] * 3 + [both] * 3)
    middles = []
    for number in (1, 2):
        source, said = ClipSource(path=clip, face=number), []
        with annotator_of(source).open(source) as annotator:
            frames = [frame for frame in read_frames(clip, said.append) if frame.index >= first_index]
            faces = [face for frame in frames if (face := annotator.annotate(frame)) is not None]
            assert [note.reason for note in annotator.problems()] == [
                f"2 faces in frame 3; number {number} from the left is used, the others are left out"
            ]
        assert len(faces) == 3
        middles.append(float(np.mean([face.landmarks_KC[:, 0].mean() for face in faces])))
    assert middles[0] < both.shape[1] / 2 < middles[1]


def test_a_small_face_is_found(drawn_people: list[Shard], face_landmarker: Path) -> None:  # noqa: F811
    picture = np.full((720, 1280, 3), 90, np.uint8)
    picture[300:460, 700:860] = drawn_people[0].read_frame(0)
    crop = face_of_picture(picture, 96, path=Path("a.png"), on_problem=lambda _: None)
    assert crop is not None
    assert (np.ptp(crop.annotation.landmarks_KC, axis=0) > 25).all()


def _film(src: Path, people: list[Shard]) -> None:
    """Videos of anna and ben in a new folder."""
    src.mkdir()
    for shard, name in zip(people, ("anna", "ben"), strict=True):
        write_video(src / f"{name}.mp4", [shard.read_frame(row) for row in range(6)])


def _prepare(src: Path, out: Path) -> PrepareReport:
    return prepare(src, out, size_px=64, num_workers=1)


@pytest.mark.integration
def test_a_person_who_is_taken_out_of_the_source_leaves_the_dataset(
    tmp_path: Path,
    drawn_people: list[Shard],  # noqa: F811
    face_landmarker: Path,  # noqa: F811
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    _film(src, drawn_people)
    (src / "broken.mp4").write_bytes(b"no video at all")
    report = _prepare(src, out)
    assert [shard.identity for shard in open_dataset(out)] == ["anna", "ben"]
    assert any(one.path.endswith("broken.mp4") for _, one in report.rejected)
    other = tmp_path / "other"
    other.mkdir()
    (src / "ben.mp4").rename(other / "ben.mp4")
    report = _prepare(src, out)
    assert report.removed == ("ben",)
    assert "ben: not in the source folder any more, removed from the dataset" in report.to_lines()
    assert [shard.identity for shard in open_dataset(out)] == ["anna"]
    report = _prepare(other, out)
    assert report.removed == () and report.strangers == ("anna",)
    assert [shard.identity for shard in open_dataset(out)] == ["anna", "ben"]
    write_video(out / "carl.mp4", [np.zeros((48, 64, 3), np.uint8)])
    with pytest.raises(ConfigError, match=r"shards \(anna\) and clips \(carl\.mp4\)"):
        is_prepared(out)


@pytest.mark.integration
def test_a_namesake_from_another_folder_replaces_nobody_and_the_same_files_from_there_are_the_same_person(
    tmp_path: Path,
    drawn_people: list[Shard],  # noqa: F811
    face_landmarker: Path,  # noqa: F811
) -> None:
    src, other, out = tmp_path / "src", tmp_path / "other", tmp_path / "out"
    _film(src, drawn_people)
    _film(other, drawn_people[::-1])
    (other / "ben.mp4").rename(other / "carl.mp4")
    write_consent(other / "anna.consent.toml", consent_of("anna"))
    _prepare(src, out)
    before = _content(out / "anna")
    report = _prepare(other, out)
    assert [shard.identity for shard in open_dataset(out)] == ["anna", "ben", "carl"]
    assert _content(out / "anna") == before and report.strangers == ("anna", "ben") and report.kept == ()
    (line,) = [str(one) for who, one in report.rejected if who == "anna"]
    assert line.startswith(f"{out / 'anna'}: a shard of other files, from {src.resolve()}, is kept")
    (other / "carl.mp4").unlink()
    with pytest.raises(DataError, match="nobody with a usable frame .*a shard of other files"):
        _prepare(other, out)
    moved = src.rename(tmp_path / "moved")
    (moved / "anna").mkdir()
    (moved / "anna.mp4").rename(moved / "anna" / "first.mp4")
    (other / "anna.mp4").rename(moved / "anna" / "second.mp4")
    assert [one.was_done for one in _prepare(moved, out).datasets[0].identities] == [False, True]
    assert _content(out / "anna") != before


def _content(shard: Path) -> bytes:
    return (shard / "shard.json").read_bytes() + (shard / "metadata.parquet").read_bytes()


@pytest.mark.integration
def test_a_person_whose_video_cannot_be_read_today_keeps_the_shard_and_it_is_said(
    tmp_path: Path,
    drawn_people: list[Shard],  # noqa: F811
    face_landmarker: Path,  # noqa: F811
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    _film(src, drawn_people)
    for name in ("anna", "ben"):
        write_consent(src / f"{name}.consent.toml", consent_of(name))
    _prepare(src, out)
    (src / "ben.mp4").rename(tmp_path / "ben.mp4")
    for is_link in (True, False):
        if is_link:
            (src / "ben.mp4").symlink_to("nowhere.mp4")
        else:
            (src / "ben.mp4").unlink()
            (src / "ben.mp4").write_bytes((tmp_path / "ben.mp4").read_bytes()[:900])
        record = consent_of("ben", revoked=TODAY if is_link else None, version=2)
        write_consent(src / "ben.consent.toml", record)
        report = _prepare(src, out)
        assert (report.removed, report.kept, report.strangers) == ((), ("ben",), ())
        lines = [line for line in report.to_lines() if line.startswith("ben: ")]
        (line,) = lines
        assert line.startswith(
            "ben: in the source folder, but nothing there can be used now; the shard of before is kept"
        )
        _, ben = open_dataset(out)
        assert ben.num_frames == 6 and ben.consent == record
        assert any(line.startswith("ben: consent 2026-014 was revoked") for line in report.not_to_train) == is_link
        assert len(read_picture(report.datasets[0].contact_sheet)) == 2 * (96 + 22)
    (src / "anna.mp4").unlink()
    with pytest.raises(DataError, match="nobody with a usable frame"):
        _prepare(src, out)
    assert [shard.identity for shard in open_dataset(out)] == ["anna", "ben"]


@pytest.mark.parametrize("place", ["", "dataset"])
def test_a_dataset_inside_of_its_source_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "anna.mp4").touch()
    with pytest.raises(ConfigError, match="write the dataset to a folder beside it"):
        prepare(tmp_path, tmp_path / place)


def test_a_dataset_around_its_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "anna.mp4").touch()
    with pytest.raises(ConfigError, match="holds the source folder .*; write the dataset to a folder beside it"):
        prepare(tmp_path / "anna", tmp_path)


def test_what_is_no_shard_is_never_replaced_by_one(tmp_path: Path) -> None:
    (tmp_path / "anna" / "2024").mkdir(parents=True)
    (tmp_path / "anna" / "2024" / "talk.mp4").touch()
    for original in (tmp_path / "ben" / "2024" / "own.mp4", tmp_path / "drawn" / "person-02" / "own.mp4"):
        original.parent.mkdir(parents=True)
        original.write_text("the only copy")
    with pytest.raises(ConfigError, match=r"ben/2024: not a shard .*; choose another OUT"):
        prepare(tmp_path / "anna", tmp_path / "ben")
    with pytest.raises(ConfigError, match=r"drawn/person-02: not a shard .*; choose another OUT"):
        synthesize(tmp_path / "drawn", num_identities=2, num_frames=20, size_px=32)
    assert not (tmp_path / "drawn" / "person-01").exists()
    assert [one.read_text() for one in tmp_path.rglob("own.mp4")] == ["the only copy"] * 2


@pytest.mark.parametrize("size_px", [0, -1, 5000])
def test_a_size_out_of_range_is_refused_before_any_work(tmp_path: Path, size_px: int) -> None:
    with pytest.raises(ConfigError, match="--size: got"):
        prepare(tmp_path / "nowhere", tmp_path / "out", size_px=size_px)


@pytest.mark.parametrize(
    "name", ["O'Brien", "Doe, Jane", "anna (2)", "Zoe\u0308", "\u674e \u96f7", "\u0645\u06cc\u200c\u0646"]
)
def test_names_of_people_are_names(name: str) -> None:
    check_identity(name)


@pytest.mark.parametrize("name", ["a.parts", "a.partial", " a", "a ", "\u202ea", "x" * 248, "a/b", "..", "a\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="identity"):
        check_identity(name)


@pytest.mark.parametrize(("one", "other"), [("Zo\u00eb", "Zoe\u0308"), ("anna", "an\u200bna"), ("a b", "a\u00a0b")])
def test_names_that_look_the_same_are_refused(one: str, other: str) -> None:
    with pytest.raises(ValueError, match="cannot be told apart"):
        check_distinct([one, "carl", other])


def test_a_run_goes_on_with_its_own_people_alone() -> None:
    require_same_people(["anna", "ben", "identity-2"], ["anna", "identity-1", "carl"])
    with pytest.raises(ConfigError, match="other people: 1 was ben, now dora; use"):
        require_same_people(["anna", "ben"], ["anna", "dora"])


def test_the_way_up_and_the_first_faces_open_no_more_pictures_than_they_look_at(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    face_landmarker: Path,  # noqa: F811
) -> None:
    for number in range(70):
        write_picture(tmp_path / f"{number}.png")
    opened: list[int] = []

    def read_and_noted(path: Path) -> np.ndarray:
        opened.append(int(path.stem))
        return read_picture(path)

    monkeypatch.setattr(video, "read_picture", read_and_noted)
    clip = ClipSource(path=tmp_path)
    assert turns_of(clip) == 0 and opened == [0, 20, 40, 60]
    assert first_faces(clip, FaceFinder())[1] == ()
    assert opened[4:] == [0, 20, 40, 60, 0, 10, 20, 30, 40, 50, 60]


def test_a_preview_numbers_the_faces_and_the_choice_can_be_made(
    tmp_path: Path,
    drawn_people: list[Shard],  # noqa: F811
    face_landmarker: Path,  # noqa: F811
) -> None:
    src = tmp_path / "src"
    src.mkdir()
    both = [np.concatenate([shard.read_frame(row) for shard in drawn_people], axis=1) for row in range(3)]
    write_video(src / "both.mp4", both)
    write_video(src / "alone.mp4", [drawn_people[0].read_frame(0)])
    (one,) = find_several_faces(src, None, {})
    (other,) = find_several_faces(src, None, {"both": 3 - one.used})
    assert (one.identity, len(one.faces), other.used) == ("both", 2, 3 - one.used)
    assert f"number {one.used} from the left is used; --face both={other.used} takes another" in one.to_line()
    assert replace(one, identity="two people").to_line().endswith(f"--face 'two people={other.used}' takes another")
    write_preview(tmp_path / "faces.png", [one, other])
    picture = read_picture(tmp_path / "faces.png")
    assert picture.shape == (266, 960, 3)
    green = (np.abs(picture.astype(int) - [0, 160, 0]).sum(axis=2) < 30)[:, :480].any(axis=0).nonzero()[0]
    face = one.faces[one.used - 1]
    np.testing.assert_allclose([green.min(), green.max()], [1.5 * face.left, 1.5 * (face.left + face.width)], atol=4)
    with pytest.raises(ConfigError, match="--face: 'carl' is nobody in"):
        prepare(src, tmp_path / "out", faces={"carl": 1})
