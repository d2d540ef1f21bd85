from dataclasses import replace

import numpy as np
import pytest
import torch

from model.config import ModelConfig, config_from_flat
from model.designs.registry import DESIGNS, build_networks
from model.errors import ConfigError
from model.landmarks.closed_form import still
from reenact.face_frame import movement_of
from reenact.faces import face_of_shard
from reenact.guidance import (
    LandmarkStatistics,
    estimated_statistics,
    has_own_statistics,
    lgan_landmarks,
    lst_landmarks,
)
from reenact.guidance_choice import Guidance, MotionKind, choose_guidance, is_relative
from reenact.movement import Reference, Strengths
from reenact.reenactor import Reenactor, Transfer
from tests.support.shards import write_random_shard
from tests.support.small_face import small_face

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
    reenactor = Reenactor(checkpoint, torch.device("cpu"))
    landmarks = targets(reenactor, Guidance.LGAN, small_face(9, "ben"), faces)
    assert landmarks.shape == (3, 68, 2) and landmarks.dtype == np.float32
    np.testing.assert_allclose(landmarks.mean(axis=1), driving.mean(axis=1), atol=1e-4)
    drawn = lgan_landmarks(checkpoint.networks(), 1, movement_of(faces))
    moved = driving.mean(axis=1, keepdims=True) - drawn.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(landmarks, drawn + moved, atol=1e-4)


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


def test_whoever_joined_after_the_statistics_were_agreed_on_counts_for_nobody_and_is_a_stranger(checkpoint):
    nothing = np.zeros((1, 68, 2), np.float32)
    joined = replace(
        checkpoint,
        identities=[*checkpoint.identities, "cem"],
        landmark_mean_IKC=np.concatenate([checkpoint.landmark_mean_IKC, nothing]),
        landmark_std_IKC=np.concatenate([checkpoint.landmark_std_IKC, nothing]),
    )
    picture = small_face(0).landmarks_KC[None]
    without, estimated = estimated_statistics(checkpoint, picture), estimated_statistics(joined, picture)
    np.testing.assert_array_equal(estimated.mean_KC, without.mean_KC)
    np.testing.assert_array_equal(estimated.std_KC, without.std_KC)
    reenactor = Reenactor(joined, torch.device("cpu"))
    np.testing.assert_array_equal(reenactor.statistics("cem", picture).std_KC, without.std_KC)
    assert reenactor.choose(Guidance.AUTO, small_face(0, "cem"), "") is Guidance.LST
    assert reenactor.choose(Guidance.AUTO, small_face(0, "ben"), "") is Guidance.LGAN


def test_a_stranger_is_restyled_with_all_frames_of_them_that_are_at_hand(checkpoint, tmp_path):
    """Which one picture is too few for: everybody's landmarks would vary as much, and Eq 3.3 align no variance."""
    source, driving = (write_random_shard(tmp_path, name, size_px=64, seed=len(name)) for name in ("x", "yy"))
    faces = [face_of_shard(shard, 0, 32) for shard in (source, driving)]
    reenactor = Reenactor(checkpoint, torch.device("cpu"))
    drawing, _ = reenactor.draw_pair(*faces, Guidance.LST)
    own, other = (estimated_statistics(checkpoint, shard.landmarks_FKC / 2) for shard in (source, driving))
    expected = lst_landmarks(faces[1].landmarks_KC[None], other, own)[0]
    np.testing.assert_allclose(drawing.landmarks_KC, expected, atol=1e-4)
    assert abs(own.std_KC / other.std_KC - 1).max() > 0.1
    alone = [replace(face, known_NKC=None) for face in faces]
    assert abs(reenactor.draw_pair(*alone, Guidance.LST)[0].landmarks_KC - expected).max() > 0.5


@pytest.fixture
def based(checkpoint):
    """The checkpoint with a base in which a turn of 45 degrees moves every point by a tenth of the frame."""
    settings = checkpoint.settings | {"lgan-base": "closed"}
    networks = build_networks(config_from_flat(ModelConfig, settings), checkpoint.part_sizes, seed=0)
    coefficients = still(np.zeros((68, 2)), 2)
    coefficients["linear_shared"][1, ::2] = np.where(np.arange(68) % 2, 0.1, -0.1)  # yaw, on x
    networks.start_from(checkpoint.landmark_mean_IKC, coefficients)
    return replace(checkpoint, settings=settings, tensors=networks.travelling_tensors())


def turned(seed, yaw_deg, identity="", shift_px=0.0):
    face = small_face(seed, identity)
    return replace(
        face, pose_C=np.array([0, yaw_deg, 0], np.float32), landmarks_KC=face.landmarks_KC + np.float32(shift_px)
    )


def targets(reenactor, guidance, source, driving, **how):
    statistics = reenactor.statistics("", driving[0].landmarks_KC[None])
    return reenactor.target_landmarks(
        Transfer(guidance=guidance, driving_statistics=statistics, **how), source, driving
    )


def reference(face):
    return Reference(movement=movement_of([face]), landmarks_KC=face.landmarks_KC)


def test_base_moves_a_strangers_own_landmarks_as_the_driving_head_turns(based):
    reenactor = Reenactor(based, torch.device("cpu"))
    source, driving = turned(0, 10), [turned(1, 55), turned(2, 10)]
    assert reenactor.choose(Guidance.AUTO, source, "") is Guidance.BASE
    moved = targets(reenactor, Guidance.BASE, source, driving)
    wanted = np.repeat([source.landmarks_KC], 2, axis=0)
    wanted[0, :, 0] += np.where(np.arange(68) % 2, 3.2, -3.2)  # 45 degrees of a frame of 32 px
    centres = np.stack([face.landmarks_KC.mean(axis=0) for face in driving])
    wanted += (centres - source.landmarks_KC.mean(axis=0))[:, None]
    np.testing.assert_allclose(moved, wanted, atol=1e-4)


def test_relative_takes_the_change_to_the_reference_and_leaves_the_source_where_it_is(based):
    reenactor = Reenactor(based, torch.device("cpu"))
    source, clip = turned(0, -5), [turned(1, 20), turned(1, 65, shift_px=2.0)]
    moved = targets(reenactor, Guidance.BASE, source, clip, reference=reference(clip[0]))
    np.testing.assert_allclose(moved[0], source.landmarks_KC, atol=1e-4)
    wanted = source.landmarks_KC + 2
    wanted[:, 0] += np.where(np.arange(68) % 2, 3.2, -3.2)
    np.testing.assert_allclose(moved[1], wanted, atol=1e-4)


@pytest.mark.parametrize("guidance", [Guidance.DRIVING, Guidance.LST, Guidance.LGAN])
def test_relative_starts_from_the_sources_own_landmarks_whatever_guides(checkpoint, guidance):
    reenactor, source = Reenactor(checkpoint, torch.device("cpu")), small_face(0, "ana")
    clip = [small_face(1), small_face(2)]
    moved = targets(reenactor, guidance, source, clip, reference=reference(clip[0]))
    np.testing.assert_allclose(moved[0], source.landmarks_KC, atol=1e-4)
    assert np.abs(moved[1] - source.landmarks_KC).max() > 0.01
    if guidance is Guidance.DRIVING:
        change = clip[1].landmarks_KC - clip[0].landmarks_KC
        np.testing.assert_allclose(moved[1], source.landmarks_KC + change, atol=1e-4)


def test_half_the_strength_of_the_pose_is_half_the_turn_and_half_the_way(based):
    reenactor = Reenactor(based, torch.device("cpu"))
    source, clip = turned(0, -5), [turned(1, 20), turned(1, 65, shift_px=2.0)]
    half = Strengths(pose=0.5)
    moved = targets(reenactor, Guidance.BASE, source, clip, reference=reference(clip[0]), strengths=half)
    wanted = source.landmarks_KC + 1
    wanted[:, 0] += np.where(np.arange(68) % 2, 1.6, -1.6)
    np.testing.assert_allclose(moved[1], wanted, atol=1e-4)


def test_strengths_need_landmarks_that_are_made_from_a_movement(checkpoint):
    reenactor = Reenactor(checkpoint, torch.device("cpu"))
    with pytest.raises(ConfigError, match="--strength needs landmarks by lgan or base, these are by lst"):
        reenactor.choose(Guidance.LST, small_face(0), "", Strengths(mouth=2))
    with pytest.raises(ConfigError, match="--strength needs"):
        reenactor.draw_pair(small_face(0), small_face(1), Guidance.AUTO, Strengths(mouth=2))


def test_relative_needs_a_clip_and_base_a_base(checkpoint):
    with pytest.raises(ConfigError, match="--motion relative needs a driving clip"):
        is_relative(MotionKind.RELATIVE, GLR, has_clip=False)
    assert is_relative(MotionKind.AUTO, GLR, has_clip=True) and not is_relative(MotionKind.AUTO, GLR, has_clip=False)
    assert not is_relative(MotionKind.ABSOLUTE, GLR, has_clip=True)
    assert not is_relative(MotionKind.AUTO, DESIGNS["x2face"], has_clip=True)
    with pytest.raises(ConfigError, match="x2face is driven by the frame itself"):
        is_relative(MotionKind.RELATIVE, DESIGNS["x2face"], has_clip=True)
    with pytest.raises(ConfigError, match="needs a checkpoint that was trained with lgan-base = closed"):
        Reenactor(checkpoint, torch.device("cpu")).choose(Guidance.BASE, small_face(0), "")


def test_a_known_person_is_still_drawn_by_lgan(based):
    assert Reenactor(based, torch.device("cpu")).choose(Guidance.AUTO, small_face(0, "ana"), "") is Guidance.LGAN
