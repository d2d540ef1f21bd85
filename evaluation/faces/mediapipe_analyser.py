"""The face analyser: MediaPipe for landmarks, pose and action units, an embedder for identity."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from data_partition.faces.action_units import SILENT_AUS
from data_partition.faces.annotate import FaceAnnotator
from evaluation.faces.analysis import Backends, FaceAnalysis
from evaluation.faces.embedders import Embedder
from model.batch import AU_ORDER
from model.frames import Frame


class MediaPipeAnalyser:
    """Looks at every picture by itself, without the smoothing that clips are annotated with."""

    evaluated_aus = tuple(au for au in AU_ORDER if au not in SILENT_AUS)

    def __init__(self, embedder: Embedder) -> None:
        """Load MediaPipe's model.

        Args:
            embedder: tells people apart.

        Raises:
            WeightsError: if a file is missing.
        """
        self._embedder = embedder
        self.backends = Backends(
            embedding=embedder.name,
            landmarks="MediaPipe",
            pose="MediaPipe",
            action_units="MediaPipe proxy",
            irises="MediaPipe",
        )
        self._annotator = FaceAnnotator(is_video=False)

    def __enter__(self) -> Self:
        """The analyser itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the models."""
        self._annotator.close()

    def analyse(self, frame_HWC: Frame) -> FaceAnalysis | None:
        """The face in an uint8 [H, W, 3] RGB frame, None if there is none."""
        face = self._annotator.detect(frame_HWC)
        if face is None:
            return None
        return FaceAnalysis(
            embedding_D=self._embedder.embed(frame_HWC, face.landmarks_KC),
            landmarks_KC=face.landmarks_KC,
            pose_C=face.pose_C,
            au_presence_A=face.au_presence_A,
            au_intensity_A=face.au_intensity_A,
            irises_EC=face.irises_EC,
        )
