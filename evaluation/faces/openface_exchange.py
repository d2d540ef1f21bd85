"""Pose and action units by OpenFace 2, which runs outside of this program: pictures go out, CSV files come back.

`FrameSaver` writes every analysed picture once, what the model drew with a signed manifest; the user runs OpenFace's
FaceLandmarkImg on the folder, which leaves one CSV file a picture; `OpenFaceAnalyser` takes pose and action units from
those files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from data_partition.shards.images import write_image
from data_partition.sources.openface import OpenFaceTable, read_openface
from evaluation.faces.analysis import Backends, FaceAnalyser, FaceAnalysis, frame_key
from model.batch import AU_ORDER
from model.errors import ConfigError, DataError
from model.frames import Frame
from reenact.marks.delivery import deliver_picture, record_of_picture
from reenact.marks.kinds import Kind, Label
from reenact.marks.manifest import Origin

CSV_FOLDER = "openface"
"""Beside the pictures: where the CSV files are expected."""


class FrameSaver:
    """Hands every picture on to another analyser, and keeps it as a PNG named after its content, pixels as they are."""

    def __init__(self, analyser: FaceAnalyser, folder: Path, model_sha256: str) -> None:
        """Save into a folder, made if it is not there.

        Args:
            analyser: looks at the pictures now.
            folder: for them.
            model_sha256: of the weights that draw.

        Raises:
            ConfigError: if it holds pictures already.
        """
        if any(folder.glob("*.png")):
            raise ConfigError(f"--frames-out: {folder} holds pictures already; name an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._analyser, self._folder, self._model_sha256 = analyser, folder, model_sha256
        self._drawn: set[str] = set()
        self.backends, self.evaluated_aus = analyser.backends, analyser.evaluated_aus

    def note_drawn(self, frame_HWC: Frame) -> None:
        """Say that the model drew a picture, before it is analysed: it is kept with a manifest that says so."""
        self._drawn.add(frame_key(frame_HWC))

    def analyse(self, frame_HWC: Frame) -> FaceAnalysis | None:
        """What the other analyser says.

        Raises:
            DataError: if the manifest of a drawn picture cannot be read from its file.
        """
        key = frame_key(frame_HWC)
        path = self._folder / f"{key}.png"
        if not path.exists():
            self._write(path, frame_HWC, is_drawn=key in self._drawn)
        return self._analyser.analyse(frame_HWC)

    def _write(self, path: Path, frame_HWC: Frame, *, is_drawn: bool) -> None:
        if not is_drawn:
            write_image(path, frame_HWC)
            return
        record = record_of_picture(self._model_sha256, frame_HWC)
        origin = Origin(label=Label.GENERATED, kind=Kind.TO_MEASURE, record=record, model_sha256=self._model_sha256)
        deliver_picture(path, frame_HWC, origin)


class OpenFaceAnalyser:
    """Another analyser's landmarks and embedding with OpenFace's pose and action units."""

    def __init__(self, analyser: FaceAnalyser, folder: Path) -> None:
        """Find the CSV files of a folder that `FrameSaver` filled.

        Raises:
            DataError: if there are none, or they have no pose or action units.
        """
        self._analyser, self._folder = analyser, folder
        tables = map(read_openface, sorted((folder / CSV_FOLDER).glob("*.csv")))
        table = next((table for table in tables if len(table)), None)
        if table is None:
            raise DataError(
                f"{folder / CSV_FOLDER}: no CSV file with a face; evaluate with --frames-out {folder} first, then run "
                f"OpenFace 2: FaceLandmarkImg -fdir {folder} -out_dir {folder / CSV_FOLDER}"
            )
        self.evaluated_aus = _known_aus(table)
        if not self.evaluated_aus or np.isnan(table.pose_NC).any():
            raise DataError(
                f"{folder / CSV_FOLDER}: no action units or no pose in the CSV files; run OpenFace without flags that "
                "leave them out"
            )
        self.backends: Backends = replace(analyser.backends, pose="OpenFace 2", action_units="OpenFace 2")

    def analyse(self, frame_HWC: Frame) -> FaceAnalysis | None:
        """The face as both see it; None if either finds none (OpenFace writes no file then, or one without rows).

        Raises:
            DataError: if OpenFace has not seen this picture.
        """
        picture = self._folder / f"{frame_key(frame_HWC)}.png"
        if not picture.is_file():
            raise DataError(
                f"{picture} is missing: OpenFace has not seen this picture; use the checkpoint, pairs and device that "
                "the pictures were made with, or make them anew with --frames-out"
            )
        path, face = self._folder / CSV_FOLDER / f"{picture.stem}.csv", self._analyser.analyse(frame_HWC)
        if face is None or not path.is_file() or not len(table := read_openface(path)):
            return None
        best = int(np.argmax(table.confidence_N))
        return replace(
            face,
            pose_C=table.pose_NC[best],
            au_presence_A=np.nan_to_num(table.au_presence_NA[best]),
            au_intensity_A=table.au_intensity_NA[best],
        )


def _known_aus(table: OpenFaceTable) -> tuple[int, ...]:
    presence_AN = table.au_presence_NA.T
    return tuple(au for au, presence_N in zip(AU_ORDER, presence_AN, strict=True) if not np.isnan(presence_N).all())
