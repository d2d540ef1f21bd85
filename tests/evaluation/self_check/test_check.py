from dataclasses import replace

import cv2
import numpy as np
import pytest

from data_partition.shards.images import read_image
from data_partition.synth.look import draw_look
from data_partition.synth.motion import animate
from data_partition.synth.scene import Scene
from evaluation.faces.analysis import FaceAnalysis, RememberingAnalyser
from evaluation.faces.embedders import SFace
from evaluation.faces.mediapipe_analyser import MediaPipeAnalyser
from evaluation.measurement import Instruments
from evaluation.metrics.faces import csim, prmse_deg
from evaluation.metrics.kid import KidFeatures
from evaluation.metrics.perceptual_distance import PerceptualDistance
from evaluation.metrics.vgg_levels import vgg16_levels
from evaluation.self_check.alterations import mirror, turn_back
from evaluation.self_check.check import self_check
from model.errors import WeightsError
from model.weights import resolve
from tests.evaluation.conftest import instruments_with
from tests.support.samples import celebv


@pytest.fixture(scope="module")
def real_analyser():
    try:
        resolve("sface"), resolve("face-landmarker")
    except WeightsError as error:
        pytest.skip(str(error))
    with MediaPipeAnalyser(SFace()) as faces:
        yield RememberingAnalyser(faces)


@pytest.fixture(scope="module")
def real_distance() -> PerceptualDistance:
    try:
        return PerceptualDistance(vgg16_levels())
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def celebrities(tmp_path_factory) -> dict[str, list[np.ndarray]]:
    """Six frames each of four people, 256 px."""
    sample = celebv(tmp_path_factory.mktemp("celebv"))
    return {who.name: [read_image(p) for p in sorted(who.rglob("*.jpg"))[:6]] for who in sorted(sample.iterdir())}


def drawn_people() -> dict[str, list[np.ndarray]]:
    people = {}
    for person in range(3):
        scene = Scene(draw_look(person, seed=0), 128)
        moments = list(animate(60, np.random.default_rng(person)))[::30]
        people[str(person)] = [scene.frame(moment.pose, moment.expression)[0] for moment in moments]
    return people


def drawn_clips() -> list[list[np.ndarray]]:
    """Three quarters of a second of each person, every second frame."""
    clips = []
    for person in range(3):
        scene = Scene(draw_look(person, seed=0), 128)
        moments = list(animate(60, np.random.default_rng(person)))[:24:2]
        clips.append([scene.frame(moment.pose, moment.expression)[0] for moment in moments])
    return clips


def wrong(report) -> list[str]:
    return [text for text, verdict in report.checks.rows if verdict != "ok"]


@pytest.mark.integration
def test_metrics_of_drawn_people_move_the_right_way(real_analyser):
    instruments = replace(
        instruments_with(real_analyser), features=KidFeatures(vgg16_levels())
    )  # distances by VGG take a minute
    report = self_check(drawn_people(), drawn_clips(), instruments, "half of L1")
    assert wrong(report) == [] and report.holds
    names = [row[0] for row in report.figures[0].rows]
    assert names[0] == "identical" and {"other person", "mouth frozen", "eyes frozen"} < set(names) and len(names) == 13
    assert len(report.figures[2].rows) == 4


@pytest.mark.integration
def test_metrics_of_a_sample_of_people_move_the_right_way(real_analyser, real_distance, celebrities):
    few = {  # VGG takes more than a second for a pair of 256 pixels
        who: [cv2.resize(frame, (128, 128), interpolation=cv2.INTER_AREA) for frame in frames[:2]]
        for who, frames in celebrities.items()
    }
    instruments = Instruments(analyser=real_analyser, perceptual=real_distance, features=KidFeatures(vgg16_levels()))
    assert wrong(self_check(few, [], instruments, real_distance.name)) == []


@pytest.mark.integration
def test_people_are_told_apart_and_mirrored_poses_agree_within_a_degree(real_analyser, celebrities):
    frames = [frame for own in celebrities.values() for frame in own]
    faces = [real_analyser.analyse(frame) for frame in frames]
    identity = np.repeat(np.arange(len(celebrities)), [len(own) for own in celebrities.values()])
    cosine = np.array([[csim(a, b) for b in faces] for a in faces])
    is_same = identity[:, None] == identity
    assert cosine[is_same].min() > cosine[~is_same].max() + 0.1
    mirrored = [turn_back(real_analyser.analyse(mirror(frame)), frame.shape[1]) for frame in frames]
    errors = [prmse_deg(face, other) for face, other in zip(faces, mirrored, strict=True)]
    assert np.sqrt(np.mean(np.square(errors))) < 1


@pytest.mark.integration
def test_a_backend_that_does_not_see_movement_is_found_out(analyser):
    class Blind(type(analyser)):
        def analyse(self, frame_HWC):
            return super().analyse(np.full_like(frame_HWC, 99))

    rng = np.random.default_rng(0)
    noise = {who: list(rng.integers(1, 256, (3, 32, 32, 3), dtype=np.uint8)) for who in ("ana", "ben", "eve")}
    report = self_check(noise, list(noise.values()), instruments_with(Blind()), "half of L1")
    assert not report.holds
    for title in ("CSIM", "Lip-gap slope", "Gaze error, % of eye width", "Lip dynamics"):
        assert any(text.startswith(f"{title} gets worse") for text in wrong(report))
    assert any("separates people" in text for text in wrong(report))


def test_turning_a_mirrored_face_back_swaps_left_and_right():
    landmarks_KC = np.random.default_rng(0).uniform(0, 63, (68, 2)).astype(np.float32)
    face = FaceAnalysis(
        embedding_D=np.ones(1, np.float32),
        landmarks_KC=landmarks_KC,
        pose_C=np.array([1, 2, 3], np.float32),
        au_presence_A=np.zeros(18, np.float32),
        au_intensity_A=np.zeros(18, np.float32),
        irises_EC=np.array([[20, 30], [40, 31]], np.float32),
    )
    turned = turn_back(face, 64)
    np.testing.assert_array_equal(turned.pose_C, [1, -2, -3])
    np.testing.assert_array_equal(turned.irises_EC, [[23, 31], [43, 30]])
    for left, right in (
        (0, 16),
        (8, 8),
        (17, 26),
        (27, 27),
        (31, 35),
        (36, 45),
        (37, 44),
        (41, 46),
        (48, 54),
        (62, 62),
    ):
        np.testing.assert_allclose(turned.landmarks_KC[left], [63 - landmarks_KC[right, 0], landmarks_KC[right, 1]])
    again = turn_back(turned, 64)
    np.testing.assert_allclose(again.landmarks_KC, landmarks_KC, atol=1e-5)
    np.testing.assert_array_equal(again.pose_C, face.pose_C)
