"""Face annotation with MediaPipe FaceLandmarker: 68 landmarks, head pose and action units.

Legend: H, W image size in pixels, K = 68 landmarks, C coordinates, A = 18 action units, E = 2 eyes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import (
    FaceLandmarker,
    FaceLandmarkerOptions,
    RunningMode,
)
from numpy.typing import NDArray

from data_partition.faces.action_units import estimate_action_units
from model.batch import NUM_VERTICES
from model.landmarks.face_mesh import FaceMesh
from model.weights import resolve

_NATIVE_LOG = threading.Lock()
"""File descriptor 2 is the whole process'."""

ANNOTATOR_NAME = "mediapipe-face-landmarker"
ANNOTATOR_VERSION: str = f"{mp.__version__}+irises"
"""Shards of another version are prepared again; those without "+irises" have none."""

# fmt: off
MESH_TO_68: tuple[int, ...] = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # outline
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips
)
# fmt: on
"""Index in MediaPipe's face mesh of each iBUG-68 landmark."""

IRISES = (slice(468, 473), slice(473, 478))
"""Centre and outline of each iris in MediaPipe's face mesh, the eye at landmark 36 first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceAnnotation:
    """What is known of one face in one picture."""

    landmarks_KC: NDArray[np.float32]
    """[68, 2] (x, y) in pixels of the picture, pixel centres at integers; may lie outside of it."""
    pose_C: NDArray[np.float32]
    """[3] pitch (head down > 0), yaw (nose to image right < 0), roll in degrees; frontal is zero."""
    au_presence_A: NDArray[np.float32]
    """[18] 0 or 1."""
    au_intensity_A: NDArray[np.float32]
    """[18] 0 to 5, NaN where unknown."""
    confidence: float
    """1.0: MediaPipe reports a face or none, without a probability."""
    irises_EC: NDArray[np.float32] | None = None
    """[2, 2] (x, y) pixels of the iris centres, the eye at landmark 36 first; None where the annotator has none."""
    mesh: FaceMesh | None = None
    """In pixels of the picture; None where the annotator has none, or it is not kept."""

    def moved(self, to: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> FaceAnnotation:
        """The same face with its points where `to` takes them, in pixels of another picture."""
        irises_EC = None if self.irises_EC is None else to(self.irises_EC)
        mesh = None if self.mesh is None else self.mesh.moved(to)
        return replace(self, landmarks_KC=to(self.landmarks_KC), irises_EC=irises_EC, mesh=mesh)


class FaceAnnotator:
    """Finds the most prominent face. One annotator serves one clip, or any number of single pictures."""

    def __init__(self, *, is_video: bool) -> None:
        """Load the model.

        Args:
            is_video: track from frame to frame with smoothing (one clip, rising timestamps); otherwise every
                picture is looked at by itself.

        Raises:
            WeightsError: if the face landmarker file is missing.
        """
        self._is_video = is_video
        options = FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(resolve("face-landmarker"))),
            running_mode=RunningMode.VIDEO if is_video else RunningMode.IMAGE,
            num_faces=1,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        with quiet_native_log():
            self._landmarker = FaceLandmarker.create_from_options(options)

    def __enter__(self) -> FaceAnnotator:
        """The annotator itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the model."""
        self.close()

    def close(self) -> None:
        """Release the model."""
        self._landmarker.close()

    def detect(self, image_HWC: NDArray[np.uint8], timestamp_ms: int = 0) -> FaceAnnotation | None:
        """Annotate one picture.

        Args:
            image_HWC: [H, W, 3] uint8 RGB.
            timestamp_ms: time of a video's frame, rising within a clip; ignored for pictures.

        Returns:
            The annotation, or None if no face was found.
        """
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image_HWC))
        if self._is_video:
            result = self._landmarker.detect_for_video(image, timestamp_ms)
        else:
            result = self._landmarker.detect(image)
        if not result.face_landmarks:
            return None
        height, width = image_HWC.shape[:2]
        points = [(one.x * width - 0.5, one.y * height - 0.5, one.z * width) for one in result.face_landmarks[0]]
        points_MC = np.array(points, np.float32)
        mesh_MC = points_MC[:, :2]
        landmarks_KC = mesh_MC[list(MESH_TO_68)]
        blendshapes = {shape.category_name: shape.score for shape in result.face_blendshapes[0]}
        presence_A, intensity_A = estimate_action_units(blendshapes, landmarks_KC)
        return FaceAnnotation(
            landmarks_KC=landmarks_KC,
            pose_C=pose_from_matrix(np.asarray(result.facial_transformation_matrixes[0])),
            au_presence_A=presence_A,
            au_intensity_A=intensity_A,
            confidence=1.0,
            irises_EC=np.stack([mesh_MC[iris].mean(axis=0) for iris in IRISES]),
            mesh=FaceMesh(
                vertices_VC=points_MC[:NUM_VERTICES], blendshapes_B=np.fromiter(blendshapes.values(), np.float32)
            ),
        )


def pose_from_matrix(matrix: NDArray[np.floating]) -> NDArray[np.float32]:
    """Head pose from MediaPipe's face-to-camera matrix.

    R = Rz(roll) Ry(yaw) Rx(pitch), after F R F with F = diag(1, -1, -1) from y-up axes to the image's.

    Args:
        matrix: [4, 4] or [3, 3]; scale is removed.

    Returns:
        [3] float32 pitch, yaw, roll in degrees.
    """
    flip = np.diag([1.0, -1.0, -1.0])
    rotation = flip @ np.asarray(matrix, np.float64)[:3, :3] @ flip
    rotation /= np.linalg.norm(rotation, axis=0)
    pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
    yaw = np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    return np.asarray(np.rad2deg([pitch, yaw, roll]), np.float32)


@contextlib.contextmanager
def quiet_native_log() -> Iterator[None]:
    """Drop what MediaPipe's C++ side writes to file descriptor 2 while it starts; Python errors still raise.

    One thread at a time: a second one would keep the first one's nowhere for the real thing, and put that back.
    """
    with _NATIVE_LOG, open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
