"""The faces of a clip as rows of one array: .8 KB a face, where objects that hold small arrays take three times that.

With meshes it is 3.8 KB: they are kept in half precision, from a point of the face on.

Legend: N frames with a face, K = 68 landmarks, C coordinates, A = 18 action units, E = 2 eyes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.annotate import FaceAnnotation
from data_partition.faces.crop import CropBox
from model.batch import NUM_ACTION_UNITS, NUM_BLENDSHAPES, NUM_LANDMARKS, NUM_VERTICES
from model.landmarks.face_mesh import FaceMesh

FACE = np.dtype(
    [
        ("frame_index", np.int64),
        ("timestamp_s", np.float64),
        ("confidence", np.float64),
        ("take", np.int32),
        ("box", np.int32, 3),
        ("image_HW", np.int32, 2),
        ("landmarks_KC", np.float32, (NUM_LANDMARKS, 2)),
        ("pose_C", np.float32, 3),
        ("au_presence_A", np.float32, NUM_ACTION_UNITS),
        ("au_intensity_A", np.float32, NUM_ACTION_UNITS),
        ("irises_EC", np.float32, (2, 2)),
    ]
)
"""One row. `box` is left, top and side; irises that are not known are NaN."""
FACE_WITH_MESH = np.dtype(
    [
        *FACE.descr,
        ("middle_C", np.float32, 3),
        ("mesh_VC", np.float16, (NUM_VERTICES, 3)),
        ("blendshapes_B", np.float16, NUM_BLENDSHAPES),
    ]
)
"""One row where the meshes are kept: the mean of the vertices, and each from there."""

_GROWTH = 4096

Rows = NDArray[np.void]
"""[N] of FACE or FACE_WITH_MESH, frame indices rising."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TrackedFace:
    """The face of one frame and where it is cut out."""

    annotation: FaceAnnotation
    """In pixels of the whole picture."""
    timestamp_s: float
    """Seconds from the clip's first frame."""
    take: int
    """Number of the take that the frame belongs to, from 0."""
    box: CropBox


class FaceTable(Mapping[int, TrackedFace]):
    """Frame index to face, rising, by the rows of an array."""

    def __init__(self, rows: Rows) -> None:
        """`rows` are not copied and not to be changed."""
        self.rows = rows
        self._index_N = rows["frame_index"].copy()  # within the rows every search would copy it

    def __getitem__(self, frame_index: int) -> TrackedFace:
        """The face of a frame; its arrays are views.

        Raises:
            KeyError: if the frame has none.
        """
        place = int(np.searchsorted(self._index_N, frame_index))
        if place == len(self.rows) or self._index_N[place] != frame_index:
            raise KeyError(frame_index)
        row = self.rows[place]
        return TrackedFace(
            annotation=_annotation(row),
            timestamp_s=float(row["timestamp_s"]),
            take=int(row["take"]),
            box=CropBox(*row["box"].tolist()),
        )

    def __iter__(self) -> Iterator[int]:
        """Frame indices."""
        return map(int, self._index_N)

    def __len__(self) -> int:
        """Number of faces N."""
        return len(self.rows)


class FaceRows:
    """Rows that grow face by face, in memory of their own: what comes and goes between two faces leaves no holes."""

    def __init__(self, *, with_mesh: bool = False) -> None:
        """No face; whether meshes are kept, which every face then has."""
        self._rows: Rows = np.zeros(0, FACE_WITH_MESH if with_mesh else FACE)
        self._num = 0

    def __len__(self) -> int:
        """Faces so far."""
        return self._num

    def append(
        self, frame_index: int, timestamp_s: float, annotation: FaceAnnotation, image_HW: tuple[int, int]
    ) -> None:
        """Add the face of a later frame, in no take yet.

        Args:
            frame_index: of the frame.
            timestamp_s: of it.
            annotation: in pixels of the whole picture.
            image_HW: height and width of the picture.
        """
        if self._num == len(self._rows):
            self._rows.resize(self._num + _GROWTH, refcheck=False)  # nobody else has it
        row = self._rows[self._num]
        row["frame_index"], row["timestamp_s"], row["image_HW"] = frame_index, timestamp_s, image_HW
        row["landmarks_KC"], row["pose_C"] = annotation.landmarks_KC, annotation.pose_C
        row["au_presence_A"], row["au_intensity_A"] = annotation.au_presence_A, annotation.au_intensity_A
        row["confidence"] = annotation.confidence
        row["irises_EC"] = np.nan if annotation.irises_EC is None else annotation.irises_EC
        if self._rows.dtype == FACE_WITH_MESH:
            _write_mesh(row, annotation.mesh)
        self._num += 1

    def finished(self) -> Rows:
        """All rows; nothing is added afterwards."""
        return self._rows[: self._num]


def _write_mesh(row: np.void, mesh: FaceMesh | None) -> None:
    assert mesh is not None, "asked of an annotator that has none"
    row["middle_C"] = mesh.vertices_VC.mean(axis=0)
    row["mesh_VC"] = mesh.vertices_VC - row["middle_C"]
    row["blendshapes_B"] = mesh.blendshapes_B


def _mesh(row: np.void) -> FaceMesh | None:
    if row.dtype != FACE_WITH_MESH:
        return None
    vertices_VC = row["middle_C"] + row["mesh_VC"]
    return FaceMesh(vertices_VC=vertices_VC, blendshapes_B=row["blendshapes_B"].astype(np.float32))


def _annotation(row: np.void) -> FaceAnnotation:
    return FaceAnnotation(
        landmarks_KC=row["landmarks_KC"],
        pose_C=row["pose_C"],
        au_presence_A=row["au_presence_A"],
        au_intensity_A=row["au_intensity_A"],
        confidence=float(row["confidence"]),
        irises_EC=None if np.isnan(row["irises_EC"]).all() else row["irises_EC"],
        mesh=_mesh(row),
    )
