"""An invisible pattern in the brightness of a picture: that a model drew it, and which record it belongs to.

Spread spectrum (Cox et al., "Secure spread spectrum watermarking for multimedia", 1997): a tile of 64 x 64 pixels is
repeated over the whole picture, so that any part of it, from any place, holds many copies. Its waves are between those
that scaling takes and those that a picture itself is full of. The tile is public: anybody can look for it, and
somebody who has this program can also remove it.

Legend: T = 64 tile side in pixels, B waves of the band, P patterns, R bits of a record, H, W.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from model.frames import Frame

FloatArray = NDArray[np.float32]

ALGORITHM = "org.fedreenact.tile.1"
"""Name of this pattern in a manifest; another pattern has another number."""
RECORD_BITS = 24
THRESHOLD = 6.0
"""Standard deviations above which a pattern is there; docs/marks.md has what unmarked pictures reach."""
TILE_PX = 64
_BAND = (0.03, 0.15)
"""Waves a pixel, from and to."""
_STRENGTH = 2.4
"""Root mean square of the pattern in grey levels of 255, where a picture is of usual activity."""
_GAIN = (0.4, 2.2)
"""Least and greatest factor on it: little on plain walls, where it shows, more in hair."""
_USUAL_ACTIVITY = 6.0
"""Grey levels that such a picture differs from its surroundings."""
_PRESENCE = 0.6
"""Share of the pattern's energy that is the same in every picture; the rest holds the record."""
_CHECK_BITS = 8
_NUM_BITS = RECORD_BITS + _CHECK_BITS
_SCALES = (1.0, 2.0, 0.5, 4 / 3, 0.75, 1.5)
"""What a picture is scaled by before it is looked at: those that were made smaller or larger are found so."""
_NEIGHBOURHOOD_PX = 9
_LOOKED_AT_PX = 640


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What was found in pictures that belong together."""

    deviations: float
    """How far the pattern stands out of chance, in standard deviations."""
    record: int | None
    """The record's number, 24 bits; None where it cannot be read."""

    @property
    def is_present(self) -> bool:
        """Whether the pattern is there."""
        return self.deviations >= THRESHOLD


class Watermark:
    """The pattern of one record, put into any number of pictures."""

    def __init__(self, record: int, strength: float = 1.0) -> None:
        """Make the tile.

        Args:
            record: 0 to 2**24 - 1.
            strength: 1 is not seen.
        """
        signs_R = 1.0 - 2.0 * _bits(record)
        share = np.sqrt([_PRESENCE, *[(1 - _PRESENCE) / _NUM_BITS] * _NUM_BITS])
        weights_P = share * np.concatenate([[1.0], signs_R])
        tile_TT = np.tensordot(weights_P, _patterns(), axes=1) * TILE_PX
        self._tile_TT = np.asarray(strength * _STRENGTH * tile_TT, np.float32)
        self._repeated = lru_cache(maxsize=2)(self._repeat)

    def embed(self, frame_HWC: Frame) -> Frame:
        """The picture with the pattern in it, [H, W, 3] as before."""
        grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY).astype(np.float32)
        gain_HW = np.clip(_activity(_detail(grey_HW)) / _USUAL_ACTIVITY, *_GAIN)
        pattern_HW = gain_HW * self._repeated(*grey_HW.shape)
        return np.asarray(np.clip(np.rint(frame_HWC + pattern_HW[..., None]), 0, 255), np.uint8)

    def _repeat(self, height_px: int, width_px: int) -> FloatArray:
        repeats = -(-height_px // TILE_PX), -(-width_px // TILE_PX)
        return np.tile(self._tile_TT, repeats)[:height_px, :width_px]


def read_watermark(frames_HWC: Iterable[Frame]) -> Reading:
    """Look for the pattern in pictures that would all have the same one, of one size; the more, the surer."""
    greys = [cv2.cvtColor(looked_at(frame_HWC), cv2.COLOR_RGB2GRAY) for frame_HWC in frames_HWC]
    best = Reading(deviations=0.0, record=None)
    for scale in _SCALES:
        found = _read_tile(np.sum([_folded(grey_HW, scale) for grey_HW in greys], axis=0))
        best = max(best, found, key=lambda reading: reading.deviations)
        if best.is_present:
            break
    return best


def looked_at(frame_HWC: Frame) -> Frame:
    """What `read_watermark` looks at of a picture, its middle: the pattern is the same everywhere."""
    top, left = (max(0, (side_px - _LOOKED_AT_PX) // 2) for side_px in frame_HWC.shape[:2])
    return frame_HWC[top : top + _LOOKED_AT_PX, left : left + _LOOKED_AT_PX].copy()


def _read_tile(tile_TT: FloatArray) -> Reading:
    """The pattern in the sum of all tiles, wherever these begin.

    Presence goes by phases alone: chance then has a spread that is known. Bits go by waves that are held down where
    they are strong, which are the picture's own.
    """
    waves_TT = np.fft.fft2(tile_TT) * _band()
    phases_TT = waves_TT / np.maximum(np.abs(waves_TT), 1e-9)
    like_TT = np.real(np.fft.ifft2(phases_TT * np.conj(np.fft.fft2(_patterns()[0]))))
    deviations_TT = like_TT * TILE_PX
    down, right = np.unravel_index(int(np.argmax(deviations_TT)), deviations_TT.shape)
    held_TT = np.real(np.fft.ifft2(_held_down(waves_TT)))
    bits_R = np.tensordot(_patterns()[1:], np.roll(held_TT, (-down, -right), axis=(0, 1)), axes=2) < 0
    return Reading(deviations=float(deviations_TT[down, right]), record=_record(bits_R))


def _held_down(waves_TT: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Waves by the root mean square of those about as long, none far above 1."""
    rings_TT = np.where(_band(), np.rint(_lengths() * TILE_PX), 0).astype(int)
    sums = np.bincount(rings_TT.ravel(), np.abs(waves_TT.ravel()) ** 2)
    energies = sums / np.maximum(np.bincount(rings_TT.ravel()), 1)
    even_TT = waves_TT / np.sqrt(energies[rings_TT] + 1e-12)
    return np.asarray(even_TT / np.sqrt(1 + np.abs(even_TT) ** 2))


def _folded(grey_HW: Frame, scale: float) -> FloatArray:
    """[T, T] sum of the tiles of a picture, each pixel by how much it differs from what is usual around it."""
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    scaled_HW = cv2.resize(grey_HW, None, fx=scale, fy=scale, interpolation=interpolation)
    detail_HW = _detail(scaled_HW.astype(np.float32))
    even_HW = detail_HW / (_activity(detail_HW) + 1)
    height_px, width_px = even_HW.shape
    padded = np.pad(even_HW, ((0, -height_px % TILE_PX), (0, -width_px % TILE_PX)))
    tiles = padded.reshape(padded.shape[0] // TILE_PX, TILE_PX, -1, TILE_PX)
    return np.asarray(tiles.sum(axis=(0, 2)))


def _detail(grey_HW: FloatArray) -> FloatArray:
    """What of a picture is not its surroundings."""
    return np.asarray(grey_HW - cv2.GaussianBlur(grey_HW, (0, 0), 4.0))


def _activity(detail_HW: FloatArray) -> FloatArray:
    """Mean absolute detail around each pixel."""
    size = (_NEIGHBOURHOOD_PX, _NEIGHBOURHOOD_PX)
    return np.asarray(cv2.blur(np.abs(detail_HW), size), np.float32)


def _bits(record: int) -> NDArray[np.int64]:
    """[R] of a record, and of what checks it."""
    data = record.to_bytes(RECORD_BITS // 8, "big")
    check = zlib.crc32(data) & (2**_CHECK_BITS - 1)
    return np.unpackbits(np.frombuffer(data + bytes([check]), np.uint8)).astype(np.int64)


def _record(bits_R: NDArray[np.bool_]) -> int | None:
    """The record, if its check holds."""
    data = np.packbits(bits_R).tobytes()
    record = int.from_bytes(data[: RECORD_BITS // 8], "big")
    return record if np.array_equal(_bits(record), bits_R) else None


@cache
def _band() -> NDArray[np.bool_]:
    """[T, T] which waves of a tile are used."""
    return np.asarray((_lengths() >= _BAND[0]) & (_lengths() <= _BAND[1]))


@cache
def _lengths() -> NDArray[np.float64]:
    """[T, T] waves a pixel."""
    waves_T = np.fft.fftfreq(TILE_PX)
    return np.asarray(np.hypot(waves_T[:, None], waves_T[None]))


@cache
def _patterns() -> NDArray[np.float64]:
    """[P, T, T] orthonormal, of no wave outside the band: that of presence, then one a bit."""
    count = (1 + _NUM_BITS) * TILE_PX * TILE_PX
    noise = np.frombuffer(hashlib.shake_256(ALGORITHM.encode()).digest(count), np.uint8) - 127.5
    spectra = np.fft.fft2(noise.reshape(-1, TILE_PX, TILE_PX)) * _band()
    columns = np.real(np.fft.ifft2(spectra)).reshape(1 + _NUM_BITS, -1).T
    basis, triangle = np.linalg.qr(columns)
    upright = basis * np.sign(np.diag(triangle))  # libraries differ in the signs
    return np.asarray(upright.T.reshape(-1, TILE_PX, TILE_PX))
