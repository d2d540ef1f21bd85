import numpy as np
import pytest

from evaluation.faces.analysis import Backends, FaceAnalysis
from evaluation.measurement import Instruments
from evaluation.metrics.pixels import l1
from model.batch import AU_ORDER
from tests.support.small_face import checkpoint  # noqa: F401


class ColourAnalyser:
    """Takes a picture's corner pixels for a face; black pictures have none."""

    backends = Backends(embedding="Colour", landmarks="Colour", pose="Colour", action_units="Colour", irises="Colour")
    evaluated_aus = tuple(au for au in AU_ORDER if au != 9)

    def __init__(self) -> None:
        self.num_looks = 0

    def analyse(self, frame_HWC: np.ndarray) -> FaceAnalysis | None:
        self.num_looks += 1
        if not frame_HWC.any():
            return None
        pixels = frame_HWC.reshape(-1, 3).astype(np.float32)
        landmarks_KC = pixels[:68, :2] / 8
        landmarks_KC[[36, 45]] = [[0, 0], [100, 0]]
        return FaceAnalysis(
            embedding_D=pixels[0] / np.linalg.norm(pixels[0]),
            landmarks_KC=landmarks_KC,
            pose_C=pixels[1] / 10,
            au_presence_A=(pixels[:18, 0] > 127).astype(np.float32),
            au_intensity_A=pixels[:18, 0] / 51,
            irises_EC=pixels[68:70, :2],
        )


def half_of_l1(driving_HWC: np.ndarray, generated_HWC: np.ndarray) -> float:
    return l1(driving_HWC, generated_HWC) / 2


def mean_colour(frame_HWC: np.ndarray) -> np.ndarray:
    return frame_HWC.mean(axis=(0, 1)).astype(np.float32)


def instruments_with(analyser) -> Instruments:
    """An analyser with a distance and features that need no network."""
    return Instruments(analyser=analyser, perceptual=half_of_l1, features=mean_colour)


@pytest.fixture
def analyser() -> ColourAnalyser:
    return ColourAnalyser()
