"""Draw docs/images anew from a demonstration: python docs/pictures.py DEMO, after `fedreenact demo DEMO`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from data_partition.shards.contact_sheet import write_contact_sheet
from data_partition.shards.images import read_image, write_image
from data_partition.shards.shard import Shard, open_dataset
from evaluation.sheet import draw_sheet, sheet_row
from model.checkpoint import load_checkpoint
from model.frames import Frame
from reenact.face_frame import FaceFrame
from reenact.faces import face_of_shard
from reenact.guidance_choice import Guidance
from reenact.person import Person, references_of_shard
from reenact.reenactor import Reenactor, Transfer

IMAGES = Path(__file__).parent / "images"
CELL_PX = 128
GAP_PX = 4
NUM_SOURCES = 3
NUM_DRIVING = 5
SHEET_WIDTH_PX = 900


def reenactment(reenactor: Reenactor, shards: Sequence[Shard]) -> Frame:
    """A table: driving frames of the first person on top, then a row for every other: the source, and its results."""
    driver, *others = shards[: NUM_SOURCES + 1]
    held_out = np.flatnonzero(driver.is_test_F)
    rows = held_out[np.linspace(0, len(held_out) - 1, NUM_DRIVING).round().astype(int)]
    driving = [face_of_shard(driver, int(row), reenactor.size_px) for row in rows]
    size_px = reenactor.size_px
    table = [[np.full((size_px, size_px, 3), 255, np.uint8), *(face.image_HWC for face in driving)]]
    for shard in others:
        source = held_out_person(shard, size_px)
        table.append([source.image_HWC, *results(reenactor, source, driving)])
    return grid(table)


def sheet(reenactor: Reenactor, shards: Sequence[Shard]) -> Frame:
    """How two results came about: a person driven by herself, and another one by the first person."""
    first, second, third = (held_out_person(shard, reenactor.size_px) for shard in shards[:3])
    later = held_out_face(shards[2], reenactor.size_px, -1)
    image = draw_sheet([sheet_row(reenactor, third, later), sheet_row(reenactor, second, first)])
    height_px = round(image.shape[0] * SHEET_WIDTH_PX / image.shape[1])
    return cv2.resize(image, (SHEET_WIDTH_PX, height_px), interpolation=cv2.INTER_AREA)


def held_out_face(shard: Shard, size_px: int, which: int = 0) -> FaceFrame:
    """The first of a shard's held-out frames, or another."""
    return face_of_shard(shard, int(np.flatnonzero(shard.is_test_F)[which]), size_px)


def held_out_person(shard: Shard, size_px: int) -> Person:
    """The first held-out frame, drawn from frames of its clip that were for training."""
    face, clip = held_out_face(shard, size_px), str(shard.clip[np.flatnonzero(shard.is_test_F)[0]])
    return Person.of(face, references_of_shard(shard, clip, size_px).with_detail())


def results(reenactor: Reenactor, source: FaceFrame, driving: Sequence[FaceFrame]) -> list[Frame]:
    """The source person as in every driving frame, all of one other person."""
    statistics = reenactor.statistics(driving[0].identity, np.stack([face.landmarks_KC for face in driving]))
    guidance = reenactor.choose(Guidance.AUTO, source, driving[0].identity)
    transfer = Transfer(guidance=guidance, driving_statistics=statistics)
    targets_NKC = reenactor.target_landmarks(transfer, source, driving)
    return [drawing.result for drawing in reenactor.draw(source, driving, targets_NKC)]


def grid(table: Sequence[Sequence[Frame]]) -> Frame:
    """Rows of frames on white, every frame `CELL_PX` wide, [H, W, 3] uint8 RGB."""
    step_px = CELL_PX + GAP_PX
    canvas = np.full((len(table) * step_px - GAP_PX, len(table[0]) * step_px - GAP_PX, 3), 255, np.uint8)
    for row, frames in enumerate(table):
        for column, frame in enumerate(frames):
            interpolation = cv2.INTER_AREA if frame.shape[0] > CELL_PX else cv2.INTER_CUBIC
            cell = cv2.resize(frame, (CELL_PX, CELL_PX), interpolation=interpolation)
            canvas[row * step_px :, column * step_px :][:CELL_PX, :CELL_PX] = cell
    return canvas


def main() -> None:
    """Write all pictures."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    demo = Path(sys.argv[1])
    shards = open_dataset(demo / "dataset")
    reenactor = Reenactor(load_checkpoint(demo / "run"), torch.device("cpu"))
    IMAGES.mkdir(exist_ok=True)
    contact_sheet = read_image(write_contact_sheet(shards, IMAGES / "contact-sheet.jpg"))
    pictures = {"reenactment": reenactment(reenactor, shards), "sheet": sheet(reenactor, shards)}
    for name, picture in (pictures | {"contact-sheet": contact_sheet}).items():
        write_image(IMAGES / f"{name}.jpg", picture, jpeg_quality=85)


if __name__ == "__main__":
    main()
