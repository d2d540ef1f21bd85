from fractions import Fraction

import av
import numpy as np
import pytest

from model.errors import DataError
from reenact.clips.video_writer import VideoWriter


def grey(value: int) -> np.ndarray:
    return np.full((64, 128, 3), value, np.uint8)


def test_video_keeps_frame_rate_number_and_content_of_frames(tmp_path):
    path = tmp_path / "new" / "out.mp4"
    rate = Fraction(30000, 1001)
    with VideoWriter(path, frame_rate_hz=rate) as writer:
        for value in (20, 120, 220):
            writer.add(grey(value))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate == rate
        assert (stream.width, stream.height) == (128, 64)
        assert not container.streams.audio
    assert [round(float(frame.mean()), -1) for frame in frames] == [20, 120, 220]


def test_frames_are_shown_at_their_own_times(tmp_path):
    times_s = [0.0, 0.04, 0.5, 0.54, 2.5]
    with VideoWriter(tmp_path / "out.mp4", frame_rate_hz=Fraction(25)) as writer:
        for timestamp_s in times_s:
            writer.add(grey(90), timestamp_s)
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown_s = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(shown_s, times_s, atol=1e-4)


def test_an_error_leaves_neither_file_nor_rest_behind(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"older result")
    with pytest.raises(RuntimeError), VideoWriter(path, frame_rate_hz=Fraction(25)) as writer:
        writer.add(grey(10))
        raise RuntimeError
    assert path.read_bytes() == b"older result"
    assert list(tmp_path.iterdir()) == [path]


def test_other_suffix_is_refused_before_work_starts(tmp_path):
    with pytest.raises(DataError, match=r"out\.avi.*\.mp4"):
        VideoWriter(tmp_path / "out.avi", frame_rate_hz=Fraction(25))
