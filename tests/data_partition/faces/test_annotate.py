"""Promises of data_partition.faces.annotate."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from data_partition.faces.annotate import MESH_TO_68, FaceAnnotator, pose_from_matrix
from data_partition.shards.shard import Shard
from data_partition.sources.video import read_frames
from tests.support.samples import talking_heads


def _rotation(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation about x, y or z."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[one, one], matrix[one, two], matrix[two, one], matrix[two, two] = c, -s, s, c
    return matrix


def test_a_frontal_head_has_no_rotation() -> None:
    np.testing.assert_allclose(pose_from_matrix(np.eye(4)), [0, 0, 0], atol=1e-6)


def test_angles_come_back_from_a_composed_rotation_at_any_scale() -> None:
    flip = np.diag([1.0, -1.0, -1.0])
    rotation = _rotation(2, 5) @ _rotation(1, -30) @ _rotation(0, 12)
    matrix = np.eye(4)
    matrix[:3, :3] = 7.5 * flip @ rotation @ flip
    np.testing.assert_allclose(pose_from_matrix(matrix), [12, -30, 5], atol=1e-4)


def test_the_map_has_68_points_of_the_mesh() -> None:
    assert len(MESH_TO_68) == 68 and min(MESH_TO_68) >= 0 and max(MESH_TO_68) < 468


def test_no_face_is_found_in_noise(face_landmarker: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    with FaceAnnotator(is_video=False) as annotator:
        assert annotator.detect(noise) is None


@pytest.mark.integration
def test_drawn_faces_are_found_where_they_are(face_landmarker: Path, drawn_people: list[Shard]) -> None:
    shard = drawn_people[0]
    with FaceAnnotator(is_video=True) as annotator:
        faces = [annotator.detect(shard.read_frame(row), 40 * row) for row in range(shard.num_frames)]
    found = [row for row, face in enumerate(faces) if face is not None]
    assert len(found) >= 0.95 * shard.num_frames
    for row in found:
        face = faces[row]
        assert face is not None
        distance = np.linalg.norm(face.landmarks_KC[27:] - shard.landmarks_FKC[row, 27:], axis=1).mean()
        assert distance < 0.1 * shard.size_px
        assert face.confidence == 1 and np.isfinite(face.pose_C).all()
        assert face.landmarks_KC.dtype == face.au_presence_A.dtype == np.float32


@pytest.mark.integration
def test_faces_are_found_in_at_least_98_percent_of_frames(face_landmarker: Path, tmp_path: Path) -> None:
    for video in talking_heads(tmp_path):
        with FaceAnnotator(is_video=True) as annotator:
            faces = [
                annotator.detect(frame.image_HWC, round(frame.timestamp_s * 1000))
                for frame in islice(read_frames(video, pytest.fail), 100)
            ]
        found = [face for face in faces if face is not None]
        assert len(found) >= 98
        nose, chin = (np.mean([face.landmarks_KC[k, 1] for face in found]) for k in (30, 8))
        assert nose < chin
        assert np.abs(np.median([face.pose_C for face in found], axis=0)).max() < 25
