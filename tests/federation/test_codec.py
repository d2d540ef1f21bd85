"""Steps as codes: how near they come back, how long they are, and what is no code of one."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest

from federation.codec import BLOCK_VALUES, Codec, codec_of, moved
from model.errors import TensorMismatchError

SHAPES = {"generator.w": (40, 100), "generator.b": (), "generator.none": (0,), "generator.v": (3000,)}
SIZES = [4000, 1, 0, 3000]


def codec(name: str) -> Codec:
    made = codec_of(name, SHAPES)
    assert made is not None
    return made


def step(seed: int = 0) -> np.ndarray:
    """Of tensors of very different sizes of step, the first quarter standing still."""
    values = np.random.default_rng(seed).standard_normal(7001).astype(np.float32)
    values[:4000] *= np.float32(1e-3)
    values[:1750] = 0
    return values


@pytest.fixture(params=["bfloat16", "int8"])
def any_codec(request: pytest.FixtureRequest) -> Codec:
    return codec(request.param)


def test_whole_weights_have_no_codec() -> None:
    assert codec_of("float32", SHAPES) is None


def test_bfloat16_is_right_to_eight_significant_bits() -> None:
    back = codec("bfloat16").decode(codec("bfloat16").encode(step()))
    np.testing.assert_allclose(back, step(), rtol=2.0**-8, atol=0)


def test_int8_is_right_to_half_a_127th_of_the_largest_value_of_each_block_of_a_tensor() -> None:
    back = codec("int8").decode(codec("int8").encode(step()))
    begin = 0
    for size in SIZES:
        for first in range(begin, begin + size, BLOCK_VALUES):
            block = slice(first, min(first + BLOCK_VALUES, begin + size))
            half = np.abs(step()[block]).max() / 127 / 2
            assert np.abs(back[block] - step()[block]).max() <= half * 1.0001
        begin += size


def test_what_stands_still_stays_to_the_bit(any_codec: Codec) -> None:
    weights = np.full(7001, -0.0, np.float32)
    after = moved(weights, any_codec.decode(any_codec.encode(step())))
    assert np.signbit(after[:1750]).all() and not after[:1750].any()
    assert after[1750:].any()
    still = any_codec.decode(any_codec.encode(np.zeros(7001, np.float32)))
    assert moved(weights, still).tobytes() == weights.tobytes()


@pytest.mark.parametrize("tiny", [1e-45, 1e-40, 1e-37])
def test_steps_near_the_smallest_float_come_back_finite(any_codec: Codec, tiny: float) -> None:
    values = np.full(7001, tiny, np.float32)
    back = any_codec.decode(any_codec.encode(values))
    assert np.abs(back - values).max() <= tiny


def test_no_code_is_longer_than_the_longest(any_codec: Codec) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 7001, np.uint32).view(np.float32)
    noise = np.where(np.isfinite(bits), bits, np.float32(0))
    assert len(any_codec.encode(noise)) <= any_codec.max_bytes
    assert len(any_codec.encode(step())) < 0.9 * any_codec.num_bytes


def test_other_bytes_are_no_code(any_codec: Codec) -> None:
    code = any_codec.encode(step())
    inflated = zlib.decompress(code.tobytes())
    for wrong in (b"", b"text", code.tobytes()[:-1], code.tobytes() + b"x", zlib.compress(inflated[:-1])):
        with pytest.raises(TensorMismatchError, match="the code of a step"):
            any_codec.decode(np.frombuffer(wrong, np.uint8))


def test_a_code_that_inflates_without_end_takes_no_more_memory_than_a_step(any_codec: Codec) -> None:
    bomb = np.frombuffer(zlib.compress(bytes(10**8)), np.uint8)
    tracemalloc.start()
    with pytest.raises(TensorMismatchError, match="not one of"):
        any_codec.decode(bomb)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10**6
