"""A site in a run of rounded steps: what it takes for the global weights, and what it adds to its next step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.coded_weights import CodedWeights
from client.consent.known_weights import KnownWeights
from federation.codec import Codec, codec_of, digest_of, moved
from federation.packing import pack
from model.errors import NonFiniteLossError, TensorMismatchError, UnknownWeightsError
from model.run_files import RoundFiles, RunFiles

SHAPES = {"z.first": (3, 5), "a.second": (4,)}
"""In an order that is not the alphabet's."""


def tensors(seed: int, size: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (size * rng.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}


@pytest.fixture(params=["bfloat16", "int8"])
def codec(request: pytest.FixtureRequest) -> Codec:
    made = codec_of(request.param, SHAPES)
    assert made is not None
    return made


def known(folder: Path) -> KnownWeights:
    return KnownWeights(folder, "run", max_missed_rounds=0)


def site(codec: Codec, folder: Path, round_number: int) -> CodedWeights:
    """As in a new process."""
    files = RunFiles(folder=folder, run_id="run")
    errors = RoundFiles(files=files, name="rounding", what="rounding errors", num_kept=2)
    return CodedWeights(codec, SHAPES, round_number, known=known(folder), errors=errors)


def test_a_step_leads_to_the_servers_weights_to_the_bit(codec: Codec, tmp_path: Path) -> None:
    before = tensors(0)
    known(tmp_path).keep(before, 3)
    code = codec.encode(pack(tensors(1, 1e-3)))
    after = moved(pack(before), codec.decode(code))
    received = site(codec, tmp_path, 4).received(code, digest_of(after))
    assert list(received) == list(SHAPES)
    assert pack(received).tobytes() == after.tobytes()


def test_whole_weights_are_taken_as_they_are(codec: Codec, tmp_path: Path) -> None:
    received = site(codec, tmp_path, 9).received(pack(tensors(0)), "")
    assert pack(received).tobytes() == pack(tensors(0)).tobytes()


def test_a_step_is_refused_without_the_weights_at_which_it_begins(codec: Codec, tmp_path: Path) -> None:
    code = codec.encode(pack(tensors(1)))
    after = digest_of(moved(pack(tensors(0)), codec.decode(code)))
    with pytest.raises(UnknownWeightsError, match="round 4: got the step from the weights of round 3, which this site"):
        site(codec, tmp_path, 4).received(code, after)
    known(tmp_path).keep(tensors(0), 2)
    with pytest.raises(UnknownWeightsError, match="sends whole weights when it asks again"):
        site(codec, tmp_path, 4).received(code, after)
    known(tmp_path).keep(tensors(5), 3)  # the round is right, the weights are others
    with pytest.raises(UnknownWeightsError, match="or not as the server"):
        site(codec, tmp_path, 4).received(code, after)


@pytest.mark.parametrize("array", [np.zeros(19), np.zeros((2, 3), np.uint8), np.zeros(18, np.float32)])
def test_what_is_neither_weights_nor_a_step_is_refused(codec: Codec, tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(TensorMismatchError, match="got weights of shape .* expected"):
        site(codec, tmp_path, 1).received(array, "")


def test_steps_too_small_for_a_round_arrive_in_a_later_one(tmp_path: Path) -> None:
    """One value moves by a fifth of what int8 can say beside the largest; the sum of ten codes has all of it."""
    int8 = codec_of("int8", SHAPES)
    assert int8 is not None
    start = tensors(0)
    trained = {name: array.copy() for name, array in start.items()}
    trained["z.first"].flat[0] += 1.27
    trained["z.first"].flat[1] += 0.002
    arrived = sum(int8.decode(site(int8, tmp_path, number).sent(start, trained)) for number in range(1, 11))
    assert arrived[0] == pytest.approx(12.7, abs=0.01)
    assert arrived[1] == pytest.approx(0.02, abs=0.005)
    assert int8.decode(int8.encode(pack(trained) - pack(start)))[1] == 0


def test_a_round_that_comes_again_gives_the_same_code(codec: Codec, tmp_path: Path) -> None:
    codes = [site(codec, tmp_path, number).sent(tensors(0), tensors(number)) for number in (1, 2, 3)]
    again = [site(codec, tmp_path, number).sent(tensors(0), tensors(number)) for number in (2, 3)]
    assert [code.tobytes() for code in again] == [code.tobytes() for code in codes[1:]]


def test_lost_rounding_errors_are_taken_for_zero_and_said(
    tmp_path: Path, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    site(codec, tmp_path, 1).sent(tensors(0), tensors(1))
    next(tmp_path.rglob("rounding-round-000001.safetensors")).unlink()
    code = site(codec, tmp_path, 2).sent(tensors(0), tensors(2))
    assert code.tobytes() == codec.encode(pack(tensors(2)) - pack(tensors(0))).tobytes()
    assert "round 2: what rounding took is lost: no rounding errors of round 1 of this run" in caplog.text


def test_an_update_that_is_not_finite_is_not_sent(tmp_path: Path, codec: Codec) -> None:
    broken = tensors(1)
    broken["a.second"][0] = np.nan
    with pytest.raises(NonFiniteLossError, match="round 1: the update has values that are not finite"):
        site(codec, tmp_path, 1).sent(tensors(0), broken)
    assert not list(tmp_path.rglob("rounding-*"))
