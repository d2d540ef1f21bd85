from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from data_partition.consent.kinds import WithoutConsent
from data_partition.shards.images import read_image, write_image
from data_partition.shards.shard import open_shard
from data_partition.sources.video import read_frames
from data_partition.synth.dataset import synthesize
from federation.settings import Settings
from model.checkpoint import save_checkpoint
from model.designs.registry import build_networks
from model.errors import ConfigError, DataError
from model.progress import no_progress
from reenact.guidance_choice import Guidance
from reenact.live import LiveDrawing, LiveRequest
from reenact.person import Person, references_from
from reenact.reenactor import Reenactor
from reenact.request import ReenactRequest
from reenact.studio import run_request
from tests.support.shards import write_random_shard
from tests.support.small_face import PART_SIZES, SMALL, small_face


def run(source, **request):
    sources = source if isinstance(source, tuple) else (source,)
    asked = ReenactRequest(sources=sources, **{"without_consent": WithoutConsent.SYNTHETIC} | request)
    return run_request(asked, device=torch.device("cpu"), progress=no_progress)


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
    assert read_image(report.out).shape == (256, 256, 3)  # 32 pixels are too few for a label


def test_a_source_may_be_a_shard_or_several_pictures_and_is_told(site):
    """The network was trained for one source, so the nearest draws each result."""
    common = {"checkpoint": site / "run", "driving": frame(site, "eva", 2), "out": site / "out.png"}
    report = run(source=site / "data" / "ana", **common)
    assert (report.guidance, report.num_sources, report.num_references) == (Guidance.LGAN, 1, 3)
    report = run(source=(frame(site, "ana", 0), frame(site, "ana", 2)), **common)
    assert (report.guidance, report.num_sources, report.num_references) == (Guidance.LGAN, 1, 2)


def test_sources_of_two_people_are_an_error_that_names_them(site):
    with pytest.raises(ConfigError, match="--source: shows 'ana' and 'eva', wanted one person"):
        run(
            checkpoint=site / "run",
            source=(frame(site, "ana"), site / "data" / "eva"),
            driving=frame(site, "eva"),
            out=site / "out.jpg",
        )


@pytest.mark.parametrize("consent", [None, ".", "eva"])
def test_a_folder_without_pictures_says_what_was_wanted_before_consent_is_asked(site, consent):
    asked = {"consent": consent and site / "data" / consent, "without_consent": None}
    with pytest.raises(DataError, match=r"data: neither pictures nor shard\.json in this folder; wanted a picture, a"):
        run(checkpoint=site / "run", source=site / "data", driving=frame(site, "eva"), out=site / "out.jpg", **asked)


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


def test_driving_clip_gives_a_video_in_which_frames_without_a_face_are_bridged_or_stand_still(site, tmp_path):
    """Invented people, because the annotator must find a face."""
    shard = open_shard(synthesize(tmp_path / "synth", num_identities=1, num_frames=20, size_px=128)[0])
    clip = tmp_path / "clip"
    clip.mkdir()
    grey = np.full((128, 128, 3), 90, np.uint8)
    frames = [grey, shard.read_frame(0), shard.read_frame(1), grey, shard.read_frame(2)]
    for number, picture in enumerate(frames):
        write_image(clip / f"{number}.png", picture)
    told = []
    report = run_request(
        ReenactRequest(checkpoint=site / "run", sources=(frame(site, "ana"),), driving=clip, out=tmp_path / "out.mp4"),
        device=torch.device("cpu"),
        progress=lambda *progress: told.append(progress),
    )
    assert (report.num_frames, report.guidance, report.sound) == (5, Guidance.LGAN, "")
    assert [str(gap) for gap in report.gaps] == [
        "frame 0: no face, the result stands still",
        "frame 3: no face, bridged",
    ]
    assert told[-1] == ("Drawing", 5, 5)
    written = [picture.image_HWC.mean(axis=2) for picture in read_frames(report.out, print)]
    assert len(written) == 5
    standing_still = cv2.resize(read_image(frame(site, "ana")), (256, 256), interpolation=cv2.INTER_CUBIC).mean(axis=2)
    assert np.corrcoef(written[0].ravel(), standing_still.ravel())[0, 1] > 0.7
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.mp4"]


def test_relative_motion_of_points_draws_a_film_from_one_frame_and_says_so(site, checkpoint):
    config = replace(SMALL, network="fomm", num_sources=4, use_landmark_flow=True)
    tensors = build_networks(config, PART_SIZES, seed=0).travelling_tensors()
    save_checkpoint(site / "fomm", replace(checkpoint, settings=Settings(model=config).to_flat(), tensors=tensors))
    shard = open_shard(synthesize(site / "synth", num_identities=1, num_frames=20, size_px=128)[0])
    clip = site / "clip"
    clip.mkdir()
    for row in range(3):
        write_image(clip / f"{row}.png", shard.read_frame(row))
    report = run(checkpoint=site / "fomm", source=site / "data" / "ana", driving=clip, out=site / "out.mp4")
    assert "motion relative to driving frame" in str(report) and "from 1 of 1 frame(s)" in str(report)


def test_live_relative_motion_of_points_draws_from_the_frame_that_stands_for_the_person(site, checkpoint):
    config = replace(SMALL, network="monkeynet")
    tensors = build_networks(config, PART_SIZES, seed=0).travelling_tensors()
    trained = replace(checkpoint, settings=Settings(model=config).to_flat(), tensors=tensors)
    reenactor = Reenactor(trained, torch.device("cpu"))
    shard = open_shard(synthesize(site / "synth", num_identities=1, num_frames=20, size_px=128)[0])
    nearer = replace(small_face(0), image_HWC=small_face(1).image_HWC, pose_C=shard.pose_FC[0])
    faces = [replace(small_face(0), pose_C=shard.pose_FC[0] + np.float32(40)), nearer]
    person, picture_HWC = Person.of(faces[0], references_from(lambda: iter(faces))), shard.read_frame(0).repeat(2, 0)

    def drawn(source):
        with LiveDrawing(reenactor, source, LiveRequest(sources=()), lambda frame_HWC: frame_HWC) as live:
            return live.draw(picture_HWC.repeat(2, 1), 0)

    np.testing.assert_array_equal(drawn(person), drawn(faces[0]))


def test_clip_without_any_face_is_an_error_and_leaves_no_file(site, tmp_path):
    clip = tmp_path / "clip"
    clip.mkdir()
    write_image(clip / "0.png", np.full((128, 128, 3), 90, np.uint8))
    with pytest.raises(DataError, match="no face found in 1 frames"):
        run(checkpoint=site / "run", source=frame(site, "ana"), driving=clip, out=tmp_path / "out.mp4")
    assert not list(tmp_path.glob("out*"))


def test_clip_needs_an_mp4_output(site, tmp_path):
    (tmp_path / "clip.mov").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"must end in \.mp4"):
        run(
            checkpoint=site / "run",
            source=frame(site, "ana"),
            driving=tmp_path / "clip.mov",
            out=tmp_path / "out.jpg",
        )


@pytest.mark.parametrize("out", ["out.mp4", "out.jpg"])
def test_a_shard_that_is_to_drive_says_that_its_frames_can(site, out):
    with pytest.raises(
        DataError, match=r"--driving .*eva: no pictures in this folder; .* \(of a shard its folder frames"
    ):
        run(checkpoint=site / "run", source=frame(site, "ana"), driving=site / "data" / "eva", out=site / out)


@pytest.mark.parametrize("out", ["out.mp4", "out.jpg"])
def test_a_driving_file_that_is_not_there_is_named_as_such(site, tmp_path, out):
    gone = tmp_path / "gone.mp4"
    with pytest.raises(DataError, match=r"gone\.mp4: does not exist; wanted a picture, a clip"):
        run(checkpoint=site / "run", source=frame(site, "ana"), driving=gone, out=tmp_path / out)
