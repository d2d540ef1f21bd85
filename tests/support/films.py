"""Small films with sound, written with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 48_000


def click_samples(at_s: float, length_s: float) -> np.ndarray:
    """[1, S] float32: a quiet tone with one loud click."""
    time_S = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    tone_S = 0.05 * np.sin(2 * np.pi * 440 * time_S)
    tone_S[round(at_s * RATE_HZ) : round((at_s + 0.01) * RATE_HZ)] = 0.9
    return tone_S[None].astype(np.float32)


def write_film(
    path: Path,
    ticks: Sequence[int],
    *,
    time_base: Fraction,
    pictures: Sequence[np.ndarray] | None = None,
    codec: str = "",
    samples: np.ndarray | None = None,
    sound_from_s: float = 0.0,
) -> Path:
    """Pictures shown at those ticks, grey unless given, and sound in a codec, its first sample at `sound_from_s`."""
    pictures = pictures or [np.full((48, 64, 3), 60 + 10 * (i % 12), np.uint8) for i in range(len(ticks))]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        video.codec_context.time_base = time_base
        sound = container.add_stream(codec, rate=RATE_HZ) if codec else None
        if sound is not None:
            sound.layout = "mono"
        for tick, picture in zip(ticks, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and samples is not None:
            _encode(container, sound, samples, sound_from_s)
    return path


def _encode(container, sound, samples, from_s):
    context = sound.codec_context
    resampler = av.AudioResampler(format=context.format, layout="mono", rate=RATE_HZ)
    for start in range(0, samples.shape[1], 960):
        frame = av.AudioFrame.from_ndarray(samples[:, start : start + 960], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        frame.pts = start + round(from_s * RATE_HZ)
        for part in resampler.resample(frame):
            container.mux(sound.encode(part))
    container.mux(sound.encode(None))


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """Time in seconds and content of every packet of sound."""
    with av.open(str(path)) as container:
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(audio=0) if p.pts is not None]


def shown_at(path: Path) -> list[Fraction]:
    """Seconds at which each picture is shown."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def click_at_s(path: Path) -> float:
    """When the loudest sample is heard."""
    with av.open(str(path)) as container:
        heard = [
            (frame.time, np.abs(frame.to_ndarray().astype(np.float64)).max(axis=0))
            for frame in container.decode(audio=0)
        ]
        rate_hz = container.streams.audio[0].rate
    time_s, loud_S = max(heard, key=lambda one: one[1].max())
    return time_s + int(np.flatnonzero(loud_S > 0.5 * loud_S.max())[0]) / rate_hz
