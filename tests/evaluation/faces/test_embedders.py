import numpy as np
import pytest

from data_partition.faces.sface import five_points, similarity_transform
from evaluation.faces.embedders import EMBEDDERS, embedder_named
from model.errors import ConfigError, WeightsError


def test_five_points_are_eye_centres_nose_tip_and_mouth_corners():
    landmarks_KC = np.zeros((68, 2))
    landmarks_KC[36:42] = [10, 20]
    landmarks_KC[42:48, 0] = [30, 32, 34, 36, 38, 40]
    landmarks_KC[[30, 48, 54]] = [[20, 30], [15, 40], [25, 41]]
    np.testing.assert_allclose(five_points(landmarks_KC), [[10, 20], [35, 0], [20, 30], [15, 40], [25, 41]])


def test_similarity_transform_recovers_rotation_scale_and_shift():
    points = np.random.default_rng(0).uniform(0, 100, (5, 2))
    angle, scale, shift = np.deg2rad(20), 0.7, np.array([5, -3])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = similarity_transform(points, scale * points @ rotation.T + shift)
    np.testing.assert_allclose(found, np.column_stack([scale * rotation, shift]), atol=1e-9)


def test_an_unknown_embedder_names_the_known_ones():
    with pytest.raises(ConfigError, match="got 'facenet', wanted one of sface, arcface, dlib"):
        embedder_named("facenet")


def test_a_missing_model_says_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.delenv("FEDREENACT_ARCFACE_FILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"put it at ~/\.insightface/models/buffalo_l/w600k_r50\.onnx or"):
        embedder_named("arcface")


@pytest.mark.parametrize("name", list(EMBEDDERS))
def test_embeddings_have_unit_length_and_follow_the_face(name):
    try:
        embedder = embedder_named(name)
    except WeightsError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    landmarks_KC = rng.uniform(40, 90, (68, 2))
    embedding = embedder.embed(frame, landmarks_KC)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(embedder.embed(frame, landmarks_KC), embedding, atol=1e-5)
    assert not np.allclose(embedder.embed(frame[::-1], landmarks_KC), embedding, atol=1e-3)
