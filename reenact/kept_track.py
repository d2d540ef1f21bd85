"""The faces that were found in a clip, as a file beside the pieces of a film: a run that goes on need not look again.

Legend: N frames with a face, K = 68 landmarks, C coordinates, A = 18 action units, E = 2 eyes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_partition.faces.annotate import FaceAnnotation
from data_partition.faces.crop import CropBox
from data_partition.faces.track import TrackedClip, TrackedFace
from data_partition.sources.records import ClipSource
from model.files import whole_file


def keep_track(path: Path, clip: TrackedClip) -> None:
    """Write what reenactment needs of a clip whole or not at all: all but who is seen.

    Args:
        path: ends in .npz.
        clip: with one face at least.
    """
    faces = list(clip.faces.values())
    annotations = [face.annotation for face in faces]
    arrays = {
        "clip": np.array([clip.num_frames, clip.quarter_turns]),
        "frame_index_N": np.array(list(clip.faces)),
        "take_N": np.array([face.take for face in faces]),
        "timestamp_s_N": np.array([face.timestamp_s for face in faces]),
        "box_N3": np.array([(face.box.left, face.box.top, face.box.side) for face in faces]),
        "landmarks_NKC": np.stack([one.landmarks_KC for one in annotations]),
        "pose_NC": np.stack([one.pose_C for one in annotations]),
        "au_presence_NA": np.stack([one.au_presence_A for one in annotations]),
        "au_intensity_NA": np.stack([one.au_intensity_A for one in annotations]),
        "confidence_N": np.array([one.confidence for one in annotations]),
    }
    irises = [one.irises_EC for one in annotations if one.irises_EC is not None]
    if irises:
        arrays["irises_NEC"] = np.stack(irises)
    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def kept_track(path: Path, source: ClipSource) -> TrackedClip:
    """The clip of a file that `keep_track` wrote.

    Args:
        path: of the file.
        source: the clip that it is of.
    """
    with np.load(path, allow_pickle=False) as arrays:
        of = {name: arrays[name] for name in arrays.files}
    faces = {
        int(index): TrackedFace(
            annotation=FaceAnnotation(
                landmarks_KC=of["landmarks_NKC"][row],
                pose_C=of["pose_NC"][row],
                au_presence_A=of["au_presence_NA"][row],
                au_intensity_A=of["au_intensity_NA"][row],
                confidence=float(of["confidence_N"][row]),
                irises_EC=of["irises_NEC"][row] if "irises_NEC" in of else None,
            ),
            timestamp_s=float(of["timestamp_s_N"][row]),
            take=int(of["take_N"][row]),
            box=CropBox(*of["box_N3"][row].tolist()),
        )
        for row, index in enumerate(of["frame_index_N"])
    }
    num_frames, quarter_turns = of["clip"].tolist()
    return TrackedClip(
        source=source, num_frames=num_frames, faces=faces, people={}, quarter_turns=quarter_turns, is_cropped=False
    )
