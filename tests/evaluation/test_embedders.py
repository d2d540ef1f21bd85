import numpy as np

from evaluation.embedders import five_points, similarity_transform


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
