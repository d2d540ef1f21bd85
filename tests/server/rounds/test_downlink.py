"""Who is sent a step, and what everybody has after a round."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord

from federation.codec import codec_of, digest_of, moved
from federation.packing import pack
from federation.settings import Settings
from model.designs.registry import design_of
from server.rounds.downlink import Downlink

INT8 = Settings.from_flat({"update-codec": "int8"})
UNTRAINED = design_of("glr").untrained[0]
START = {"generator.w": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), UNTRAINED: np.full(4, -0.0, np.float32)}
WHOLE = ArrayRecord({"weights": Array(pack(START))})


def aggregated() -> dict[str, np.ndarray]:
    """A site has moved what nobody trains."""
    return {"generator.w": START["generator.w"] + np.float32(0.1), UNTRAINED: np.ones(4, np.float32)}


def steps(records: dict[int, ArrayRecord]) -> list[int]:
    """Sites that are sent a step."""
    return [site for site, record in records.items() if "step" in record]


def test_a_step_goes_to_those_whose_update_counted_in_the_round_before() -> None:
    downlink = Downlink(INT8, START)
    assert steps(downlink.records(1, WHOLE, [0, 1, 2])) == []
    downlink.settled(1, START, aggregated(), [0, 2])
    assert steps(downlink.records(2, WHOLE, [0, 1, 2])) == [0, 2]
    assert steps(downlink.records(2, WHOLE, [0, 1, 2])) == []  # asked again: they have forgotten round 1


def test_no_step_is_sent_over_a_round_that_others_made() -> None:
    downlink = Downlink(INT8, START)
    downlink.settled(1, START, aggregated(), [0, 1, 2])
    assert steps(downlink.records(3, WHOLE, [0, 1, 2])) == []


def test_server_and_sites_have_the_same_bits_and_what_nobody_trains_stays() -> None:
    downlink = Downlink(INT8, START)
    settled = downlink.settled(1, START, aggregated(), [0])
    codec = codec_of("int8", {name: array.shape for name, array in START.items()})
    assert codec is not None
    code = downlink.records(2, WHOLE, [0])[0]["step"].numpy()
    assert moved(pack(START), codec.decode(code)).tobytes() == pack(settled).tobytes()
    assert settled[UNTRAINED].tobytes() == START[UNTRAINED].tobytes()
    np.testing.assert_allclose(settled["generator.w"], aggregated()["generator.w"], atol=1e-6)
    assert downlink.scalars(settled) == {"weights-sha256": digest_of(pack(settled))}


def test_whole_weights_are_left_as_they_are() -> None:
    downlink = Downlink(Settings(), START)
    settled = downlink.settled(1, START, aggregated(), [0])
    assert {name: array.tobytes() for name, array in settled.items()} == {
        n: a.tobytes() for n, a in aggregated().items()
    }
    assert downlink.records(2, WHOLE, [0]) == {0: WHOLE} and downlink.scalars(settled) == {}
