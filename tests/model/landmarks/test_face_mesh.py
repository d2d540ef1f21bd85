"""Promises of model.landmarks.face_mesh and model.landmarks.canonical_face."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest

from model.errors import WeightsError
from model.landmarks.canonical_face import edges, triangles, vertices_cm
from model.landmarks.face_mesh import FaceMesh
from model.weights import resolve

METADATA = "geometry_pipeline_metadata_landmarks.binarypb"


def mesh(*vertices: tuple[float, float, float]) -> FaceMesh:
    return FaceMesh(vertices_VC=np.array(vertices, np.float32), blendshapes_B=np.zeros(52, np.float32))


def test_the_edges_of_a_frame_are_at_one_half_side() -> None:
    got = mesh((-0.5, -0.5, 0), (63.5, 31.5, 16), (31.5, 63.5, -32)).in_half_sides(64)
    np.testing.assert_allclose(got.vertices_VC, [[-1, -1, 0], [1, 0, 0.5], [0, 1, -1]])


def test_depth_is_scaled_as_the_picture_is() -> None:
    got = mesh((0, 0, 4), (10, 20, -6)).moved(lambda points_XC: 2.5 * points_XC + np.array([3, -7], np.float32))
    np.testing.assert_allclose(got.vertices_VC, [[3, -7, 10], [28, 43, -15]])


def test_the_canonical_face_is_symmetric_and_looks_out_of_its_plane() -> None:
    vertices_VC = vertices_cm()
    mirrored_VC = vertices_VC * [-1, 1, 1]
    distance_VV = np.linalg.norm(mirrored_VC[:, None] - vertices_VC, axis=2)
    assert vertices_VC.dtype == np.float32 and distance_VV.min(axis=1).max() < 1e-6
    nose_tip, chin, forehead = vertices_VC[[4, 152, 10]]
    assert nose_tip[2] == vertices_VC[:, 2].max() and chin[1] < nose_tip[1] < forehead[1]


def test_its_triangles_join_all_vertices_to_one_surface() -> None:
    degree_V = np.bincount(edges().ravel())
    assert triangles().shape == (898, 3) and edges().shape == (1365, 2)
    assert len(degree_V) == 468 and (degree_V.min(), degree_V.max()) == (3, 8)
    assert 468 - 1365 + 898 == 1  # Euler's number of a disc


def test_it_is_the_face_of_the_landmarkers_file() -> None:
    try:
        path = resolve("face-landmarker")
    except WeightsError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(path) as task:
        mesh_3d = next(value for field, value in fields(task.read(METADATA)) if field == 1)
    assert isinstance(mesh_3d, bytes)
    numbers = [value for field, value in fields(mesh_3d) if field == 3]
    corners = [value for field, value in fields(mesh_3d) if field == 4]
    np.testing.assert_allclose(vertices_cm(), np.reshape(numbers, (468, 5))[:, :3], atol=0.00051)
    np.testing.assert_array_equal(triangles(), np.reshape(corners, (898, 3)))


def fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Number and value of the fields of a protobuf message that has varints, floats and bytes alone."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        value: int | float | bytes
        if key & 7 == 0:
            value = varint()
        elif key & 7 == 2:
            length = varint()
            value, at = message[at : at + length], at + length
        else:
            assert key & 7 == 5
            (value,), at = struct.unpack_from("<f", message, at), at + 4
        yield key >> 3, value
