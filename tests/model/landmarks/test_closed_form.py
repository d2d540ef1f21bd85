"""The landmark base, on faces whose coefficients are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from federation.reach import FARTHEST
from model.landmarks.closed_form import (
    FORMS,
    LARGEST_COEFFICIENT,
    LINEAR,
    ROTATED,
    VECTOR_LENGTH,
    Form,
    Moments,
    Reduced,
    fit,
    from_vector,
    still,
    summed,
    to_vector,
)
from model.networks.landmark_base import LandmarkBase, form_features, form_targets

NUM_IDENTITIES = 3

Frames = tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]
"""Identity, [F, 3] pose, [F, 18] strength, [F, 68, 2] landmarks."""


def true_base(form: Form) -> LandmarkBase:
    """Coefficients of a few hundredths of the frame; landmarks around their mean point."""
    rng = np.random.default_rng(7)
    base = LandmarkBase(NUM_IDENTITIES)

    def centred(*shape: int) -> np.ndarray:
        values = rng.normal(0, 0.05, (*shape, form.num_targets)).reshape(*shape, 68, -1)
        return (values - values.mean(axis=-2, keepdims=True)).reshape(*shape, form.num_targets).astype(np.float32)

    own, shared = centred(NUM_IDENTITIES + 1, form.num_own), centred(form.num_shared)
    base.take(still(np.zeros((68, 2)), NUM_IDENTITIES) | {f"{form.name}_own": own, f"{form.name}_shared": shared})
    return base


def people(form: Form, num_frames: int = 1000) -> list[Frames]:
    """Identities 0 and 2, with other average poses and action units."""
    base, rng = true_base(form), np.random.default_rng(3)
    made = []
    for identity in (0, 2):
        pose_FC = torch.from_numpy(rng.normal(5 * identity, 15, (num_frames, 3)))
        strength_FA = torch.from_numpy(rng.uniform(0, 0.4 + 0.3 * identity, (num_frames, 18)))
        with torch.no_grad():
            landmarks_FKC = base.double()(torch.full((num_frames,), identity), pose_FC, strength_FA)
        made.append((identity, pose_FC, strength_FA, landmarks_FKC))
    return made


def moments(frames: Sequence[Frames], form: Form) -> Moments:
    sums = Moments.zeros(form, NUM_IDENTITIES)
    for identity, pose_FC, strength_FA, landmarks_FKC in frames:
        features, targets = form_features(form, pose_FC, strength_FA), form_targets(form, landmarks_FKC)
        sums.add(features.numpy(), targets.numpy(), identity)
    return sums


def fitted(frames: Sequence[Frames]) -> dict[str, np.ndarray]:
    num_frames = sum(len(pose_FC) for _, pose_FC, _, _ in frames)
    reduced = {form: Reduced.of(form, moments(frames, form)) for form in FORMS}
    return fit(reduced, np.array([True, False, True]), num_frames)


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_the_form_that_made_the_landmarks_is_chosen_and_draws_them(form: Form) -> None:
    frames = people(form)
    coefficients = fitted(frames)
    (other,) = set(FORMS) - {form}
    assert not coefficients[f"{other.name}_own"].any() and not coefficients[f"{other.name}_shared"].any()
    base = LandmarkBase(NUM_IDENTITIES)
    base.take(coefficients)
    for identity, pose_FC, strength_FA, landmarks_FKC in frames:
        drawn = base(torch.full((len(pose_FC),), identity), pose_FC.float(), strength_FA.float())
        error, size = (drawn - landmarks_FKC).abs().mean(), landmarks_FKC.abs().mean()
        assert error < 0.03 * size


def test_an_identity_without_frames_is_zero_and_a_stranger_is_the_mean_of_the_others() -> None:
    own = fitted(people(LINEAR))["linear_own"]
    assert own.shape == (4, 1, 136) and not own[1].any()
    np.testing.assert_allclose(own[3], (own[0] + own[2]) / 2, atol=1e-7)


def test_shared_coefficients_of_people_apart_are_those_of_people_together() -> None:
    """Both have as many frames, so that the mean of their reduced moments weighs as all frames together do."""
    frames = people(ROTATED)
    together = Reduced.of(ROTATED, moments(frames, ROTATED))
    apart = [Reduced.of(ROTATED, moments([one], ROTATED)) for one in frames]
    mean = Reduced(
        own_IPX=apart[0].own_IPX,
        rest_QX=np.mean([one.rest_QX for one in apart], axis=0),
        square_1=np.mean([one.square_1 for one in apart], axis=0),
    )
    np.testing.assert_allclose(mean.coefficients(ROTATED), together.coefficients(ROTATED), atol=1e-9)
    assert mean.expected_error(ROTATED, 2000, 2) == pytest.approx(together.expected_error(ROTATED, 2000, 2))


def test_the_expected_error_by_hand() -> None:
    """One shared feature at work, of mean square 1, that explains 3 of 4: 1 left, and 2 of 80 seconds fitted."""
    reduced = Reduced.of(LINEAR, Moments.zeros(LINEAR, NUM_IDENTITIES))
    rest_QX = np.zeros_like(reduced.rest_QX)
    rest_QX[0, 0], rest_QX[0, LINEAR.num_shared] = 1.0, 3**0.5
    by_hand = Reduced(own_IPX=reduced.own_IPX, rest_QX=rest_QX, square_1=np.array([4.0]))
    assert by_hand.expected_error(LINEAR, 80 * 25, 1) == pytest.approx(1 / (1 - 2 / 80) ** 2, rel=1e-3)
    assert by_hand.expected_error(LINEAR, 25, 1) == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("num_sites", [2, 5])
def test_any_split_of_the_frames_gives_the_same_bits(num_sites: int) -> None:
    frames = people(LINEAR)
    sites: list[Moments] = [Moments.zeros(LINEAR, NUM_IDENTITIES) for _ in range(num_sites)]
    rng = np.random.default_rng(num_sites)
    for identity, pose_FC, strength_FA, landmarks_FKC in frames:
        features = form_features(LINEAR, pose_FC, strength_FA).numpy()
        targets = form_targets(LINEAR, landmarks_FKC).numpy()
        rows = np.array_split(rng.permutation(len(pose_FC)), num_sites)
        for site, rows_of_site in zip(sites, rows, strict=True):
            site.add(features[rows_of_site], targets[rows_of_site], identity)
    whole = moments(frames, LINEAR)
    for split in (sites, sites[::-1]):
        for got, wanted in zip(summed(split).arrays(), whole.arrays(), strict=True):
            assert got.tobytes() == wanted.tobytes()


def test_a_vector_is_as_long_as_it_says_and_comes_back_for_each_identity() -> None:
    reduced = {form: Reduced.of(form, moments(people(LINEAR)[:1], form)) for form in FORMS}
    of_one = {
        form: Reduced(own_IPX=one.own_IPX[:1], rest_QX=one.rest_QX, square_1=one.square_1)
        for form, one in reduced.items()
    }
    vector = to_vector(of_one)
    assert vector.shape == (VECTOR_LENGTH,)
    for form, back in from_vector(vector, 2).items():
        assert back.own_IPX.shape[0] == 2
        np.testing.assert_array_equal(back.own_IPX[1], of_one[form].own_IPX[0])
        np.testing.assert_array_equal(back.rest_QX, of_one[form].rest_QX)
        np.testing.assert_array_equal(back.square_1, of_one[form].square_1)


def test_coefficients_are_cut_where_sites_look_for_it() -> None:
    assert LARGEST_COEFFICIENT <= FARTHEST
    (identity, pose_FC, strength_FA, _), *_ = people(LINEAR)
    far = torch.zeros(len(pose_FC), 68, 2)
    far[:, :, 0] = 10 * (pose_FC[:, :1] / 45)  # ten sides of the frame for 45 degrees
    largest = max(np.abs(values).max() for values in fitted([(identity, pose_FC, strength_FA, far)]).values())
    assert largest == pytest.approx(LARGEST_COEFFICIENT)


def test_one_face_that_never_moves() -> None:
    face_KC = np.random.default_rng(0).uniform(0, 1, (68, 2))
    base = LandmarkBase(NUM_IDENTITIES)
    base.take(still(face_KC, NUM_IDENTITIES))
    drawn = base(torch.tensor([0, 3]), torch.tensor([[0.0, 0.0, 0.0], [10.0, 40.0, -20.0]]), torch.ones(2, 18))
    np.testing.assert_allclose(drawn.numpy(), np.repeat([face_KC - face_KC.mean(axis=0)], 2, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("totals_2", lambda totals: totals + np.array([1, 0]), "are of 2001 frames, wanted 2000"),
        ("totals_2", lambda totals: totals * np.array([1, 1e3]), "landmarks farther than 2 sides"),
        ("own_IPX", lambda own: own * 100, "are more than 4 a frame"),
        ("shared_QX", lambda shared: shared * 100, "are more than 4 a frame"),
        ("shared_QX", lambda shared: -shared, "are no sums of squares"),
        ("own_IPX", lambda own: -own, "are no sums of squares"),
    ],
)
def test_sums_that_no_frames_can_have_are_told(
    name: str, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    counts_I = np.array([1000.0, 0, 1000])
    good = moments(people(LINEAR), LINEAR)
    assert good.why_impossible(LINEAR, counts_I) == ""
    arrays = {one: getattr(good, one) for one in ("own_IPX", "shared_QX", "totals_2")}
    bad = Moments(**arrays | {name: change(arrays[name])})
    assert re.search(words, bad.why_impossible(LINEAR, counts_I))
