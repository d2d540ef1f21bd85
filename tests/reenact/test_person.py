from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from data_partition.faces.crop import CropBox
from data_partition.shards.images import write_image
from federation.settings import Settings
from model.designs.registry import build_networks
from model.errors import ConfigError
from model.progress import no_progress
from reenact import person as reenact_person
from reenact.face_frame import MAX_REFERENCES, Place
from reenact.person import Person, SteadyChoice, person_of, references_from, references_of_shard
from reenact.reenactor import Reenactor
from tests.data_partition.conftest import drawn_people, face_landmarker, write_video  # noqa: F401
from tests.support.shards import write_random_shard
from tests.support.small_face import PART_SIZES, SMALL, small_face


def turned(yaw_deg, **changes):
    """One face at one yaw; the same in all else."""
    return replace(small_face(0), pose_C=np.array([0, yaw_deg, 0], np.float32), **changes)


def person(*yaws_deg):
    faces = [turned(yaw) for yaw in yaws_deg]
    return Person.of(faces[0], references_from(lambda: iter(faces)))


def yaws(frames):
    return [float(frame.pose_C[1]) for frame in frames]


def test_a_person_is_drawn_from_the_frames_nearest_to_the_result():
    frames = person(-30, -10, 0, 12, 30).frames_for(small_face(0).landmarks_KC, turned(11), 3)
    assert yaws(frames) == [12, 0, 30]


def test_a_picture_is_drawn_from_itself_however_many_are_wanted():
    face = small_face(0)
    assert list(face.frames_for(face.landmarks_KC, face, 8)) == [face]


def test_of_many_frames_those_are_kept_that_differ_most_and_the_ordinary_one_is_first():
    faces = [turned(yaw) for yaw in (0, 0.1, 0.2, *np.linspace(-60, 60, MAX_REFERENCES - 1), 0.3)]
    references = references_from(lambda: iter(faces))
    kept = yaws(references.frames)
    assert len(kept) == MAX_REFERENCES and min(kept) == -60 and max(kept) == 60
    assert abs(kept[0]) < 1 and sum(abs(yaw) < 1 for yaw in kept) <= 2


def test_a_blurred_frame_is_not_kept_beside_a_sharp_one_of_the_same_pose():
    blurred = turned(40, image_HWC=np.full((32, 32, 3), 100, np.uint8))
    faces = [turned(0)] * MAX_REFERENCES + [blurred, turned(40)]
    references = references_from(lambda: iter(faces))
    assert references.frames[1] is faces[-1]


def test_sources_along_a_clip_change_only_for_clearly_nearer_ones():
    choice, target_KC = SteadyChoice(person(0, 20), 1), small_face(0).landmarks_KC
    chosen = [yaws(choice.next(target_KC, turned(yaw)))[0] for yaw in (9, 10.5, 9.5, 18, 10.5, 9)]
    assert chosen == [0, 0, 0, 20, 20, 20]


def test_a_clip_drawn_from_one_picture_keeps_to_it():
    face = small_face(0)
    assert list(SteadyChoice(face, 4).next(face.landmarks_KC, face)) == [face]


def test_references_of_a_shard_are_training_frames_and_of_one_clip(tmp_path):
    shard = write_random_shard(tmp_path, "ana", num_frames=20)
    references = references_of_shard(shard, "clip-0", 32)
    assert len(references.frames) == 18 and {face.identity for face in references.frames} == {"ana"}
    held_out = [shard.read_frame(int(row)) for row in np.flatnonzero(shard.is_test_F)]
    assert not any(np.array_equal(face.image_HWC, other) for face in references.frames for other in held_out)


def test_references_of_a_shard_have_the_detail_of_its_frames_when_it_is_asked_for(tmp_path):
    references = references_of_shard(write_random_shard(tmp_path, "ana", num_frames=5, size_px=128), "clip-0", 32)
    assert {face.detail_HWC is None for face in references.frames} == {True}
    for face in references.with_detail().frames:
        np.testing.assert_array_equal(face.detail_HWC, face.shard.read_frame(face.row))  # four times 32 pixels


def test_sources_have_detail_and_one_of_them_its_whole_picture():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (200, 300, 3), np.uint8) for _ in range(3)]
    box = CropBox(left=40, top=30, side=128)
    faces = [
        turned(yaw, place=Place(picture_HWC=picture_HWC, box=box))
        for yaw, picture_HWC in zip((-30, 0, 30), pictures, strict=True)
    ]
    references = references_from(lambda: iter(faces))
    assert [frame.place is not None for frame in references.frames] == [True, False, False]
    np.testing.assert_array_equal(references.frames[0].detail_HWC, pictures[1][30:158, 40:168])
    assert all(frame.detail_HWC.shape == (128, 128, 3) for frame in references.frames)


def test_one_picture_is_no_more_than_its_face(tmp_path):
    write_random_shard(tmp_path, "ana", num_frames=3)
    path = tmp_path / "ana" / "frames" / "000001.jpg"
    assert not isinstance(person_of([path], 32, no_progress), Person)
    assert isinstance(person_of([path, path.with_name("000000.jpg")], 32, no_progress), Person)


@pytest.mark.integration
def test_files_of_different_people_are_no_person_and_the_error_names_two(tmp_path, drawn_people, face_landmarker):  # noqa: F811
    """SFace takes drawn people for relatives: the other one is its negative too."""
    anna, ben = drawn_people
    first, second, negative = (tmp_path / name for name in ("first.png", "second.png", "negative.png"))
    for path, picture_HWC in (
        (first, anna.read_frame(0)),
        (second, anna.read_frame(8)),
        (negative, 255 - ben.read_frame(0)),
    ):
        write_image(path, picture_HWC)
    clip = write_video(tmp_path / "negative.mp4", [255 - ben.read_frame(row) for row in range(6)])
    assert isinstance(person_of([first, second], 64, no_progress), Person)
    for paths, named in (
        ([negative, first], (negative, first)),
        ([negative, first, second], (first, negative)),
        ([second, clip], (second, clip)),
    ):
        with pytest.raises(ConfigError, match=rf"--source: {named[0]} and {named[1]} show different people \(likeness"):
            person_of(paths, 64, no_progress)


def test_a_shard_and_a_file_are_not_mixed_and_two_people_are_named(tmp_path, monkeypatch):
    shards = [write_random_shard(tmp_path, name, num_frames=3).path for name in ("ana", "ben")]
    monkeypatch.setattr(reenact_person, "face_of_picture", lambda *_: small_face(0))
    with pytest.raises(ConfigError, match=r"--source: shards \(ana\) and other files cannot be mixed; give shards of"):
        person_of([shards[0], tmp_path / "new.jpg"], 32, no_progress)
    with pytest.raises(ConfigError, match="--source: shows 'ana' and 'ben', wanted one person"):
        person_of(shards, 32, no_progress)


@pytest.fixture
def several(checkpoint):
    """A checkpoint that was trained with up to four sources."""
    config = replace(SMALL, num_sources=4, use_landmark_flow=True)
    tensors = build_networks(config, PART_SIZES, seed=0).travelling_tensors()
    return replace(checkpoint, settings=Settings(model=config).to_flat(), tensors=tensors)


def test_more_sources_are_drawn_from_than_in_training_and_they_change_the_result(several):
    faces = [small_face(seed) for seed in range(9)]
    source = Person.of(faces[0], references_from(lambda: iter(faces)))
    driving, targets = [small_face(20), small_face(21)], np.stack([small_face(s).landmarks_KC for s in (20, 21)])
    results = []
    for num in (1, 2, 8, None):
        drawings = Reenactor(several, torch.device("cpu"), num_sources=num).draw(source, driving, targets)
        results.append(np.stack([drawing.stages["Warped source"] for drawing in drawings]).astype(int))
    for first, second in pairwise(results):
        assert np.abs(first - second).max() > 10
    alone = Reenactor(several, torch.device("cpu")).draw(source, driving[1:], targets[1:])
    assert np.abs(alone[0].stages["Warped source"].astype(int) - results[3][1]).max() <= 1


def test_a_network_of_one_source_refuses_several(checkpoint, several):
    with pytest.raises(ConfigError, match="--num-sources: got 2, wanted 1: the checkpoint was trained with"):
        Reenactor(checkpoint, torch.device("cpu"), num_sources=2)
    with pytest.raises(ConfigError, match="--num-sources: got 33, wanted 1 to 32"):
        Reenactor(several, torch.device("cpu"), num_sources=33)
