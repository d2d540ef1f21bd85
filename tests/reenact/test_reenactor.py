from dataclasses import replace

import numpy as np
import pytest
import torch

from federation.settings import Settings
from model.designs.registry import DESIGNS, build_networks
from model.errors import ConfigError
from reenact.faces import face_of_shard
from reenact.guidance_choice import Guidance
from reenact.reenactor import Reenactor
from tests.shards import write_random_shard
from tests.small_face import PART_SIZES, SMALL, small_face


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
    targets = reenactor.target_landmarks(Guidance.DRIVING, source, driving, statistics)
    np.testing.assert_array_equal(targets[0], driving[0].landmarks_KC)


def test_lst_and_lgan_differ_by_source_person(reenactor):
    driving = [small_face(1)]
    statistics = reenactor.statistics("", driving[0].landmarks_KC[None])
    for guidance in (Guidance.LST, Guidance.LGAN):
        ana, ben = (
            reenactor.target_landmarks(guidance, small_face(0, name), driving, statistics) for name in ("ana", "ben")
        )
        assert np.abs(ana - ben).max() > 0.01


def test_choice_depends_on_who_is_known(reenactor):
    assert reenactor.choose(Guidance.AUTO, small_face(0, "ana"), "ana") is Guidance.DRIVING
    assert reenactor.choose(Guidance.AUTO, small_face(0, "ana"), "") is Guidance.LGAN
    assert reenactor.choose(Guidance.AUTO, small_face(0), "") is Guidance.LST


def test_unknown_identity_names_the_known_ones(reenactor):
    with pytest.raises(ConfigError, match=r"'eva'.*ana, ben"):
        reenactor.known_identity("eva")


def of_design(checkpoint, network):
    config = replace(SMALL, network=network)
    tensors = build_networks(config, PART_SIZES, seed=0).travelling_tensors()
    settings = Settings(model=config).to_flat()
    return Reenactor(replace(checkpoint, settings=settings, tensors=tensors), torch.device("cpu"))


def test_x2face_is_driven_by_the_frame_and_refuses_landmark_guidance(checkpoint):
    reenactor = of_design(checkpoint, "x2face")
    drawing, guidance = reenactor.draw_pair(small_face(0, "ana"), small_face(1, "ben"), Guidance.AUTO)
    assert guidance is Guidance.DRIVING
    assert list(drawing.stages) == ["Embedded face"]
    np.testing.assert_array_equal(drawing.result, small_face(0).image_HWC)  # untrained: a copy of the source
    with pytest.raises(ConfigError, match="driven by the frame itself"):
        reenactor.choose(Guidance.LGAN, small_face(0, "ana"), "ben")


KEYPOINT_DESIGNS = [name for name, design in DESIGNS.items() if design.takes_reference]


@pytest.fixture(params=KEYPOINT_DESIGNS)
def by_points(checkpoint, request) -> Reenactor:
    return of_design(checkpoint, request.param)


def test_points_of_its_own_are_driven_by_the_frame_as_it_is_or_relative_to_one_of_its_clip(by_points, tmp_path):
    source = small_face(0, "ana")
    shard = write_random_shard(tmp_path, "ben", num_frames=12, seed=3, size_px=32)
    assert by_points.choose(Guidance.AUTO, source, "ben") is Guidance.DRIVING
    reference = face_of_shard(shard, 4, 32).of_clip_like(source)
    driving = face_of_shard(shard, (reference.row + 1) % 12, 32)

    def drawn(face, guidance):
        drawing, used = by_points.draw_pair(source, face, guidance)
        assert used is guidance
        return drawing.result

    assert not np.array_equal(drawn(driving, Guidance.RELATIVE), drawn(driving, Guidance.DRIVING))
    at_rest = drawn(reference, Guidance.RELATIVE).astype(int) - drawn(source, Guidance.DRIVING)
    elsewhere = drawn(driving, Guidance.RELATIVE).astype(int) - drawn(source, Guidance.DRIVING)
    assert np.abs(at_rest).mean() < 0.5 * np.abs(elsewhere).mean()  # a driver at rest moves no point of the source


def test_relative_to_nothing_is_refused(by_points):
    with pytest.raises(ConfigError, match="--landmarks relative needs a driving clip.*use driving"):
        by_points.draw_pair(small_face(0), small_face(1), Guidance.RELATIVE)
    with pytest.raises(ConfigError, match="can be guided by driving or relative; use auto"):
        by_points.choose(Guidance.LST, small_face(0), "")


def test_a_reference_is_the_frame_of_the_same_clip_that_is_most_like_the_source(tmp_path):
    shard = write_random_shard(tmp_path, "ben", num_frames=12, seed=3, size_px=32)
    for row in (2, 7):
        assert face_of_shard(shard, 0, 32).of_clip_like(face_of_shard(shard, row, 32)).row == row
