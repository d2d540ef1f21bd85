"""The faces that were found in a clip, as a file beside the pieces of a film: who goes on need not look again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_partition.faces.face_table import FaceTable
from data_partition.faces.track import TrackedClip
from data_partition.sources.records import ClipSource
from model.files import whole_file


def keep_track(path: Path, clip: TrackedClip) -> None:
    """Write what reenactment needs of a clip whole or not at all: all but who is seen.

    Args:
        path: ends in .npz.
        clip: with one face at least.
    """
    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, clip=[clip.num_frames, clip.quarter_turns], faces=clip.faces.rows)


def kept_track(path: Path, source: ClipSource) -> TrackedClip:
    """The clip of a file that `keep_track` wrote.

    Args:
        path: of the file.
        source: the clip that it is of.
    """
    with np.load(path, allow_pickle=False) as arrays:
        (num_frames, quarter_turns), rows = arrays["clip"].tolist(), arrays["faces"]
    return TrackedClip(
        source=source,
        num_frames=num_frames,
        faces=FaceTable(rows),
        people={},
        quarter_turns=quarter_turns,
        is_cropped=False,
    )
