import numpy as np
import pytest

from model.landmarks.likeness import likeness_features, nearest, spread

SIDE = 100


def faces(num):
    return np.repeat(np.random.default_rng(0).uniform(30, 70, (1, 68, 2)), num, axis=0)


def distance(landmarks_FKC, pose_FC=None):
    features = likeness_features(landmarks_FKC, np.zeros((2, 3)) if pose_FC is None else pose_FC, SIDE)
    return np.nansum(np.abs(features[0] - features[1]))


def on_a_line(*places):
    return np.array(places, np.float32)[:, None]


def test_a_face_that_is_only_elsewhere_in_the_frame_is_alike():
    landmarks = faces(2)
    landmarks[1] += [7, -3]
    assert distance(landmarks) == pytest.approx(0, abs=1e-6)


def test_an_outline_a_hundredth_of_the_side_away_counts_as_a_hundredth_of_its_share():
    """Eight landmarks of the outline move one way and eight the other, so that the centre stays."""
    landmarks = faces(2)
    landmarks[1, :8] += [1, 1]
    landmarks[1, 8:16] -= [1, 1]
    assert distance(landmarks) == pytest.approx(0.01 * 16 / 68, rel=1e-4)


def test_lips_that_open_count_more_than_their_landmarks_alone():
    landmarks = faces(2)
    upper, lower = [61, 62, 63], [67, 66, 65]
    landmarks[:, upper], landmarks[:, lower] = 50, 50
    landmarks[1, upper, 1] -= 2
    landmarks[1, lower, 1] += 2
    as_landmarks = 6 * 0.02 / 136
    assert distance(landmarks) == pytest.approx(as_landmarks + 0.5 * 0.04, rel=1e-4)


def test_a_turned_head_is_unlike():
    pose = np.array([[0, 0, 0], [0, 9, 0]])
    assert distance(faces(2), pose) == pytest.approx(0.5 * 9 / 270, rel=1e-4)


def test_the_nearest_come_first_and_are_no_more_than_there_are():
    features = on_a_line(0, 5, 3, 9)
    assert nearest(features, np.array([4.2], np.float32), 3) == [1, 2, 0]
    assert nearest(features, np.array([8], np.float32), 9) == [3, 1, 2, 0]


def test_what_is_held_gives_way_only_to_what_is_clearly_more_alike():
    features = on_a_line(0, 10)
    assert nearest(features, np.array([5.2], np.float32), 1) == [1]
    assert nearest(features, np.array([5.2], np.float32), 1, held=[0]) == [0]
    assert nearest(features, np.array([7], np.float32), 1, held=[0]) == [1]


def test_a_choice_along_a_clip_does_not_flicker():
    features, held, choices = on_a_line(0, 10), [], []
    for place in [4.9, 5.1, 4.9, 5.1, 9, 5.1, 4.9, 1]:
        held = nearest(features, np.array([place], np.float32), 1, held=held)
        choices += held
    assert choices == [0, 0, 0, 0, 1, 1, 1, 0]


def test_the_first_of_the_held_frames_does_not_flicker_either():
    features = on_a_line(0, 10, 100)
    assert nearest(features, np.array([5.2], np.float32), 2) == [1, 0]
    assert nearest(features, np.array([5.2], np.float32), 2, held=[0, 1]) == [0, 1]


def test_frames_are_spread_from_the_most_ordinary_one_to_the_farthest():
    features = on_a_line(0, 4, 5, 6, 20)  # the median is 5, the mean 7
    assert spread(features, np.ones(5), 3) == [2, 4, 0]
    assert spread(features, np.ones(5), 9) == [2, 4, 0, 1, 3]


def test_a_blurred_frame_counts_as_nearer_than_it_is():
    features = on_a_line(0, 8, 9, 10, 21, 20)  # the median is 9.5
    assert spread(features, np.array([1, 1, 1, 1, 0.3, 1]), 3) == [2, 5, 0]
    assert spread(features, np.ones(6), 3) == [2, 4, 0]
    assert len(spread(features, np.zeros(6), 2)) == 2  # pictures without any edge at all


def eyes(gaze_px, gap_px=3.0):
    """Two frames with eyes 10 px wide, level, and irises that far from their middles in the second."""
    landmarks_FKC = faces(2)
    for first, left in ((36, 30), (42, 60)):
        eye = [(0, 0), (3, -gap_px / 2), (7, -gap_px / 2), (10, 0), (7, gap_px / 2), (3, gap_px / 2)]
        landmarks_FKC[:, first : first + 6] = [(left + x, 40 + y) for x, y in eye]
    irises_FEC = np.array([[[35, 40], [65, 40]]] * 2, np.float32)
    irises_FEC[1] += gaze_px
    return landmarks_FKC, irises_FEC


def test_a_glance_counts_by_a_tenth_of_its_way_in_eye_widths():
    landmarks, irises = eyes(gaze_px=(2, 1))
    features = likeness_features(landmarks, np.zeros((2, 3)), SIDE, irises)
    assert np.abs(features[0] - features[1]).sum() == pytest.approx(0.1 * (0.2 + 0.1), rel=1e-4)


def test_a_glance_that_one_frame_does_not_show_counts_nothing():
    landmarks, irises = eyes(gaze_px=(2, 1))
    winking = landmarks.copy()
    winking[1, 42:48, 1] = 40
    seen, half, unknown = (
        likeness_features(shown, np.zeros((2, 3)), SIDE, known)
        for shown, known in ((landmarks, irises), (winking, irises), (landmarks, None))
    )
    assert np.isnan(half[1, -2:]).all() and not np.isnan(half[1, -4:-2]).any() and np.isnan(unknown[:, -4:]).all()
    looking_on, glancing = seen
    assert nearest(np.stack([glancing, unknown[0]]), looking_on, 1) == [1]
    assert nearest(seen, unknown[0], 2) == [0, 1]  # equally alike


def test_the_ordinary_face_is_found_where_gazes_are_unknown():
    features = np.array([[0, np.nan], [4, np.nan], [5, np.nan], [9, 1]], np.float32)
    assert spread(features, np.ones(4), 2) == [1, 3]
