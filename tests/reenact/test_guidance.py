from dataclasses import replace

import numpy as np
import pytest
import torch

from model.designs.registry import DESIGNS
from model.errors import ConfigError
from reenact.guidance import (
    LandmarkStatistics,
    estimated_statistics,
    has_own_statistics,
    lgan_landmarks,
    lst_landmarks,
)
from reenact.guidance_choice import Guidance, choose_guidance
from reenact.reenactor import Reenactor, movement_of
from tests.small_face import small_face

GLR = DESIGNS["glr"]


@pytest.mark.parametrize(
    ("trained", "source_index", "same_person", "expected"),
    [
        ("lgan", 0, True, Guidance.DRIVING),
        ("lgan", 0, False, Guidance.LGAN),
        ("lgan", None, False, Guidance.LST),
        ("lst", 0, False, Guidance.LST),
        ("driving", None, False, Guidance.DRIVING),
    ],
)
def test_auto_follows_the_thesis(trained, source_index, same_person, expected):
    chosen = choose_guidance(Guidance.AUTO, GLR, trained=trained, source_index=source_index, same_person=same_person)
    assert chosen is expected


@pytest.mark.parametrize("requested", [Guidance.DRIVING, Guidance.LST, Guidance.LGAN])
def test_a_request_overrides_the_rule(requested):
    assert choose_guidance(requested, GLR, trained="lgan", source_index=1, same_person=True) is requested


def test_lgan_for_an_unknown_person_says_what_to_do():
    with pytest.raises(ConfigError, match=r"--identity.*--landmarks lst"):
        choose_guidance(Guidance.LGAN, GLR, trained="lgan", source_index=None, same_person=False)


def test_a_design_without_a_landmark_gan_is_guided_by_lst_and_says_what_it_can():
    without = replace(GLR, name="other", guidances=("driving", "lst"))
    chosen = choose_guidance(Guidance.AUTO, without, trained="lgan", source_index=0, same_person=False)
    assert chosen is Guidance.LST
    with pytest.raises(ConfigError, match=r"--landmarks lgan: other can be guided by driving or lst; use auto"):
        choose_guidance(Guidance.LGAN, without, trained="lgan", source_index=0, same_person=False)


def test_lgan_landmarks_lie_at_the_driving_centre(checkpoint):
    faces = [small_face(seed) for seed in range(3)]
    driving = np.stack([face.landmarks_KC for face in faces])
    landmarks = lgan_landmarks(
        checkpoint.networks(),
        1,
        movement_of(faces),
        driving,
    )
    assert landmarks.shape == (3, 68, 2) and landmarks.dtype == np.float32
    np.testing.assert_allclose(landmarks.mean(axis=1), driving.mean(axis=1), atol=1e-4)


def test_lst_between_equal_statistics_changes_nothing():
    driving = np.random.default_rng(0).uniform(0, 32, (4, 68, 2)).astype(np.float32)
    same = LandmarkStatistics(mean_KC=driving.mean(axis=0), std_KC=np.full((68, 2), 2.0, np.float32))
    np.testing.assert_allclose(lst_landmarks(driving, same, same), driving, atol=1e-4)


def test_many_frames_of_an_unknown_person_outweigh_the_prior(checkpoint):
    rng = np.random.default_rng(3)
    true_mean, true_std = rng.uniform(8, 24, (68, 2)), rng.uniform(0.5, 2, (68, 2))
    frames = (true_mean + true_std * rng.normal(size=(20_000, 68, 2))).astype(np.float32)
    statistics = estimated_statistics(checkpoint, frames)
    np.testing.assert_allclose(statistics.mean_KC, true_mean, atol=0.1)
    np.testing.assert_allclose(statistics.std_KC, true_std, atol=0.1)


def test_one_picture_takes_the_pooled_spread_of_the_known_identities(checkpoint):
    picture = small_face(0).landmarks_KC[None]
    pooled = np.sqrt((checkpoint.landmark_std_IKC**2).mean(axis=0))
    np.testing.assert_allclose(estimated_statistics(checkpoint, picture).std_KC, pooled, rtol=1e-5)


def test_one_picture_gives_a_mean_between_itself_and_the_known_average(checkpoint):
    """Two known people; prior weight by hand: within / (within + between)."""
    picture = small_face(0).landmarks_KC[None]
    shapes = checkpoint.landmark_mean_IKC - checkpoint.landmark_mean_IKC.mean(axis=1, keepdims=True)
    within = (checkpoint.landmark_std_IKC.astype(float) ** 2).mean()
    between = ((shapes[0] - shapes[1]).astype(float) ** 2 / 2).mean()
    weight = within / (within + between)
    prior = shapes.mean(axis=0) + picture[0].mean(axis=0)
    expected = weight * prior + (1 - weight) * picture[0]
    np.testing.assert_allclose(estimated_statistics(checkpoint, picture).mean_KC, expected, atol=1e-4)


def test_a_federation_of_one_identity_trusts_picture_and_prior_alike(checkpoint):
    one = replace(
        checkpoint,
        landmark_mean_IKC=checkpoint.landmark_mean_IKC[:1],
        landmark_std_IKC=checkpoint.landmark_std_IKC[:1],
    )
    picture = small_face(0).landmarks_KC[None]
    centred = one.landmark_mean_IKC[0] - one.landmark_mean_IKC[0].mean(axis=0) + picture[0].mean(axis=0)
    np.testing.assert_allclose(estimated_statistics(one, picture).mean_KC, (centred + picture[0]) / 2, atol=1e-4)


def test_one_mean_face_for_all_trusts_picture_and_prior_alike(checkpoint):
    """As a federation under secure aggregation has it: rows that are the same say nothing about how people differ."""
    equal = replace(
        checkpoint,
        landmark_mean_IKC=checkpoint.landmark_mean_IKC[[0, 0]],
        landmark_std_IKC=checkpoint.landmark_std_IKC[[0, 0]],
    )
    assert has_own_statistics(checkpoint) and not has_own_statistics(equal)
    picture = small_face(0).landmarks_KC[None]
    centred = equal.landmark_mean_IKC[0] - equal.landmark_mean_IKC[0].mean(axis=0) + picture[0].mean(axis=0)
    estimated = estimated_statistics(equal, picture)
    np.testing.assert_allclose(estimated.mean_KC, (centred + picture[0]) / 2, atol=1e-4)
    known = Reenactor(equal, torch.device("cpu")).statistics(equal.identities[1], picture)
    np.testing.assert_array_equal(known.mean_KC, estimated.mean_KC)
