"""Faces and clips for tests: drawn people, which the real annotator finds."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from data_partition.shards.images import write_image
from data_partition.shards.shard import Shard, open_dataset
from data_partition.synth.dataset import synthesize
from model.errors import WeightsError
from model.weights import resolve


@pytest.fixture(scope="session")
def drawn_people(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """Two drawn people, 20 frames of 160 px each."""
    root = tmp_path_factory.mktemp("drawn")
    synthesize(root, num_identities=2, num_frames=20, size_px=160, num_workers=1)
    return open_dataset(root)


@pytest.fixture(scope="session")
def face_landmarker() -> Path:
    """The annotator's model file; skips where it is not installed."""
    try:
        return resolve("face-landmarker")
    except WeightsError as error:
        pytest.skip(str(error))


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], *, rate_hz: int = 25) -> Path:
    """Encode [H, W, 3] uint8 RGB frames as MPEG-4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate_hz)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 8_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_picture(path: Path, value: int = 0) -> None:
    """An 8 x 8 picture of one grey; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((8, 8, 3), value, np.uint8))
