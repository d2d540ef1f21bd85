"""Videos that people have on their disks come in as a player shows them, or with one clear error."""

import itertools
import random
import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from data_partition.sources.colour import tone_mapped
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import is_clip, read_frames
from model.errors import DataError
from tests.data_partition.conftest import write_video


def _first(path: Path) -> np.ndarray:
    return next(iter(read_frames(path, lambda _: None))).image_HWC


def _corner() -> np.ndarray:
    """Bright in the upper left quarter."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 255
    return image


@pytest.mark.parametrize(
    ("matrix", "place"),
    [
        ((-1, 0, 0, 1), (0, 1)),  # mirrored
        ((1, 0, 0, -1), (1, 0)),  # upside down and mirrored
        ((-1, 0, 0, -1), (1, 1)),  # a half turn
        ((0, 1, 1, 0), (0, 0)),  # a quarter turn and mirrored
        ((0, 1, -1, 0), (0, 1)),  # a quarter turn clockwise
        ((0, -1, 1, 0), (1, 0)),
    ],
)
def test_a_display_matrix_turns_and_mirrors(
    tmp_path: Path, matrix: tuple[int, int, int, int], place: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "a.mp4", [_corner()] * 2)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    image = _first(path)
    assert image.shape == ((64, 48, 3) if matrix[0] == 0 else (48, 64, 3))
    half_y, half_x = image.shape[0] // 2, image.shape[1] // 2
    quarters = image[: 2 * half_y, : 2 * half_x].reshape(2, half_y, 2, half_x, 3).mean(axis=(1, 3, 4))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == place


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_corner(), format="rgb24")))
        container.mux(stream.encode(None))
    assert _first(path).shape == (48, 128, 3)


@pytest.mark.parametrize(
    ("size", "pixels", "matrix", "is_tagged"),
    [
        ((1280, 640), "yuv420p", Colorspace.ITU709, False),
        ((64, 720), "yuv420p", Colorspace.ITU709, False),
        ((64, 720), "yuva420p", Colorspace.ITU709, False),
        ((1280, 640), "yuv420p", Colorspace.ITU601, True),
        ((640, 480), "yuv420p", Colorspace.ITU601, False),
        ((64, 720), "bgr0", Colorspace.ITU709, False),
    ],
)
def test_colours_are_those_that_a_player_shows_where_the_file_does_not_tell_its_matrix(
    tmp_path: Path, size: tuple[int, int], pixels: str, matrix: Colorspace, is_tagged: bool
) -> None:
    path, colour = tmp_path / "a.mkv", (200, 100, 60)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        (stream.width, stream.height), stream.pix_fmt = size, pixels
        if is_tagged:
            stream.codec_context.colorspace = matrix
        picture = av.VideoFrame.from_ndarray(np.full((*size[::-1], 3), colour, np.uint8), format="rgb24")
        container.mux(stream.encode(picture.reformat(format=pixels, dst_colorspace=matrix)))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(_first(path)[20, 20], colour, atol=3)


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_high_dynamic_range_keeps_grey_grey_and_rises_to_white(transfer: str) -> None:
    signal = np.linspace(0, 65535, 64).astype(np.uint16)
    image = tone_mapped(np.repeat(signal[None, :, None], 3, axis=2), transfer).astype(int)  # type: ignore[arg-type]
    assert np.ptp(image, axis=2).max() <= 1
    grey = image[0, :, 1]
    assert (np.diff(grey) >= 0).all() and grey[0] == 0 and grey[-1] >= 250


def test_pq_of_half_of_white_is_half_of_white() -> None:
    """50 cd/m2 is 0.4403 in PQ (SMPTE ST 2084), and 0.5 of light is 188 in sRGB."""
    image = tone_mapped(np.full((1, 1, 3), round(0.4403 * 65535), np.uint16), "pq")
    np.testing.assert_allclose(image, 188, atol=2)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".3gp", "mpeg4"), (".MTS", "mpeg2video"), (".wmv", "wmv2"), (".webm", "libvpx"), (".avi", "mjpeg")],
)
def test_videos_of_cameras_and_recorders_are_read(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w", format="mpegts" if suffix == ".MTS" else None) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_corner(), format="rgb24")))
        container.mux(stream.encode(None))
    assert is_clip(path)
    assert len(list(read_frames(path, lambda _: None))) == 12
    assert _first(path)[4, 4].min() > 200 and _first(path)[40, 60].max() < 50


def test_half_pictures_of_a_camera_become_whole_ones_at_the_same_times(tmp_path: Path) -> None:
    """A bar that moves from one half picture to the next has combed edges until the halves are put together."""
    path = tmp_path / "a.mts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.bit_rate = 8_000_000
        stream.options = {"flags": "+ildct+ilme"}
        for number in range(10):
            image = np.zeros((96, 128, 3), np.uint8)
            for half in (0, 1):
                left = 8 + 8 * number + 4 * half
                image[half::2, left : left + 24] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        combed = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    frames = list(read_frames(path, lambda _: None))
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], np.arange(len(combed)) / 25, atol=1e-3)
    for before, frame in zip(combed[1:-1], frames[1:-1], strict=True):
        after = frame.image_HWC[..., 1].astype(int)
        assert _comb(after) < 0.2 * _comb(before) and abs(after.mean() - before.mean()) < 8


def _comb(image_HW: np.ndarray) -> float:
    """How much a line differs from the middle of its two neighbours."""
    return float(np.abs(image_HW[1:-1] - (image_HW[:-2] + image_HW[2:]) / 2).mean())


@pytest.mark.parametrize("name", ["12:30.mp4", "http:a.mp4", "a%03d.mp4", "-a.mp4"])
def test_a_name_is_never_taken_for_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_video(tmp_path / "a.mp4", [_corner()] * 2).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(read_frames(Path(name), lambda _: None))) == 2


def test_what_is_transparent_in_a_film_is_white(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[:, :32] = (255, 0, 0, 255)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgba"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        container.mux(stream.encode(None))
    image = _first(path)
    assert image[0, 0].tolist() == [255, 0, 0] and image[0, -1].tolist() == [255, 255, 255]


def test_the_default_track_is_read_and_tags_need_not_be_text(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "XXXX"
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        streams[0].disposition = 0
        streams[1].disposition = av.stream.Disposition.default
        for stream, value in zip(streams, (0, 200), strict=True):
            grey = np.full((48, 64, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"\xe9\xe8\xff\xfe"))
    assert abs(_first(path).mean() - 200) < 5


def test_most_of_what_a_decoder_makes_up_is_left_out_and_told(tmp_path: Path) -> None:
    """H.264 with bytes of its middle overwritten; every fifth frame stands by itself."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    good = [np.roll(texture, 2 * number, axis=1) for number in range(20)]
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.options = {"g": "5", "crf": "10", "threads": "1"}
        for image in good:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    whole = {frame.index: frame.image_HWC for frame in read_frames(path, lambda _: None)}
    data = bytearray(path.read_bytes())
    for place in rng.integers(len(data) * 2 // 5, len(data) * 3 // 5, 60):
        data[place] = 255 - data[place]
    path.write_bytes(data)
    problems: list[Rejected] = []
    frames = list(read_frames(path, problems.append))
    far = [f for f in frames if np.abs(f.image_HWC.astype(int) - whole[round(25 * f.timestamp_s)]).mean() > 1]
    assert len(whole) == 20 and len(frames) - len(far) == 10  # before the damage, and from the next whole frame on
    assert len(far) < 20 - len(frames)  # some damage is no error to H.264
    (problem,) = problems
    assert re.search(r"[0-9]+ frames that are damaged or follow such a one skipped", problem.reason)


def test_mutated_videos_give_frames_or_one_clear_error(tmp_path: Path) -> None:
    rng = random.Random(0)
    good = write_video(tmp_path / "good.mp4", [_corner()] * 5).read_bytes()
    path = tmp_path / "a.mp4"
    for _ in range(60):
        data = bytearray(good)
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        problems: list[Rejected] = []
        try:
            frames = list(read_frames(path, problems.append))
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
            times = [frame.timestamp_s for frame in frames]
            assert all(one < other for one, other in itertools.pairwise(times))
