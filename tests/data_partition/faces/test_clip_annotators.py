"""Promises of data_partition.faces.clip_annotators: what files say of a clip's frames becomes their annotation."""

from pathlib import Path

import numpy as np
import pytest

from data_partition.faces.annotate import ANNOTATOR_NAME
from data_partition.faces.clip_annotators import ClipAnnotator
from data_partition.preparation.prepare import prepare
from data_partition.shards.images import write_image
from data_partition.shards.shard import Shard, open_dataset
from data_partition.sources.layouts import annotator_of
from data_partition.sources.names import Layout
from data_partition.sources.openface_files import annotations_of
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VideoFrame, read_frames
from model.batch import AU_ORDER
from model.errors import DataError
from tests.support.samples import openface_2

PICTURE_PX = 100
LANDMARKS_KC = np.stack([np.linspace(30, 70, 68), np.linspace(20, 60, 68)], axis=1)


def openface_rows(*rows: dict[str, object], extra: tuple[str, ...] = ("frame", "timestamp", "success")) -> str:
    """A file of FeatureExtraction; each row changes a face in the middle of the picture."""
    usual: dict[str, object] = {"frame": 1, "timestamp": 0.0, "success": 1, "confidence": 0.95}
    usual |= {"pose_Rx": 0.1, "pose_Ry": -0.2, "pose_Rz": 0.3}
    usual |= {f"x_{k}": x for k, (x, _) in enumerate(LANDMARKS_KC)} | {
        f"y_{k}": y for k, (_, y) in enumerate(LANDMARKS_KC)
    }
    usual |= {f"AU{au:02d}_r": 0.5 for au in AU_ORDER if au != 28} | {f"AU{au:02d}_c": 0 for au in AU_ORDER}
    names = [name for name in usual if name not in ("frame", "timestamp", "success") or name in extra]
    lines = [", ".join(names)] + [", ".join(str((usual | row)[name]) for name in names) for row in rows]
    return "\n".join(lines) + "\n"


def write_clip(folder: Path, num_pictures: int) -> Path:
    folder.mkdir(parents=True)
    for index in range(num_pictures):
        write_image(folder / f"{index:03d}.png", np.full((PICTURE_PX, PICTURE_PX, 3), 10 * index, np.uint8))
    return folder


def frame(index: int, name: str = "") -> VideoFrame:
    image_HWC = np.zeros((PICTURE_PX, PICTURE_PX, 3), np.uint8)
    return VideoFrame(index=index, timestamp_s=index / 25, image_HWC=image_HWC, name=name)


def openface_source(clip: Path) -> ClipSource:
    return ClipSource(path=clip, layout=Layout.OPENFACE, annotations=annotations_of(clip))


def opened(source: ClipSource) -> ClipAnnotator:
    return annotator_of(source).open(source)


@pytest.mark.integration
def test_a_prepared_openface_clip_has_its_landmarks_pose_and_true_action_units(tmp_path: Path) -> None:
    src = tmp_path / "src"
    write_clip(src / "anna" / "talk", 8)
    rows = [{"frame": i + 1, "timestamp": i / 25, "AU12_c": i % 2, "AU12_r": 0.5 * i} for i in range(8)]
    (src / "anna" / "talk.csv").write_text(openface_rows(*rows))
    report = prepare(src, tmp_path / "out", size_px=64, num_workers=1)
    (shard,) = open_dataset(tmp_path / "out")
    assert report.layout is Layout.OPENFACE and shard.info["annotator"] == "openface"
    assert shard.num_frames == 8 and report.rejected == []
    np.testing.assert_allclose(shard.pose_FC[3], np.degrees([0.1, -0.2, 0.3]), rtol=1e-5)
    assert shard.au_presence_FA[:, AU_ORDER.index(12)].tolist() == [0, 1] * 4
    assert shard.au_intensity_FA[:, AU_ORDER.index(12)].tolist() == [0.5 * i for i in range(8)]
    assert np.isnan(shard.au_intensity_FA[:, AU_ORDER.index(28)]).all()
    side = round(2.2 * 40)  # a face of 40 px in the middle of the picture
    shown = (LANDMARKS_KC[67] - LANDMARKS_KC[0]) * 64 / side
    np.testing.assert_allclose(shard.landmarks_FKC[0, 67] - shard.landmarks_FKC[0, 0], shown, atol=1e-3)


def test_the_largest_of_several_faces_is_taken(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "talk", 1)
    small = {f"x_{k}": 50 + k / 100 for k in range(68)} | {f"y_{k}": 50 for k in range(68)}
    (tmp_path / "talk.csv").write_text(openface_rows(small | {"confidence": 1.0}, {"AU01_c": 1}))
    with opened(openface_source(clip)) as annotator:
        face = annotator.annotate(frame(0))
    assert face is not None and face.au_presence_A[0] == 1
    np.testing.assert_allclose(face.landmarks_KC, LANDMARKS_KC, rtol=1e-5)


def test_rows_that_do_not_fit_the_clip_are_told(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "talk", 3)
    outside = {f"x_{k}": 500 for k in range(68)}
    rows = ({"frame": 1} | outside, {"frame": 2, "confidence": 0.2}, {"frame": 3, "AU01_c": "x"}, {"frame": 9})
    (tmp_path / "talk.csv").write_text(openface_rows(*rows))
    with opened(openface_source(clip)) as annotator:
        assert [annotator.annotate(frame(index)) for index in range(3)] == [None, None, None]
        assert annotator.problems() == [
            Rejected(f"{tmp_path / 'talk.csv'}:4", "AU01_c is 'x', wanted a number"),
            Rejected(str(clip), "in 1 frames the landmarks lie outside of it; is it this clip's CSV file?"),
            Rejected(str(clip), "the CSV file tells of 9 frames, the clip has 3; is it this clip's?"),
        ]


def test_a_row_is_of_the_picture_at_its_place_in_openfaces_order(tmp_path: Path) -> None:
    names = ["1.jpg", "2.png", "3.JPG", "10.jpg", "11.bmp"]  # as this program orders them
    clip = tmp_path / "anna"
    clip.mkdir()
    for name in names:
        write_image(clip / name, np.zeros((PICTURE_PX, PICTURE_PX, 3), np.uint8))
    in_its_order = ["1.jpg", "10.jpg", "11.bmp", "2.png"]
    rows = [{"frame": k + 1, "AU12_r": int(name.split(".")[0]) / 4} for k, name in enumerate(in_its_order)]
    (tmp_path / "anna.csv").write_text(openface_rows(*rows))
    with opened(openface_source(clip)) as annotator:
        faces = [annotator.annotate(frame(index, name)) for index, name in enumerate(names)]
        (problem,) = annotator.problems()
    told = [None if face is None else float(face.au_intensity_A[AU_ORDER.index(12)]) for face in faces]
    assert told == [0.25, 0.5, None, 2.5, 2.75]
    assert problem.reason.startswith("1 pictures that OpenFace passes over, 3.JPG among them")


def test_a_file_made_from_a_copy_of_another_rate_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "talk", 1)
    rows = [{"frame": k + 1, "timestamp": 2 * k / 25} for k in range(12)]
    (tmp_path / "talk.csv").write_text(openface_rows(*rows))
    with opened(openface_source(clip)) as annotator:
        assert annotator.annotate(frame(2)) is not None
        with pytest.raises(DataError, match=r"frame 11 is shown at 0\.44 s, its CSV file says 0\.88 s"):
            annotator.annotate(frame(11))


def test_pictures_with_a_file_each(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "anna", 3)
    (clip / "000.csv").write_text(openface_rows({"pose_Rx": 0.0}, extra=()))
    (clip / "001.csv").write_text("frame,AU01_r\n1,0.5\n")  # as OpenFace 3 writes
    with opened(openface_source(clip)) as annotator:
        faces = [annotator.annotate(frame(index, f"{index:03d}.png")) for index in range(3)]
        problems = annotator.problems()
    assert faces[0] is not None and faces[1:] == [None, None]
    assert [Path(one.path).name for one in problems] == ["001.csv", "anna"]
    assert "as OpenFace 3 writes them" in problems[0].reason
    assert problems[1].reason == "1 pictures without a CSV file, 002.png among them"


@pytest.mark.integration
def test_a_clip_whose_file_lacks_columns_is_left_out(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for person in ("anna", "ben"):
        write_clip(src / person, 5)
        (src / f"{person}.csv").write_text(openface_rows(*({"frame": i} for i in range(1, 6))))
    text = (src / "ben.csv").read_text().replace("AU45_c", "other")
    (src / "ben.csv").write_text(text)
    report = prepare(src, tmp_path / "out", size_px=64, num_workers=1)
    assert [shard.identity for shard in open_dataset(tmp_path / "out")] == ["anna"]
    reasons = [one.reason for _, one in report.rejected]
    assert len(reasons) == 1 and "no complete columns of action units (AU01_c to AU45_c)" in reasons[0]


@pytest.mark.integration
def test_a_whole_openface_file_beside_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "jt"
    folder.mkdir(parents=True)
    for index in range(475):
        write_image(folder / f"{index:03d}.jpg", np.zeros((480, 640, 3), np.uint8))
    (tmp_path / "src" / "jt.csv").write_bytes(openface_2(tmp_path).read_bytes())
    report = prepare(tmp_path / "src", tmp_path / "out", size_px=64, num_workers=1)
    (shard,) = open_dataset(tmp_path / "out")
    assert shard.num_frames + sum(one.num_in_short_takes for one in report.datasets[0].identities[0].clips) == 474
    assert [str(one) for _, one in report.rejected] == [
        f"{tmp_path / 'src' / 'jt.csv'}:476: 196 fields, the header has 714"
    ]


@pytest.mark.integration
def test_98_points_give_the_landmarks_and_mediapipe_the_rest(
    tmp_path: Path, face_landmarker: Path, drawn_people: list[Shard]
) -> None:
    anna = drawn_people[0]
    src = tmp_path / "src"
    images = src / "Anna" / "Image"
    images.mkdir(parents=True)
    lines = []
    for row in range(6):
        write_image(images / f"P_A_{row}.jpg_{row:010d}.jpg", anna.read_frame(row))
        if row != 2:
            points = " ".join(f"{40 + i % 50} {60 + i}.5" for i in range(98))
            lines.append(f"{points} p_a_{row}.jpg_{row:010d}.JPG")
    (src / "Anna" / "all_98pt.txt").write_text("\n".join(lines))
    (src / "Anna" / "test_98pt.txt").write_text(lines[0])
    report = prepare(src, tmp_path / "out", size_px=160, num_workers=1)
    (shard,) = open_dataset(tmp_path / "out")
    assert shard.frame_index.tolist() == [0, 1, 3, 4, 5] and shard.info["annotator"] == f"points-98+{ANNOTATOR_NAME}"
    np.testing.assert_allclose(shard.landmarks_FKC[0, 16], [40 + 32, 60 + 32 + 0.5], atol=1e-4)
    assert shard.has_fixed_split and shard.is_test_F.tolist() == [True, False, False, False, False]
    np.testing.assert_allclose(shard.pose_FC[0], anna.pose_FC[0], atol=12)
    (problem,) = (one for _, one in report.rejected)
    assert "1 pictures without a usable line of 98 points" in problem.reason


@pytest.mark.integration
def test_of_several_faces_the_one_at_the_points_is_looked_at_and_points_on_no_face_are_told(
    tmp_path: Path, face_landmarker: Path, drawn_people: list[Shard]
) -> None:
    anna, ben = (shard.read_frame(0) for shard in drawn_people)
    both, alone = np.concatenate([anna, ben], axis=1), np.concatenate([anna, np.zeros_like(ben)], axis=1)
    middle = len(anna)
    lines = []
    for name, image_HWC, left in (("l.png", both, 0), ("r.png", both, middle), ("none.png", alone, middle)):
        write_image(tmp_path / "Image" / name, image_HWC)
        x_P, y_P = np.linspace(left + 50, left + 110, 98), np.linspace(50, 120, 98)
        lines.append(" ".join([*(f"{x:.1f} {y:.1f}" for x, y in zip(x_P, y_P, strict=True)), name]))
    (tmp_path / "all_98pt.txt").write_text("\n".join(lines))
    clip = tmp_path / "Image"
    source = ClipSource(path=clip, layout=Layout.CELEBV, annotations=(tmp_path / "all_98pt.txt",))
    with opened(source) as annotator:
        left, none, right = (annotator.annotate(one) for one in read_frames(clip, pytest.fail))
        problems = annotator.problems()
    assert left is not None and left.irises_EC is not None and left.irises_EC[:, 0].max() < middle
    assert right is not None and right.irises_EC is not None and right.irises_EC[:, 0].min() > middle
    assert none is None
    told, note = (one.reason for one in problems)
    assert told == "1 pictures whose points do not lie on the face that is found there, none.png among them"
    assert note.startswith("2 faces in frame 0; number 1 from the left is used")


def test_annotators_have_names() -> None:
    assert annotator_of(ClipSource(path=Path("a.mp4"))).name == ANNOTATOR_NAME
    kind = annotator_of(ClipSource(path=Path("a"), layout=Layout.OPENFACE))
    assert (kind.name, kind.version) == ("openface", "2+order")


def test_a_file_that_is_not_openfaces_is_one_error(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "talk", 1)
    (tmp_path / "talk.csv").write_text("frame,AU01_c\n1,0\n")
    with pytest.raises(DataError, match=r"talk\.csv: no confidence column"):
        opened(openface_source(clip))
