import cv2
import numpy as np
import pytest
import torch

from data_partition.images import read_image
from model.checkpoint import save_checkpoint
from model.errors import ConfigError, DataError
from reenact.guidance_choice import Guidance
from reenact.job import ReenactRequest, run_request
from tests.shards import write_random_shard


def no_progress(stage: str, done: int, total: int) -> None:
    pass


def run(**request):
    return run_request(ReenactRequest(**request), device=torch.device("cpu"), progress=no_progress)


@pytest.fixture
def site(tmp_path, checkpoint):
    """A folder with a checkpoint and a shard of the known identity ana and of the unknown person eva."""
    save_checkpoint(tmp_path / "run", checkpoint)
    write_random_shard(tmp_path / "data", "ana", num_frames=3)
    write_random_shard(tmp_path / "data", "eva", num_frames=3, seed=1)
    return tmp_path


def frame(site, identity, number=0):
    return site / "data" / identity / "frames" / f"{number:06d}.jpg"


@pytest.mark.parametrize(
    ("source", "driving", "expected"),
    [
        ("ana", "ana", Guidance.DRIVING),
        ("ana", "eva", Guidance.LGAN),
        ("eva", "ana", Guidance.LST),
    ],
)
def test_frames_of_shards_pick_the_guidance_by_who_they_show(site, source, driving, expected):
    report = run(
        checkpoint=site / "run",
        source=frame(site, source, 1),
        driving=frame(site, driving, 2),
        out=site / "new" / "out.png",
    )
    assert report.guidance is expected
    assert read_image(report.out).shape == (32, 32, 3)


def test_named_identity_makes_an_unknown_picture_known(site):
    report = run(
        checkpoint=site / "run",
        source=frame(site, "eva"),
        driving=frame(site, "ana"),
        out=site / "out.jpg",
        identity="ben",
    )
    assert report.guidance is Guidance.LGAN


def test_identity_the_checkpoint_does_not_know_is_an_error_that_names_the_known(site):
    with pytest.raises(ConfigError, match="ana, ben"):
        run(
            checkpoint=site / "run",
            source=frame(site, "ana"),
            driving=frame(site, "eva"),
            out=site / "out.jpg",
            identity="zoe",
        )
    assert not (site / "out.jpg").exists()


def test_picture_without_a_face_names_the_file(site):
    noise = site / "noise.png"
    cv2.imwrite(str(noise), np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"noise\.png: no face found"):
        run(checkpoint=site / "run", source=noise, driving=frame(site, "ana"), out=site / "out.jpg")


@pytest.mark.parametrize("name", ["out.mp4", "out.gif", "out"])
def test_output_that_does_not_fit_a_picture_is_refused_at_once(site, name):
    with pytest.raises(ConfigError, match=r"\.jpg or \.jpeg or \.png"):
        run(
            checkpoint=site / "no-such-run",
            source=frame(site, "ana"),
            driving=frame(site, "eva"),
            out=site / name,
        )


def test_an_input_is_never_overwritten(site):
    with pytest.raises(ConfigError, match="overwrite"):
        run(
            checkpoint=site / "run",
            source=frame(site, "ana"),
            driving=frame(site, "eva"),
            out=frame(site, "ana"),
        )
