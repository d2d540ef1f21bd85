"""Promises of reenact.movement."""

import numpy as np
import pytest

from model.batch import AU_ORDER
from model.errors import ConfigError
from reenact.movement import Movement, Strengths, led


def moved(pose, intensity, presence=0.0):
    return Movement(
        pose_NC=np.array([[pose] * 3], np.float32),
        au_presence_NA=np.full((1, 18), presence, np.float32),
        au_intensity_NA=np.full((1, 18), intensity, np.float32),
    )


def test_absolute_motion_at_full_strength_is_the_driving_one_to_the_bit():
    rng = np.random.default_rng(0)
    own, driving = moved(rng.normal(), 3.3), moved(rng.normal() * 30, 1.7, 1)
    result = led(own, driving, own, Strengths())
    np.testing.assert_array_equal(result.pose_NC, driving.pose_NC)
    np.testing.assert_array_equal(result.au_intensity_NA, driving.au_intensity_NA)
    np.testing.assert_array_equal(result.au_presence_NA, driving.au_presence_NA)


def test_relative_motion_adds_the_change_from_the_reference_within_what_a_face_can_do():
    result = led(moved(-5, 1), moved(20, 4), moved(8, 1), Strengths())
    assert (result.pose_NC == 7).all() and (result.au_intensity_NA == 4).all()
    assert (led(moved(0, 4), moved(0, 5), moved(0, 1), Strengths()).au_intensity_NA == 5).all()


def test_every_region_moves_by_its_own_strength():
    strengths = Strengths(pose=0, mouth=0.5, eyes=2, brows=1)
    result = led(moved(10, 1), moved(40, 2), moved(10, 1), strengths)
    by_unit = dict(zip(AU_ORDER, result.au_intensity_NA[0].tolist(), strict=True))
    assert (result.pose_NC == 10).all()
    assert {unit for unit, value in by_unit.items() if value == 2} == {1, 2, 4}  # brows
    assert {unit for unit, value in by_unit.items() if value == 3} == {5, 6, 7, 45}  # lids
    assert {unit for unit, value in by_unit.items() if value == 1.5} == {9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28}


def test_strengths_are_read_from_words():
    assert Strengths.parse(["mouth=1.5", "pose=0"]) == Strengths(mouth=1.5, pose=0)
    assert Strengths.parse([]) == Strengths()


@pytest.mark.parametrize(
    ("text", "words"),
    [("nose=1", "a region of pose, mouth, eyes, brows"), ("mouth", "REGION=NUMBER"), ("mouth=4", "wanted 0 to 3")],
)
def test_other_words_are_an_error_that_says_what_was_wanted(text, words):
    with pytest.raises(ConfigError, match=words):
        Strengths.parse([text])
