"""Who a face is: SFace's identity embeddings, of faces moved onto the template that ArcFace and SFace share."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.frames import Frame
from model.weights import resolve

EMBEDDING_SIZE = 128
"""D of SFace."""

_SIDE_PX = 112
# fmt: off
_TEMPLATE_KC = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
# fmt: on
"""[5, 2] pixels: where ArcFace's alignment, which SFace shares, puts eyes, nose tip and mouth corners."""


class SFace:
    """SFace (Zhong et al. 2021; model of the OpenCV Zoo, Apache-2.0), 128 dimensions."""

    name = "SFace"

    def __init__(self) -> None:
        """Load the network.

        Raises:
            WeightsError: if its file is missing.
        """
        self._network = cv2.dnn.readNetFromONNX(str(resolve("sface")), cv2.dnn.ENGINE_NEW)

    def embed(self, frame_HWC: Frame, landmarks_KC: NDArray[np.floating]) -> NDArray[np.float32]:
        """The embedding of a face.

        Args:
            frame_HWC: [H, W, 3] uint8 RGB.
            landmarks_KC: [68, 2] (x, y) pixels of the frame.

        Returns:
            [128] float32 of unit length.
        """
        self._network.setInput(aligned_NCHW(frame_HWC, landmarks_KC), "data")
        return unit(self._network.forward())


def aligned_NCHW(frame_HWC: Frame, landmarks_KC: NDArray[np.floating]) -> NDArray[np.float32]:
    """[1, 3, 112, 112] RGB in 0..255: the face moved onto ArcFace's template."""
    transform = similarity_transform(five_points(landmarks_KC), _TEMPLATE_KC)
    aligned = cv2.warpAffine(frame_HWC, transform, (_SIDE_PX, _SIDE_PX), flags=cv2.INTER_LINEAR)
    return np.ascontiguousarray(aligned.transpose(2, 0, 1)[None], np.float32)


def unit(embedding: ArrayLike) -> NDArray[np.float32]:
    """[D] a vector at unit length."""
    vector = np.array(embedding, np.float32).ravel()
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def five_points(landmarks_KC: NDArray[np.floating]) -> NDArray[np.float64]:
    """[5, 2] eye centres, nose tip and mouth corners of 68 landmarks, image left first."""
    eyes = [landmarks_KC[36:42].mean(axis=0), landmarks_KC[42:48].mean(axis=0)]
    return np.stack([*eyes, *landmarks_KC[[30, 48, 54]]]).astype(np.float64)


def similarity_transform(points_KC: NDArray[np.float64], targets_KC: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2, 3] rotation, scale and shift that takes points nearest to targets in the least-squares sense."""
    x, y = points_KC.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    # (a, b, u, v): x' = a x - b y + u, y' = b x + a y + v
    system = np.concatenate([np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)])
    a, b, u, v = np.linalg.lstsq(system, targets_KC.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, u], [b, a, v]])
