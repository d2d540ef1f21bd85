"""Promises of `reenact` on clips: going on, paste-back, preview, batch."""

import csv
from fractions import Fraction

import numpy as np
import pytest
import torch

import reenact.clips.film
from data_partition.consent.kinds import WithoutConsent
from data_partition.shards.images import read_image, write_image
from data_partition.shards.shard import open_shard
from data_partition.shards.writer import record_consent
from data_partition.sources.video import read_frames
from data_partition.synth.dataset import synthesize
from model.checkpoint import save_checkpoint
from model.errors import ConfigError, DataError
from model.progress import no_progress
from reenact.batch import TABLE_NAME, run_batch
from reenact.request import ReenactRequest
from reenact.studio import Studio, run_request
from tests.support.consents import NO_CONSENT, consent_of
from tests.support.films import click_samples, shown_at, sound_packets, write_film
from tests.support.shards import write_random_shard

NUM_FRAMES = 22
TICKS = [1001 * number for number in range(NUM_FRAMES)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A drawn person who drives, with sound and a moment without a face, and a picture of a scene with that person."""
    folder = tmp_path_factory.mktemp("films")
    shard = open_shard(synthesize(folder / "heads", num_identities=1, num_frames=NUM_FRAMES, size_px=128)[0])
    pictures = [shard.read_frame(number) for number in range(NUM_FRAMES)]
    pictures[12] = np.full((128, 128, 3), 90, np.uint8)
    samples = click_samples(0.3, 0.9)
    time_base = Fraction(1, 24_000)
    write_film(folder / "b.mp4", TICKS, time_base=time_base, pictures=pictures, codec="aac", samples=samples)
    scene = np.full((241, 401, 3), 90, np.uint8)
    scene[60:188, 130:258] = shard.read_frame(3)
    write_image(folder / "scene.png", scene)
    return folder


@pytest.fixture
def site(tmp_path, checkpoint):
    """A folder with a checkpoint and shards of the known identity ana and of the unknown person eva."""
    save_checkpoint(tmp_path / "run", checkpoint)
    write_random_shard(tmp_path / "data", "ana", num_frames=3)
    write_random_shard(tmp_path / "data", "eva", num_frames=2, seed=1)
    return tmp_path


def request(site, films, **changes):
    common = {
        "checkpoint": site / "run",
        "sources": (site / "data" / "ana" / "frames" / "000000.jpg",),
        "driving": films / "b.mp4",
        "out": site / "out.mp4",
        "without_consent": WithoutConsent.SYNTHETIC,
    }
    return ReenactRequest(**common | changes)


def run(request, progress=no_progress):
    return run_request(request, device=CPU, progress=progress)


def pictures_of(path):
    return np.stack([frame.image_HWC for frame in read_frames(path, print)]).astype(int)


@pytest.mark.integration
def test_a_film_has_the_driving_clips_times_and_sound_and_says_what_it_did(site, films):
    report = run(request(site, films))
    assert shown_at(report.out) == shown_at(films / "b.mp4")
    assert sound_packets(report.out) == sound_packets(films / "b.mp4")
    assert (report.sound, [str(gap) for gap in report.gaps]) == ("aac, copied", ["frame 12: no face, bridged"])
    assert report.reference is not None and 0 <= report.reference < NUM_FRAMES


@pytest.mark.integration
def test_a_run_that_was_stopped_leaves_nothing_half_written_and_goes_on_to_the_same_film(site, films, monkeypatch):
    monkeypatch.setattr(reenact.clips.film, "PIECE_FRAMES", 8)
    run(request(site, films, out=site / "undisturbed.mp4"))

    def stop(text, done, total):
        if text == "Drawing" and done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request(site, films), stop)
    assert not (site / "out.mp4").exists()
    assert sorted(path.name for path in (site / "out.mp4.parts").iterdir()) == [
        "000000.nut",
        "000001.nut",
        "face-table.npz",
        "made-of.json",
    ]
    told = []
    run(request(site, films), lambda *progress: told.append(progress))
    assert told[0] == ("Drawing", 16, NUM_FRAMES)  # nor are the faces looked for again
    assert np.abs(pictures_of(site / "out.mp4") - pictures_of(site / "undisturbed.mp4")).max() <= 8  # of H.264
    assert shown_at(site / "out.mp4") == shown_at(site / "undisturbed.mp4")
    assert not (site / "out.mp4.parts").exists()


@pytest.mark.integration
def test_of_a_person_who_withdraws_while_a_film_is_drawn_nothing_is_left(site, films):
    ana = write_random_shard(site / "asked", "ana", num_frames=2, consent=consent_of("ana"))

    def withdraw(text, done, total):
        if text == "Drawing" and done == 10:
            record_consent(ana.path, consent_of("ana", **NO_CONSENT["revoked"]))

    with pytest.raises(DataError, match="was revoked"):
        run(request(site, films, sources=(ana.path,)), withdraw)
    assert not (site / "out.mp4").exists() and not (site / "out.mp4.parts").exists()


def test_pieces_of_other_choices_are_not_gone_on_from(site, films):
    studio = Studio(site / "run", CPU, no_progress)
    first = studio.made_of(request(site, films))
    assert studio.made_of(request(site, films, out=site / "other.mp4")) == first
    changes = {"is_pasted": True, "driving_face": 2, "driving": films / "scene.png", "identity": "ana"}
    for name, value in changes.items():
        assert studio.made_of(request(site, films, **{name: value})) != first


@pytest.mark.integration
@pytest.mark.parametrize("driving", ["b.mp4", "scene.png"])
def test_a_pasted_result_is_the_whole_picture_with_another_face(site, films, driving):
    out = site / ("out.mp4" if driving == "b.mp4" else "out.png")
    run(request(site, films, sources=(films / "scene.png",), driving=films / driving, out=out, is_pasted=True))
    result = pictures_of(out)[-1] if out.suffix == ".mp4" else read_image(out).astype(int)
    scene = read_image(films / "scene.png").astype(int)
    assert result.shape == (242, 402, 3)  # even sides, as video needs them
    assert np.abs(result[:30, :100] - scene[:30, :100]).max() <= 6
    assert np.abs(result[90:160, 160:230] - scene[90:160, 160:230]).mean() > 5


def test_a_shards_frame_cannot_be_pasted_back(site, films):
    with pytest.raises(ConfigError, match="--paste: the source is of a shard"):
        run(request(site, films, is_pasted=True))


@pytest.mark.integration
def test_a_preview_is_there_before_the_drawing_starts(site, films):
    preview = site / "preview.png"

    def look(text, done, total):
        if text == "Drawing":
            assert preview.is_file()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request(site, films, sources=(films / "scene.png",), preview=preview), look)
    is_box = np.abs(read_image(preview).astype(int) - (255, 140, 0)).max(axis=2) < 60
    assert is_box[:, : is_box.shape[1] // 2].sum() > 200 and is_box[:, is_box.shape[1] // 2 :].sum() > 200


def test_a_preview_needs_a_clip_and_a_pictures_name(site, films):
    with pytest.raises(ConfigError, match="--preview shows what a driving clip will do"):
        run(request(site, films, driving=films / "scene.png", out=site / "a.png", preview=site / "p.png"))
    with pytest.raises(ConfigError, match=r"--preview .*p\.mp4: wanted a name that ends in \.png"):
        run(request(site, films, preview=site / "p.mp4"))


def batch(site, **changes):
    folders = {
        "sources": (site / "data" / "ana" / "frames",),
        "driving": site / "data" / "eva" / "frames",
        "out": site / "all",
        "without_consent": WithoutConsent.SYNTHETIC,
    }
    told = []
    one = ReenactRequest(checkpoint=site / "run", **folders | changes)
    return run_batch(one, device=CPU, progress=no_progress, on_row=told.append), told


def table_of(site):
    with (site / "all" / TABLE_NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_batch_draws_every_source_by_every_driving_and_lists_it(site):
    rows, told = batch(site)
    assert rows == told and len(rows) == 6
    assert [row["result"] for row in table_of(site)][:2] == ["000000--000000.png", "000001--000000.png"]
    assert {row["landmarks"] for row in table_of(site)} == {"lgan"}
    assert all((site / "all" / row.result).is_file() for row in rows)


def test_a_batch_that_was_stopped_makes_what_is_missing_or_was_made_of_something_else(site):
    batch(site)
    results = {path: path.stat().st_mtime_ns for path in (site / "all").glob("*.png")}
    (site / "all" / "000001--000000.png").unlink()
    write_random_shard(site / "new", "ana", num_frames=3, seed=5)
    changed = site / "data" / "ana" / "frames" / "000002.jpg"
    changed.write_bytes((site / "new" / "ana" / "frames" / "000002.jpg").read_bytes())
    batch(site)
    again = {path.name for path, time in results.items() if path.stat().st_mtime_ns != time}
    assert again == {"000001--000000.png", "000002--000000.png", "000002--000001.png"}


def test_what_fails_in_a_batch_is_a_row_with_its_reason_and_stops_no_other(site, films):
    sources = site / "sources"
    sources.mkdir()
    (sources / "a.png").write_bytes((films / "scene.png").read_bytes())
    (sources / "broken.jpg").write_bytes(b"not a picture")
    (sources / "notes.txt").write_text("ignored")
    rows, _ = batch(site, sources=(sources,))
    assert [row.source for row in rows] == ["a.png", "broken.jpg"] * 2
    assert [bool(row.result) for row in rows] == [True, False] * 2
    assert "broken.jpg" in table_of(site)[1]["problem"]


def test_two_inputs_of_one_name_are_refused_before_any_work(site, films):
    (site / "data" / "ana" / "frames" / "000000.png").write_bytes((films / "scene.png").read_bytes())
    with pytest.raises(ConfigError, match="would give results of one name; rename one"):
        batch(site)
    assert not (site / "all").exists()
