import numpy as np
import pytest

from evaluation.faces.analysis import Backends, FaceAnalysis
from model.batch import AU_ORDER
from tests.small_face import checkpoint  # noqa: F401


class ColourAnalyser:
    """Takes a picture's corner pixels for a face; black pictures have none."""

    backends = Backends(embedding="Colour", landmarks="Colour", pose="Colour", action_units="Colour")
    evaluated_aus = tuple(au for au in AU_ORDER if au != 9)

    def __init__(self) -> None:
        self.num_looks = 0

    def analyse(self, frame_HWC: np.ndarray) -> FaceAnalysis | None:
        self.num_looks += 1
        if not frame_HWC.any():
            return None
        pixels = frame_HWC.reshape(-1, 3).astype(np.float32)
        landmarks_KC = pixels[:68, :2].copy()
        landmarks_KC[[36, 45]] = [[0, 0], [100, 0]]
        return FaceAnalysis(
            embedding_D=pixels[0] / np.linalg.norm(pixels[0]),
            landmarks_KC=landmarks_KC,
            pose_C=pixels[1] / 10,
            au_presence_A=(pixels[:18, 0] > 127).astype(np.float32),
        )


@pytest.fixture
def analyser() -> ColourAnalyser:
    return ColourAnalyser()
