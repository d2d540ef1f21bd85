"""Promises of reenact.clips.sound and reenact.clips.pieces: sound and times of a film are those of the driving clip."""

from fractions import Fraction

import av
import numpy as np
import pytest

from data_partition.sources.video import read_frames, timing_of
from reenact.clips.pieces import Pieces, join_pieces, pieces_folder
from reenact.clips.sound import sound_of
from reenact.clips.video_writer import VideoWriter
from tests.support.films import click_at_s, click_samples, shown_at, sound_packets, write_film

FILM_BASE = Fraction(1, 24_000)
FILM_TICKS = [1001 * number for number in range(30)]
"""24000/1001 frames a second: no whole number of microseconds, nor of 1/90000 s, lies between two frames."""
UNEVEN_TICKS = [0, 40, 41, 500, 540, 1999, 2000]


def redrawn(driving, tmp_path, piece_frames=8):
    """The film's frames in pieces, joined again with its sound."""
    frames, timing, paths = list(read_frames(driving, print)), timing_of(driving), []
    for start in range(0, len(frames), piece_frames):
        paths.append(tmp_path / f"{start}.nut")
        with VideoWriter(paths[-1], frame_rate_hz=timing.rate_hz, time_base=timing.time_base) as writer:
            for frame in frames[start : start + piece_frames]:
                writer.add(frame.image_HWC, frame.timestamp_s)
    out = tmp_path / "out.mp4"
    join_pieces(out, paths, sound_of(driving), timing=timing)
    return out


@pytest.mark.parametrize(
    ("name", "ticks", "base"),
    [
        ("a.mp4", FILM_TICKS, FILM_BASE),
        ("a.mkv", UNEVEN_TICKS, Fraction(1, 1000)),
    ],
)
def test_pictures_are_shown_exactly_when_the_driving_ones_are(tmp_path, name, ticks, base):
    driving = write_film(tmp_path / name, ticks, time_base=base)
    out = redrawn(driving, tmp_path)
    assert shown_at(out) == shown_at(driving) == [tick * base for tick in ticks]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.ts", "aac"), ("a.mkv", "flac")]
)
def test_sound_that_mp4_holds_is_copied_bit_for_bit(tmp_path, name, codec):
    ticks = [3600 * number for number in range(50)]
    driving = write_film(
        tmp_path / name, ticks, time_base=Fraction(1, 90_000), codec=codec, samples=click_samples(0.6, 2)
    )
    out = redrawn(driving, tmp_path, piece_frames=16)
    sound = sound_of(driving)
    assert sound is not None and sound.is_copied and str(sound) == f"{codec.removeprefix('lib')}, copied"
    wanted, got = sound_packets(driving), sound_packets(out)
    assert len(got) == len(wanted)
    if name != "a.ts":  # whose packets have headers that MP4 keeps once
        assert [content for _, content in got] == [content for _, content in wanted]
    start_s = sound.starts_s
    assert max(abs(there - start_s - here) for (there, _), (here, _) in zip(wanted, got, strict=True)) < Fraction(
        1, 900
    )
    assert abs(click_at_s(out) - 0.6) < 0.01


def test_sound_that_mp4_does_not_hold_is_written_anew_at_its_time(tmp_path):
    ticks = [3600 * number for number in range(50)]
    driving = write_film(
        tmp_path / "a.mkv", ticks, time_base=Fraction(1, 90_000), codec="pcm_s16le", samples=click_samples(1.2, 2)
    )
    out = redrawn(driving, tmp_path)
    assert str(sound_of(driving)) == "pcm_s16le, written anew as aac"
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert abs(click_at_s(out) - 1.2) < 0.002


def test_sound_that_starts_late_stays_late_and_what_follows_the_pictures_is_left_out(tmp_path):
    ticks = [3600 * number for number in range(25)]
    driving = write_film(
        tmp_path / "a.mp4",
        ticks,
        time_base=Fraction(1, 90_000),
        codec="aac",
        samples=click_samples(0.2, 3),
        sound_from_s=0.5,
    )
    out = redrawn(driving, tmp_path)
    assert abs(click_at_s(out) - 0.7) < 0.01
    assert 0.9 < float(sound_packets(out)[-1][0]) < 1.0


def test_a_film_without_sound_and_a_folder_have_none(tmp_path):
    assert sound_of(write_film(tmp_path / "a.mp4", FILM_TICKS, time_base=FILM_BASE)) is None
    assert sound_of(tmp_path) is None


def test_pieces_of_something_else_are_removed_and_a_missing_one_ends_the_row(tmp_path):
    out = tmp_path / "out.mp4"
    pieces = Pieces.beside(out, {"driving": "a"})
    for number in (0, 1, 3):
        with VideoWriter(pieces.path(number), frame_rate_hz=Fraction(25)) as writer:
            writer.add(np.zeros((32, 32, 3), np.uint8))
    assert Pieces.beside(out, {"driving": "a"}).finished() == [pieces.path(0), pieces.path(1)]
    assert Pieces.beside(out, {"driving": "b"}).finished() == []
    pieces.remove()
    assert not pieces_folder(out).exists()
