import numpy as np
import pytest

from data_partition.shards.images import read_image
from evaluation.faces.analysis import RememberingAnalyser, frame_key
from evaluation.faces.openface_exchange import FrameSaver, OpenFaceAnalyser
from model.batch import AU_ORDER
from model.errors import ConfigError, DataError
from reenact.marks.key import marking_key
from reenact.marks.verification import verify_file

HEADER = "face,confidence,pose_Rx,pose_Ry,pose_Rz,AU01_c,AU12_c"
MODEL = "ab" * 32


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (16, 16, 3), dtype=np.uint8)


def answer(folder, frame, *rows: str) -> None:
    """What OpenFace would leave for a saved picture."""
    (path,) = [path for path in folder.glob("*.png") if np.array_equal(read_image(path), frame)]
    (folder / "openface").mkdir(exist_ok=True)
    (folder / "openface" / f"{path.stem}.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def test_pose_and_action_units_come_back_from_openface(analyser, tmp_path):
    saver = FrameSaver(analyser, tmp_path, MODEL)
    for seed in (0, 1, 2, 0):
        assert saver.analyse(picture(seed)) is not None
    assert len(list(tmp_path.glob("*.png"))) == 3
    answer(tmp_path, picture(0), "0,0.5,0,0,0,0,0", "1,0.9,0.1,-0.2,0.3,1.0,0.0")
    answer(tmp_path, picture(1))  # no face, no row; picture 2 has no file at all
    judge = RememberingAnalyser(OpenFaceAnalyser(analyser, tmp_path))
    face = judge.analyse(picture(0))
    np.testing.assert_allclose(face.pose_C, np.degrees([0.1, -0.2, 0.3]), rtol=1e-5)  # of the surer face
    assert face.au_presence_A[[AU_ORDER.index(1), AU_ORDER.index(12)]].tolist() == [1, 0]
    np.testing.assert_array_equal(face.embedding_D, analyser.analyse(picture(0)).embedding_D)
    assert judge.analyse(picture(1)) is None and judge.analyse(picture(2)) is None
    assert judge.evaluated_aus == (1, 12)
    assert (judge.backends.pose, judge.backends.embedding) == ("OpenFace 2", "Colour")


def test_what_the_model_drew_says_so_in_a_manifest_and_keeps_its_pixels(analyser, tmp_path):
    saver = FrameSaver(analyser, tmp_path, MODEL)
    saver.note_drawn(picture(0))
    for seed in (0, 1):
        saver.analyse(picture(seed))
    drawn, taken = (tmp_path / f"{frame_key(picture(seed))}.png" for seed in (0, 1))
    np.testing.assert_array_equal(read_image(drawn), picture(0))
    found = verify_file(drawn, anchors=marking_key().anchor.read_bytes())
    assert found.manifest is not None and found.manifest.state == "Trusted"
    assert (found.manifest.made_of["kind"], found.manifest.made_of["model_sha256"]) == ("to-measure", MODEL)
    assert b"c2pa.watermarked" not in drawn.read_bytes() and b"visible label" not in drawn.read_bytes()
    assert not verify_file(taken).is_marked
    np.testing.assert_array_equal(read_image(taken), picture(1))


def test_mistakes_say_what_to_do(analyser, tmp_path):
    with pytest.raises(DataError, match="FaceLandmarkImg -fdir"):
        OpenFaceAnalyser(analyser, tmp_path)
    FrameSaver(analyser, tmp_path, MODEL).analyse(picture(0))
    with pytest.raises(ConfigError, match="holds pictures already"):
        FrameSaver(analyser, tmp_path, MODEL)
    answer(tmp_path, picture(0), "0,0.9,0,0,0,1,1")
    with pytest.raises(DataError, match="has not seen this picture"):
        OpenFaceAnalyser(analyser, tmp_path).analyse(picture(5))
