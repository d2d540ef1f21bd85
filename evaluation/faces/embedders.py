"""Identity embeddings for CSIM (Eq 4.1): SFace by default, ArcFace and dlib where the user has installed them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.faces.sface import SFace, aligned_NCHW, unit
from model.errors import ConfigError, WeightsError
from model.frames import Frame
from model.weights import resolve


class Embedder(Protocol):
    """Turns the face at given landmarks into an identity embedding."""

    @property
    def name(self) -> str:
        """For the tables; embeddings of different names are never compared."""

    def embed(self, frame_HWC: Frame, landmarks_KC: NDArray[np.floating]) -> NDArray[np.float32]:
        """The embedding of a face.

        Args:
            frame_HWC: [H, W, 3] uint8 RGB.
            landmarks_KC: [68, 2] (x, y) pixels of the frame.

        Returns:
            [D] float32 of unit length.
        """


class ArcFace:
    """ArcFace (Deng et al. 2019) as in InsightFace's buffalo_l, 512 dimensions; weights for research only."""

    name = "ArcFace buffalo_l"

    def __init__(self) -> None:
        """Load the network.

        Raises:
            WeightsError: if its file is missing.
        """
        self._network = cv2.dnn.readNetFromONNX(str(resolve("arcface")), cv2.dnn.ENGINE_NEW)

    def embed(self, frame_HWC: Frame, landmarks_KC: NDArray[np.floating]) -> NDArray[np.float32]:
        """As `Embedder.embed`, [512]."""
        self._network.setInput((aligned_NCHW(frame_HWC, landmarks_KC) - 127.5) / 127.5)
        return unit(self._network.forward())


class Dlib:
    """dlib's ResNet, 128 dimensions; cosines lie close together between 0.7 and 1."""

    name = "dlib ResNet"

    def __init__(self) -> None:
        """Load the network.

        Raises:
            WeightsError: if the package or its file is missing.
        """
        try:
            self._dlib = importlib.import_module("dlib")
        except ImportError as error:
            raise WeightsError("embedder dlib: package dlib is missing; run `pip install dlib-bin`") from error
        self._network = self._dlib.face_recognition_model_v1(str(resolve("dlib-resnet")))

    def embed(self, frame_HWC: Frame, landmarks_KC: NDArray[np.floating]) -> NDArray[np.float32]:
        """As `Embedder.embed`, [128]."""
        points = [self._dlib.point(round(float(x)), round(float(y))) for x, y in landmarks_KC]
        height, width = frame_HWC.shape[:2]
        shape = self._dlib.full_object_detection(self._dlib.rectangle(0, 0, width - 1, height - 1), points)
        return unit(self._network.compute_face_descriptor(np.ascontiguousarray(frame_HWC), shape))


EMBEDDERS: dict[str, Callable[[], Embedder]] = {"sface": SFace, "arcface": ArcFace, "dlib": Dlib}
"""Name on the command line to embedder."""


def embedder_named(name: str) -> Embedder:
    """The embedder of that name, loaded.

    Raises:
        ConfigError: for an unknown name.
        WeightsError: if its package or file is missing; it says what to install.
    """
    if name not in EMBEDDERS:
        raise ConfigError(f"--embedder: got {name!r}, wanted one of {', '.join(EMBEDDERS)}")
    return EMBEDDERS[name]()
