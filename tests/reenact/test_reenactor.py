from dataclasses import replace

import numpy as np
import pytest
import torch

from federation.settings import Settings
from model.designs.registry import DESIGNS, build_networks
from model.errors import ConfigError, DataError
from model.landmarks.face_mesh import FaceMesh
from model.landmarks.geometry import draw_heatmap
from model.landmarks.irises import draw_irises
from reenact.face_frame import FaceFrame, movement_of
from reenact.faces import face_of_shard
from reenact.guidance_choice import Guidance, MotionKind
from reenact.movement import Reference, Strengths
from reenact.person import Person, references_from
from reenact.reenactor import Reenactor, Transfer
from tests.model.conftest import held_meshes
from tests.support.shards import write_random_shard
from tests.support.small_face import PART_SIZES, SMALL, small_face


@pytest.fixture
def reenactor(checkpoint) -> Reenactor:
    return Reenactor(checkpoint, torch.device("cpu"))


def test_every_stage_is_a_frame_of_the_models_size(reenactor):
    source, driving = small_face(0), [small_face(1), small_face(2)]
    targets = np.stack([face.landmarks_KC for face in driving])
    drawings = reenactor.draw(source, driving, targets)
    assert len(drawings) == 2
    for drawing in drawings:
        assert list(drawing.stages) == ["Heatmap", "Warped source", "Parts"]
        for frame in (drawing.result, *drawing.stages.values()):
            assert frame.shape == (32, 32, 3) and frame.dtype == np.uint8


def test_a_frame_is_drawn_alike_alone_and_among_others(reenactor):
    source, driving = small_face(0), [small_face(seed) for seed in range(1, 5)]
    targets = np.stack([face.landmarks_KC for face in driving])
    together = reenactor.draw(source, driving, targets)
    alone = reenactor.draw(source, driving[2:3], targets[2:3])
    difference = together[2].result.astype(int) - alone[0].result.astype(int)
    assert np.abs(difference).max() <= 1


def test_driving_guidance_leaves_the_driving_landmarks_as_they_are(reenactor):
    source, driving = small_face(0, "ana"), [small_face(1, "ana")]
    statistics = reenactor.statistics("ana", driving[0].landmarks_KC[None])
    transfer = Transfer(guidance=Guidance.DRIVING, driving_statistics=statistics)
    targets = reenactor.target_landmarks(transfer, source, driving)
    np.testing.assert_array_equal(targets[0], driving[0].landmarks_KC)


def test_lst_and_lgan_differ_by_source_person(reenactor):
    driving = [small_face(1)]
    statistics = reenactor.statistics("", driving[0].landmarks_KC[None])
    for guidance in (Guidance.LST, Guidance.LGAN):
        transfer = Transfer(guidance=guidance, driving_statistics=statistics)
        ana, ben = (reenactor.target_landmarks(transfer, small_face(0, name), driving) for name in ("ana", "ben"))
        assert np.abs(ana - ben).max() > 0.01


def test_choice_depends_on_who_is_known(reenactor):
    assert reenactor.choose(Guidance.AUTO, small_face(0, "ana"), "ana") is Guidance.DRIVING
    assert reenactor.choose(Guidance.AUTO, small_face(0, "ana"), "") is Guidance.LGAN
    assert reenactor.choose(Guidance.AUTO, small_face(0), "") is Guidance.LST


def test_unknown_identity_names_the_known_ones(reenactor):
    with pytest.raises(ConfigError, match=r"'eva'.*ana, ben"):
        reenactor.known_identity("eva")


def of_design(checkpoint, network, *, noise=0.0, is_mixed=False):
    config, rng = replace(SMALL, network=network), np.random.default_rng(1)
    tensors = build_networks(config, PART_SIZES, seed=0).travelling_tensors()
    tensors = {name: (value + rng.normal(0, noise, value.shape)).astype(np.float32) for name, value in tensors.items()}
    settings = Settings(model=config).to_flat()
    known = replace(checkpoint, settings=settings, tensors=tensors)
    return Reenactor(known, torch.device("cpu"), is_mixed=is_mixed)


def with_mesh(seed):
    (vertices_VC,) = held_meshes(1, torch.Generator().manual_seed(seed))
    mesh = FaceMesh(vertices_VC=vertices_VC.numpy(), blendshapes_B=np.zeros(52, np.float32))
    return replace(small_face(seed), mesh=mesh)


@pytest.mark.parametrize("network", DESIGNS)
def test_in_mixed_precision_every_network_draws_what_it_draws_in_full(checkpoint, network):
    full, mixed = (of_design(checkpoint, network, noise=0.02, is_mixed=is_mixed) for is_mixed in (False, True))
    faces = [with_mesh(seed) for seed in range(3)]
    targets = np.stack([face.landmarks_KC for face in faces[1:]])
    for ours, theirs in zip(*(one.draw(faces[0], faces[1:], targets) for one in (full, mixed)), strict=True):
        assert np.abs(ours.result.astype(int) - theirs.result).mean() < 4  # of white noise, on which each shift shows
        if ours.flow_CHW is not None:
            np.testing.assert_allclose(ours.flow_CHW, theirs.flow_CHW, atol=0.02)
        for name, stage_HWC in ours.stages.items():
            assert np.abs(stage_HWC.astype(int) - theirs.stages[name]).mean() < 4
    assert full.weights_sha256() == mixed.weights_sha256()


def test_x2face_is_driven_by_the_frame_and_refuses_landmark_guidance(checkpoint):
    reenactor = of_design(checkpoint, "x2face")
    drawing, guidance = reenactor.draw_pair(small_face(0, "ana"), small_face(1, "ben"), Guidance.AUTO)
    assert guidance is Guidance.DRIVING
    assert list(drawing.stages) == ["Embedded face"]
    np.testing.assert_array_equal(drawing.result, small_face(0).image_HWC)  # untrained: a copy of the source
    with pytest.raises(ConfigError, match="driven by the frame itself"):
        reenactor.choose(Guidance.LGAN, small_face(0, "ana"), "ben")


@pytest.fixture(params=[name for name, design in DESIGNS.items() if design.takes_reference])
def by_points(checkpoint, request) -> Reenactor:
    return of_design(checkpoint, request.param)


def test_points_of_its_own_are_driven_by_the_frame_as_it_is_or_relative_to_one_of_its_clip(by_points, tmp_path):
    source = small_face(0, "ana")
    shard = write_random_shard(tmp_path, "ben", num_frames=12, seed=3, size_px=32)
    reference = face_of_shard(shard, 4, 32).of_clip_like(source)
    driving = face_of_shard(shard, (reference.row + 1) % 12, 32)

    def drawn(face, motion):
        drawing, guidance = by_points.draw_pair(source, face, Guidance.AUTO, motion=motion)
        assert guidance is Guidance.DRIVING
        return drawing.result.astype(int)

    assert np.any(drawn(driving, MotionKind.RELATIVE) != drawn(driving, MotionKind.ABSOLUTE))
    still = drawn(source, MotionKind.ABSOLUTE)
    at_rest, elsewhere = (drawn(face, MotionKind.RELATIVE) - still for face in (reference, driving))
    assert np.abs(at_rest).mean() < 0.5 * np.abs(elsewhere).mean()  # a driver at rest moves no point of the source


def test_relative_motion_of_points_starts_from_the_frame_that_the_reference_is_like(by_points, tmp_path):
    source, shard = small_face(0), write_random_shard(tmp_path, "ben", num_frames=12, seed=3, size_px=32)
    driving = face_of_shard(shard, 4, 32)
    moved_KC = source.landmarks_KC + driving.landmarks_KC - driving.of_clip_like(source).landmarks_KC
    nearer = replace(small_face(1), landmarks_KC=moved_KC, pose_C=driving.pose_C)
    person = Person.of(source, references_from(lambda: iter([source, nearer])))

    assert list(person.frames_for(moved_KC, driving, 1)) == [nearer]

    of_several, of_one = (
        by_points.draw_pair(face, driving, Guidance.AUTO, motion=MotionKind.RELATIVE)[0] for face in (person, source)
    )
    np.testing.assert_array_equal(of_several.result, of_one.result)


def test_sources_are_chosen_by_the_pose_that_the_result_has(reenactor):
    """Of references that differ in yaw and picture: a relative result stands at .1 + .5 - .6 = 0, the driver at .5."""
    own = replace(small_face(0), pose_C=np.array([0, 0.1, 0], np.float32))
    at_rest, turned = (
        replace(own, pose_C=np.array([0, yaw, 0], np.float32), image_HWC=small_face(seed).image_HWC)
        for yaw, seed in ((0, 2), (0.5, 3))
    )
    person = Person.of(own, references_from(lambda: iter([own, at_rest, turned])))
    driving = replace(small_face(1), pose_C=np.array([0, 0.5, 0], np.float32))
    elsewhere = replace(small_face(1), pose_C=np.array([0, 0.6, 0], np.float32))
    reference = Reference(movement=movement_of([elsewhere]), landmarks_KC=elsewhere.landmarks_KC)
    transfer = Transfer(
        guidance=Guidance.DRIVING, driving_statistics=reenactor.statistics_of(driving), reference=reference
    )

    for asked, nearest in ((transfer, at_rest), (replace(transfer, reference=None), turned)):
        (posed,) = reenactor.posed(asked, person, [driving])
        assert person.frames_for(own.landmarks_KC, posed, 1)[0].pose_C[1] == nearest.pose_C[1]
        (drawing,) = reenactor.draw(person, [driving], own.landmarks_KC[None], asked)
        (wanted,) = reenactor.draw_from([[nearest]], [driving], own.landmarks_KC[None], asked.reference)
        np.testing.assert_array_equal(drawing.result, wanted.result)

    (still,) = reenactor.posed(replace(transfer, strengths=Strengths(pose=0.0)), person, [driving])
    np.testing.assert_allclose(still.pose_C, own.pose_C, atol=1e-7)


def test_relative_motion_of_landmarks_is_drawn_from_the_nearest_frame(reenactor):
    person = Person.of(small_face(0), references_from(lambda: iter([small_face(0), small_face(1)])))
    assert reenactor.drawn_from(person, is_relative=True) is person


def test_relative_motion_of_a_pair_needs_a_frame_of_a_clip(by_points, reenactor, tmp_path):
    driving = face_of_shard(write_random_shard(tmp_path, "ben", num_frames=5), 2, 32)
    for one in (by_points, reenactor):
        one.draw_pair(small_face(0), driving, Guidance.AUTO, motion=MotionKind.RELATIVE)
        with pytest.raises(ConfigError, match="--motion relative needs a driving clip"):
            one.draw_pair(small_face(0), small_face(1), Guidance.AUTO, motion=MotionKind.RELATIVE)


def test_a_reference_is_the_frame_of_the_same_clip_that_is_most_like_the_source(tmp_path):
    shard = write_random_shard(tmp_path, "ben", num_frames=12, seed=3, size_px=32)
    for row in (2, 7):
        assert face_of_shard(shard, 0, 32).of_clip_like(face_of_shard(shard, row, 32)).row == row


def test_driving_irises_are_drawn_in_the_eyes_of_the_result(checkpoint):
    config = replace(SMALL, use_irises=True)
    tensors = build_networks(config, PART_SIZES, seed=0).travelling_tensors()
    seeing = replace(checkpoint, settings=Settings(model=config).to_flat(), tensors=tensors)
    driving = looking_face()
    targets_KC = 2 * driving.landmarks_KC[None] - np.float32(4)
    (drawing,) = Reenactor(seeing, torch.device("cpu")).draw(small_face(0), [driving], targets_KC)
    expected = np.maximum(draw_heatmap(targets_KC[0], 32), draw_irises(targets_KC[0], 2 * driving.irises_EC - 4, 32))
    np.testing.assert_allclose(drawing.stages["Heatmap"][..., 0], 255 * expected, atol=1)
    blind = replace(driving, irises_EC=None)
    (drawing,) = Reenactor(seeing, torch.device("cpu")).draw(small_face(0), [blind], targets_KC)
    np.testing.assert_allclose(drawing.stages["Heatmap"][..., 0], 255 * draw_heatmap(targets_KC[0], 32), atol=1)


def looking_face() -> FaceFrame:
    """Eyes 5 px wide with open lids that look to the right."""
    landmarks_KC = np.full((68, 2), 12, np.float32)
    for first, left in ((36, 4), (42, 11)):
        eye = [(0, 0), (1.5, -1), (3.5, -1), (5, 0), (3.5, 1), (1.5, 1)]
        landmarks_KC[first : first + 6] = [(left + x, 6 + y) for x, y in eye]
    irises_EC = np.array([[7.5, 6], [14.5, 6]], np.float32)
    return replace(small_face(1), landmarks_KC=landmarks_KC, irises_EC=irises_EC)


def test_a_design_that_is_driven_by_meshes_needs_them_of_both_faces(checkpoint):
    reenactor = of_design(checkpoint, "meshgcn")
    source, driving = with_mesh(0), with_mesh(1)
    drawing, guidance = reenactor.draw_pair(source, driving, Guidance.AUTO)
    assert drawing.result.shape == (32, 32, 3) and guidance is Guidance.DRIVING
    assert list(drawing.stages) == ["Warped source"]
    for faces in ((replace(source, mesh=None), driving), (source, replace(driving, mesh=None))):
        with pytest.raises(DataError, match="there are no face meshes"):
            reenactor.draw_pair(*faces, Guidance.AUTO)


def test_a_source_is_looked_at_once_for_all_that_is_drawn_of_it(checkpoint, monkeypatch):
    reenactor, seen = Reenactor(checkpoint, torch.device("cpu")), []
    extractor = reenactor.networks.generator.extractor
    extractor.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    source, others = small_face(0), [small_face(1), small_face(2)]
    targets_NKC = np.stack([face.landmarks_KC for face in others])
    both = reenactor.draw(source, others, targets_NKC)
    again = reenactor.draw(source, others[:1], targets_NKC[:1])
    assert seen == [1, 2, 1]  # the source, two driving frames, one of them
    np.testing.assert_allclose(again[0].result, both[0].result, atol=1)
    del source, both, again
    assert len(reenactor._features) == 0
