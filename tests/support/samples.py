"""Samples of other people's files: real ones where they are at hand, else drawn ones of the same form.

What a test promises holds for both. Legend: F frames, K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_partition.shards.images import write_image
from data_partition.shards.shard import Shard, open_dataset
from data_partition.synth.dataset import synthesize
from model.batch import AU_ORDER
from tests.data_partition.conftest import write_video
from tests.support.paths import SHARED

CELEBRITIES = ("Emmanuel_Macron", "Jack_Ma", "Kathleen", "Theresa_May")
OPENFACE_PX = (640, 480)
"""Width and height of the pictures that OpenFace's files speak of."""


def celebv(folder: Path) -> Path:
    """Four people of CelebV, six pictures of 256 px each, without the files of landmarks; drawn into `folder`."""
    real = SHARED / "celebv-sample"
    if real.is_dir():
        return real
    shards = drawn(folder / "drawn", num_people=len(CELEBRITIES), size_px=256)
    for name, shard in zip(CELEBRITIES, shards, strict=True):
        images = folder / "celebv" / name / "Image"
        images.mkdir(parents=True)
        for number, row in enumerate(np.linspace(0, shard.num_frames - 1, 6).round().astype(int).tolist()):
            write_image(images / f"P_{name}_{number:05d}.jpg_{row:010d}.jpg", shard.read_frame(row))
    return folder / "celebv"


def talking_heads(folder: Path) -> list[Path]:
    """Videos of one person each, 100 frames and more; drawn into `folder`."""
    real = sorted((SHARED / "faces" / "videos").glob("*.mp4"))
    if real:
        return real
    shards = drawn(folder / "drawn", num_people=2, size_px=256)
    return [
        write_video(folder / f"{shard.identity}.mp4", [shard.read_frame(row) for row in to_and_fro(shard, 100)])
        for shard in shards
    ]


def openface_2(folder: Path) -> Path:
    """714 columns, 474 rows that all say frame 0, and a last row that breaks off after 196 fields."""
    real = SHARED / "openface-samples" / "facsvatar_jt_raw.csv"
    if real.is_file():
        return real
    columns = ["frame", "face_id", "timestamp", "confidence", "success", *_gaze(), *_eye_landmarks(), *_of_face()]
    (shard,) = drawn(folder / "drawn", num_people=1, size_px=160)
    played = enumerate(to_and_fro(shard, 475))
    rows = [_fields(shard, row, {"frame": 0, "timestamp": at / 30}) for at, row in played]
    text = _table(columns, rows, separator=", ")
    whole, last = text.rstrip().rsplit("\n", 1)
    return _write(folder / "openface-2.csv", f"{whole}\n{', '.join(last.split(', ')[:196])}")


def openface_1(folder: Path) -> Path:
    """431 columns, none of them face_id, and 100 rows."""
    real = SHARED / "openface-samples" / "pyfeat_OpenFace_Test.csv"
    if real.is_file():
        return real
    columns = ["frame", "timestamp", "confidence", "success", *_gaze()[:6], *_of_face()]
    (shard,) = drawn(folder / "drawn", num_people=1, size_px=160)
    rows = [
        _fields(shard, row, {"frame": at + 1, "timestamp": at / 30}) for at, row in enumerate(to_and_fro(shard, 100))
    ]
    return _write(folder / "openface-1.csv", _table(columns, rows, separator=","))


def drawn(folder: Path, *, num_people: int, size_px: int) -> list[Shard]:
    """Drawn people, 20 frames each."""
    synthesize(folder, num_identities=num_people, num_frames=20, size_px=size_px, num_workers=1)
    return open_dataset(folder)


def to_and_fro(shard: Shard, num_rows: int) -> Iterator[int]:
    """Rows of a shard, forwards and backwards in turn, so that the face never jumps."""
    last = shard.num_frames - 1
    return (last - abs(last - at % (2 * last)) for at in range(num_rows))


def _gaze() -> list[str]:
    return [f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"] + ["gaze_angle_x", "gaze_angle_y"]


def _eye_landmarks() -> list[str]:
    return [f"eye_lmk_{axis}_{index}" for axis in "xyXYZ" for index in range(56)]


def _of_face() -> list[str]:
    """Pose, landmarks, shape and action units, as both versions order them."""
    pose = [f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"]
    landmarks = [f"{axis}_{index}" for axis in "xyXYZ" for index in range(68)]
    shape = ["p_scale", *(f"p_{name}" for name in ("rx", "ry", "rz", "tx", "ty")), *(f"p_{n}" for n in range(34))]
    return [*pose, *landmarks, *shape, *(f"AU{au:02d}_r" for au in AU_ORDER if au != 28), *_presence()]


def _presence() -> list[str]:
    return [f"AU{au:02d}_c" for au in AU_ORDER]


def _fields(shard: Shard, row: int, of_frame: dict[str, float]) -> dict[str, float]:
    """What OpenFace would say of a drawn frame in the middle of its picture; 0 where nobody reads."""
    corner_C = (np.array(OPENFACE_PX) - 2 * shard.size_px) / 2
    landmarks_KC = corner_C + 2 * shard.landmarks_FKC[row]
    fields = of_frame | {"confidence": 0.98, "success": 1}
    fields |= dict(zip(("pose_Rx", "pose_Ry", "pose_Rz"), np.radians(shard.pose_FC[row]), strict=True))
    fields |= {f"{axis}_{k}": landmarks_KC[k, c] for c, axis in enumerate("xy") for k in range(len(landmarks_KC))}
    presence = dict(zip(_presence(), shard.au_presence_FA[row], strict=True))
    return fields | presence | {name.replace("_c", "_r"): 2.5 * value for name, value in presence.items()}


def _table(columns: list[str], rows: list[dict[str, float]], *, separator: str) -> str:
    lines = [separator.join(f"{row.get(name, 0):.6g}" for name in columns) for row in rows]
    return "\n".join([separator.join(columns), *lines]) + "\n"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
