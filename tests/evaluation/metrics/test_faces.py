from dataclasses import replace

import numpy as np
import pytest

from evaluation.faces.analysis import FaceAnalysis
from evaluation.metrics.faces import (
    au_intensity_error,
    aucon,
    csim,
    gaze_error_percent,
    landmark_error_percent,
    prmse_deg,
)
from model.batch import AU_ORDER


def face(embedding=(1, 0), pose=(0, 0, 0), active=(), shift=(0, 0)) -> FaceAnalysis:
    """A face whose outer eye corners are 50 px apart."""
    landmarks_KC = np.zeros((68, 2), np.float32)
    landmarks_KC[45] = [30, 40]
    return FaceAnalysis(
        embedding_D=np.array(embedding, np.float32),
        landmarks_KC=landmarks_KC + np.array(shift, np.float32),
        pose_C=np.array(pose, np.float32),
        au_presence_A=np.array([au in active for au in AU_ORDER], np.float32),
        au_intensity_A=np.array([5.0 * (au in active) for au in AU_ORDER], np.float32),
    )


def test_csim_is_the_cosine_of_the_embeddings():
    assert csim(face((1, 0)), face((0.6, 0.8))) == pytest.approx(0.6)
    assert csim(face((1, 0)), face((-1, 0))) == -1


def test_prmse_is_the_root_mean_square_over_three_angles():
    assert prmse_deg(face(pose=(1, 2, 2)), face()) == pytest.approx(np.sqrt((1 + 4 + 4) / 3))


def test_prmse_takes_the_short_way_round():
    assert prmse_deg(face(pose=(179, 0, 0)), face(pose=(-178, 0, 0))) == pytest.approx(np.sqrt(9 / 3))


def test_aucon_counts_true_positives_and_true_negatives_of_the_evaluated_units_alone():
    driving, generated = face(active=(1, 9, 12)), face(active=(1, 25))  # wrong: 9, 12 and 25
    assert aucon(driving, generated, AU_ORDER) == pytest.approx(15 / 18)
    assert aucon(driving, generated, [au for au in AU_ORDER if au != 9]) == pytest.approx(15 / 17)


def test_landmark_error_is_in_percent_of_the_driving_eye_distance():
    assert landmark_error_percent(face(), face(shift=(3, 4))) == pytest.approx(100 * 5 / 50)


def test_intensity_error_is_over_the_evaluated_units_that_both_know():
    driving, generated = face(active=(1, 9, 12)), face(active=(1, 25))
    assert au_intensity_error(driving, generated, (1, 2, 12, 25)) == 10 / 4
    generated.au_intensity_A[AU_ORDER.index(25)] = np.nan
    assert au_intensity_error(driving, generated, (1, 2, 12, 25)) == pytest.approx(5 / 3)
    assert np.isnan(au_intensity_error(driving, generated, (25,)))


def looking(angle_deg: float, scale: float, gaze_px: tuple[float, float]):
    """Eyes ten pixels wide that look that far from their middles, before the whole face is turned and scaled."""
    turn = scale * np.array([[np.cos(a := np.deg2rad(angle_deg)), np.sin(a)], [-np.sin(a), np.cos(a)]])
    landmarks_KC = np.zeros((68, 2), np.float32)
    landmarks_KC[[36, 39, 42, 45]] = np.array([[0, 0], [10, 0], [20, 0], [30, 0]]) @ turn
    irises_EC = (np.array([[5, 0], [25, 0]]) + gaze_px) @ turn
    return replace(face(), landmarks_KC=landmarks_KC, irises_EC=irises_EC.astype(np.float32))


def test_gaze_is_told_in_eye_widths_whatever_the_pose_and_size_of_the_face():
    assert gaze_error_percent(looking(0, 1, (2, 1)), looking(30, 3, (2, 1))) == pytest.approx(0, abs=1e-4)
    assert gaze_error_percent(looking(0, 1, (2, 1)), looking(30, 3, (-1, 1))) == pytest.approx(30, abs=1e-3)
    assert gaze_error_percent(looking(0, 1, (0, 0)), looking(-20, 2, (3, 4))) == pytest.approx(50, abs=1e-3)
    assert np.isnan(gaze_error_percent(face(), looking(0, 1, (0, 0))))
