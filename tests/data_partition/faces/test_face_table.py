"""Promises of data_partition.faces.face_table: faces come out as they went in, in little memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_partition.faces.annotate import FaceAnnotation
from data_partition.faces.crop import CropBox
from data_partition.faces.face_table import FACE, FACE_WITH_MESH, FaceRows, FaceTable
from model.landmarks.face_mesh import FaceMesh


def annotation(seed: int, *, has_irises: bool = True) -> FaceAnnotation:
    rng = np.random.default_rng(seed)
    intensity_A = rng.uniform(0, 5, 18).astype(np.float32)
    intensity_A[3] = np.nan
    return FaceAnnotation(
        landmarks_KC=rng.normal(size=(68, 2)).astype(np.float32),
        pose_C=rng.normal(size=3).astype(np.float32),
        au_presence_A=rng.integers(0, 2, 18).astype(np.float32),
        au_intensity_A=intensity_A,
        confidence=0.1 + seed,
        irises_EC=rng.normal(size=(2, 2)).astype(np.float32) if has_irises else None,
    )


def test_many_faces_come_out_as_they_went_in() -> None:
    found, indices = FaceRows(), range(3, 20_000, 2)
    for index in indices:
        found.append(index, index / 3, annotation(index % 7, has_irises=index % 4 == 3), (90, 160))
    rows = found.finished()
    rows["take"], rows["box"] = rows["frame_index"] // 5000, (-4, 2, 100)
    table = FaceTable(rows)
    assert list(table) == list(indices) and len(table) == len(found) == len(indices)
    for index in (3, 4097, 8195, 19_999):
        face, wanted = table[index], annotation(index % 7, has_irises=index % 4 == 3)
        assert (face.timestamp_s, face.take, face.box) == (index / 3, index // 5000, CropBox(-4, 2, 100))
        assert (rows["image_HW"] == (90, 160)).all() and face.annotation.confidence == wanted.confidence
        for name in ("landmarks_KC", "pose_C", "au_presence_A", "au_intensity_A", "irises_EC"):
            np.testing.assert_array_equal(getattr(face.annotation, name), getattr(wanted, name))
        assert (face.annotation.irises_EC is None) == (index % 4 == 1)


@pytest.mark.parametrize("index", [-1, 0, 4, 9])
def test_a_frame_without_a_face_is_not_there(index: int) -> None:
    rows = np.zeros(2, FACE)
    rows["frame_index"] = 3, 5
    table = FaceTable(rows)
    assert index not in table and table.get(index) is None and 3 in table
    with pytest.raises(KeyError):
        table[index]


def test_an_hour_at_60_frames_a_second_is_less_than_200_megabytes() -> None:
    assert 216_000 * FACE.itemsize < 200e6


def test_no_face_is_an_empty_table() -> None:
    assert not FaceTable(FaceRows().finished()) and list(FaceTable(FaceRows().finished()).items()) == []


def test_meshes_are_kept_where_they_are_asked_for_within_a_two_thousandth_of_the_face() -> None:
    rng = np.random.default_rng(0)
    vertices_VC = (np.array([3000, 1500, 0]) + rng.uniform(-200, 200, (468, 3))).astype(np.float32)
    mesh = FaceMesh(vertices_VC=vertices_VC, blendshapes_B=rng.random(52, np.float32))
    for with_mesh in (False, True):
        found = FaceRows(with_mesh=with_mesh)
        found.append(0, 0.0, replace(annotation(0), mesh=mesh), (2160, 3840))
        got = FaceTable(found.finished())[0].annotation.mesh
        assert (got is not None) == with_mesh
    assert got is not None
    np.testing.assert_allclose(got.vertices_VC, vertices_VC, atol=0.1)
    np.testing.assert_allclose(got.blendshapes_B, mesh.blendshapes_B, atol=2**-12)
    assert FACE_WITH_MESH.itemsize < 4000
