"""Whatever a reply holds, the worst is that its site is left out: the round is exactly that of the others."""

from __future__ import annotations

import copy
import json
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, Error, Message
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from federation.codec import Codec, codec_of
from federation.reported import reported_scalars
from federation.secure_sum.primitives import KEY_BYTES, SEALED_BYTES, SHARE_BYTES
from federation.settings import Settings
from model.designs.registry import IDENTITY_ROWS
from model.errors import FederationError
from server.rounds.exchange import Link
from server.rounds.fedgan import FedGAN
from server.rounds.loop import RoundOutcome
from server.sites.agreement import agree
from server.sites.roster import Roster
from server.updates.reply import ArrayForm, RejectedUpdateError, failure_reason, read_fit_reply, size_in_bytes
from tests.server import malformed
from tests.server.malformed import MUTATIONS, CannedGrid, force, header_of, mutated, npz, with_data
from tests.server.replies import reply_with
from tests.support.packed import packed

NUM_HONEST, NUM_HOSTILE = 3, 20
NUM_SITES = NUM_HONEST + NUM_HOSTILE
START = {
    "generator.w": np.zeros((2, 3), np.float32),
    "generator.b": np.zeros((), np.float32),
    IDENTITY_ROWS[0]: np.zeros((NUM_SITES, 2), np.float32),
}
LENGTH = sum(array.size for array in START.values())
SETTINGS = Settings.from_flat(
    {
        "num-clients": NUM_SITES,
        "num-identities": NUM_SITES,
        "min-fit-clients": NUM_HONEST,
        "round-timeout-s": 0.001,  # replies are there at once
        "max-norm-ratio": 0.0,  # what is read is looked at here, not what is compared
        "image-size-px": 64,
        "patch-size-px": 8,
        "flow-seed-px": 8,
    }
)

changes = st.lists(
    st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 2**32)), min_size=NUM_HOSTILE, max_size=NUM_HOSTILE
)
hundred_times_twenty = example_settings(
    max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def statistics_reply(index: int) -> Message:
    rng = np.random.default_rng(index)
    num_frames = 10.0 + index
    counts, sums, squares = np.zeros(NUM_SITES), np.zeros((NUM_SITES, 68, 2)), np.zeros((NUM_SITES, 68, 2))
    landmarks = rng.uniform(0, 64, (68, 2))
    counts[index], sums[index], squares[index] = num_frames, num_frames * landmarks, num_frames * landmarks**2
    parts = rng.uniform(4, 20, (4, 2)) * num_frames
    scalars = {"partition-id": index, "num-simulated": 0, f"label-{index}": f"Ada {index}"}
    return reply_with([parts, sums, squares, counts], int(num_frames), scalars)


def update_reply(index: int, codec: Codec | None = None) -> Message:
    rng = np.random.default_rng(100 + index)
    vector_L = packed([rng.standard_normal(array.shape).astype(np.float32) for array in START.values()])
    sent = vector_L if codec is None else codec.encode(vector_L)
    return reply_with([sent], 10 + index, {"loss_generator": 1.0 + index, "seconds": 5.0, "num_steps": 2.0})


STATISTICS = [statistics_reply(index) for index in range(NUM_SITES)]
SHAPES = {name: array.shape for name, array in START.items()}
UPDATES_BY_CODEC = {
    name: [update_reply(index, codec_of(name, SHAPES)) for index in range(NUM_SITES)]
    for name in ("float32", "bfloat16", "int8")
}
UPDATES = UPDATES_BY_CODEC["float32"]


def met(replies: Sequence[Message]) -> Roster:
    roster = Roster(SETTINGS)
    roster.wait_for_sites(CannedGrid(replies))
    return roster


@pytest.fixture(scope="module")
def roster() -> Roster:
    return met(copy.deepcopy(STATISTICS))


def outcome_of(roster: Roster, replies: Sequence[Message], folder: Path, codec: str = "float32") -> RoundOutcome:
    min_sites = SETTINGS.rounds.min_fit_clients
    link = Link(grid=CannedGrid(replies), roster=roster, timeout_s=0.2, on_wait=lambda: None, min_sites=min_sites)
    settings = SETTINGS.replaced({"update-codec": codec})
    return FedGAN(START, link, settings, folder, scalars={"run-id": "r"}).train(1, START)


def bits(outcome: RoundOutcome) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in outcome.tensors.items()}


def nothing_from(reply: Message) -> Message:
    """The reply of a site that fails."""
    lost = copy.deepcopy(reply)
    lost.__dict__.update(_content=None, _error=Error(2, "fails"))
    return lost


HONEST_ONLY = [*UPDATES[:NUM_HONEST], *(nothing_from(reply) for reply in UPDATES[NUM_HONEST:])]


@pytest.mark.integration
@pytest.mark.parametrize("codec", ["float32", "bfloat16", "int8"])
@hundred_times_twenty
@given(changes)
def test_mutated_updates_leave_the_round_to_the_others(
    tmp_path_factory: pytest.TempPathFactory, roster: Roster, codec: str, changes: list[tuple[malformed.Mutation, int]]
) -> None:
    folder, updates = tmp_path_factory.getbasetemp(), UPDATES_BY_CODEC[codec]
    hostile = [mutated(reply, *change) for reply, change in zip(updates[NUM_HONEST:], changes, strict=True)]
    replies = [*copy.deepcopy(updates[:NUM_HONEST]), *hostile]
    outcome = outcome_of(roster, replies, folder, codec)
    accepted = set(outcome.clients)
    assert accepted >= set(range(NUM_HONEST))
    assert accepted | set(outcome.rejected) == set(range(NUM_SITES))
    of_accepted = [r if i in accepted else nothing_from(r) for i, r in enumerate(replies)]
    assert bits(outcome) == bits(outcome_of(roster, of_accepted, folder, codec))
    assert all(np.isfinite(array).all() for array in outcome.tensors.values())
    for values in (outcome.metrics, outcome.clients, outcome.measured, outcome.rejected):
        assert json.dumps(values, allow_nan=False).isascii()
    assert all(reason.isprintable() and len(reason) < 500 for reason in outcome.rejected.values())
    assert {name for client in outcome.clients.values() for name in client} <= {
        *reported_scalars(SETTINGS),
        "num_examples",
    }


@pytest.mark.integration
@hundred_times_twenty
@given(changes)
def test_mutated_statistics_leave_the_agreement_to_the_others(changes: list[tuple[malformed.Mutation, int]]) -> None:
    hostile = [mutated(reply, *change) for reply, change in zip(STATISTICS[NUM_HONEST:], changes, strict=True)]
    roster = met([*copy.deepcopy(STATISTICS[:NUM_HONEST]), *hostile])
    known = {site.partition_id: site for _, site in roster.sites}
    assert known.keys() >= set(range(NUM_HONEST))
    again = met(
        [*copy.deepcopy(STATISTICS[:NUM_HONEST]), *[h for i, h in enumerate(hostile, NUM_HONEST) if i in known]]
    )
    agreed, alone = (
        agree([site.statistics for _, site in one.sites], size_px=64, max_weight_ratio=2.0) for one in (roster, again)
    )
    assert agreed.part_sizes == alone.part_sizes
    assert np.isfinite(agreed.landmark_mean_IKC).all() and np.isfinite(agreed.landmark_std_IKC).all()
    assert agreed.landmark_mean_IKC.tobytes() == alone.landmark_mean_IKC.tobytes()
    for index in range(NUM_HONEST):  # nobody else moves their identities
        wanted = known[index].statistics.sums_IKC[index] / (10.0 + index)
        np.testing.assert_allclose(agreed.landmark_mean_IKC[index], wanted, rtol=1e-6)
        assert roster.labels()[index] == f"Ada {index}"
    assert all(reason.isprintable() and len(reason) < 500 for reason in roster.refused.values())


def form(name: str, dtype: type, *shape: int) -> ArrayForm:
    return ArrayForm(name, shape, np.dtype(dtype))


SECURE_PHASES = {
    "secure-keys": [form("public keys", np.uint8, 2, KEY_BYTES)],
    "secure-shares": [form("sealed shares", np.uint8, 5, SEALED_BYTES), form("commitment", np.uint8, KEY_BYTES)],
    "secure-train": [form("masked update", np.uint64, 40)],
    "secure-unmask": [form("revealed shares", np.uint8, 5, SHARE_BYTES)],
}


@pytest.mark.integration
@pytest.mark.parametrize("is_expected", [True, False])
@pytest.mark.parametrize("phase", SECURE_PHASES)
@hundred_times_twenty
@given(changes)
def test_mutated_replies_of_a_secure_round_are_read_as_expected_or_refused(
    phase: str, is_expected: bool, changes: list[tuple[malformed.Mutation, int]]
) -> None:
    forms = SECURE_PHASES[phase]
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 255, form.shape).astype(form.dtype) for form in forms]
    valid = reply_with(arrays, 0, {"seconds": 1.0})
    for change in changes:
        try:
            reply = mutated(valid, *change)
            got, num_examples, metrics = read_fit_reply(reply, forms if is_expected else None, {"seconds"})
        except RejectedUpdateError as error:
            assert str(error).isprintable() and len(str(error)) < 500
            continue
        if is_expected:
            assert [(array.shape, array.dtype) for array in got] == [(form.shape, form.dtype) for form in forms]
        assert len(got) <= 8
        assert sum(array.nbytes for array in got) <= size_in_bytes(reply.content.array_records["fitres.parameters"])
        assert 0 <= num_examples <= 2**31
        assert set(metrics) <= {"seconds"} and np.isfinite(list(metrics.values())).all()


def hostile_update(change: str) -> Message:
    """The last site's update with one thing wrong."""
    reply = copy.deepcopy(UPDATES[-1])
    examples = reply.content.metric_records["fitres.num_examples"]
    metrics = reply.content.config_records["fitres.metrics"]
    if change == "an npz in place of an array":
        return with_data(reply, "0", npz(np.zeros(LENGTH, np.float32)))
    if change == "a header of 2**45 values":
        return with_data(reply, "0", header_of((2**45,)))
    if change == "a record that says 2**45 values":
        reply.content.array_records["fitres.parameters"]["0"] = Array(
            "float32", (2**45,), "numpy.ndarray", header_of((2**45,))
        )
    if change == "infinitely many frames":
        examples["num_examples"] = float("inf")
    if change == "2**62 frames":
        examples["num_examples"] = 2**62
    if change == "half a frame":
        examples["num_examples"] = 10.5
    if change == "a list of frames":
        examples["num_examples"] = [1, 2]
    if change == "a weight of 3e38":
        values_L = np.zeros(LENGTH, np.float32)
        values_L[6] = 3e38  # the six before it are generator.w
        return with_data(reply, "0", malformed.npy(values_L))
    if change == "20,000 names":
        for index in range(20_000):
            metrics[f"name-{index}"] = 1.0
    if change == "a name of 65 characters":
        metrics["x" * 65] = 1.0
    if change == "no metrics":
        del reply.content["fitres.metrics"]
    if change == "metrics of another type":
        force(reply.content, "fitres.metrics", "text")
    if change == "no content and no error":
        reply.__dict__["_content"] = None
    return reply


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ("an npz in place of an array", "unreadable", "cannot be read (ValueError: the magic string is not correct"),
        ("a header of 2**45 values", "mismatch", f"the update has shape (35184372088832,), expected ({LENGTH},)"),
        (
            "a record that says 2**45 values",
            "mismatch",
            f"the update has shape (35184372088832,), expected ({LENGTH},)",
        ),
        ("infinitely many frames", "unreadable", "reports inf training frames, wanted a whole number up to"),
        ("2**62 frames", "unreadable", "reports 4611686018427387904 training frames"),
        ("half a frame", "unreadable", "reports 10.5 training frames"),
        ("a list of frames", "unreadable", "reports [1, 2] training frames"),
        ("a weight of 3e38", "not-finite", "generator.b has values up to 3e+38, wanted at most 1e+06"),
        ("20,000 names", "unreadable", "sent 20003 numbers, or names too long"),
        ("a name of 65 characters", "unreadable", "or names too long"),
        ("no metrics", "unreadable", "cannot be read (KeyError"),
        ("metrics of another type", "unreadable", "cannot be read ("),
        ("no content and no error", "unreadable", "cannot be read (ValueError"),
    ],
)
def test_a_malformed_update_is_left_out_by_name(
    change: str, kind: str, words: str, roster: Roster, tmp_path: Path
) -> None:
    outcome = outcome_of(roster, [*copy.deepcopy(HONEST_ONLY[:-1]), hostile_update(change)], tmp_path)
    assert outcome.rejected_kinds[NUM_SITES - 1] == kind
    assert words in outcome.rejected[NUM_SITES - 1]
    assert bits(outcome) == bits(outcome_of(roster, copy.deepcopy(HONEST_ONLY), tmp_path))


CODE = codec_of("int8", SHAPES).encode(np.zeros(LENGTH, np.float32))  # type: ignore[union-attr]
"""Of int8, before the rounded values: a scale for each of the three tensors."""


def rounded(scale: float, value: int) -> np.ndarray:
    """A code of int8 with the same scale and value everywhere."""
    scales, values = np.full(3, scale, np.float32), np.full(LENGTH, value, np.int8)
    return np.frombuffer(zlib.compress(scales.tobytes() + values.tobytes()), np.uint8)


@pytest.mark.parametrize(
    ("sent", "kind", "words"),
    [
        (np.zeros(10_000, np.float32), "mismatch", "the update has 40128 bytes, expected"),
        (np.zeros(LENGTH, np.float32), "mismatch", "the update has dtype float32, expected uint8"),
        (CODE.reshape(1, -1), "mismatch", f"the update has shape (1, {len(CODE)}), expected at most"),
        (np.zeros(1000, np.uint8), "mismatch", "the update has shape (1000,), expected at most"),
        (np.zeros(0, np.uint8), "mismatch", "the update: the code of a step is not one of"),
        (CODE[:-1], "mismatch", "the update: the code of a step is not one of"),
        (CODE[::-1].copy(), "mismatch", "the update: the code of a step cannot be inflated"),
        (np.frombuffer(zlib.compress(bytes(10**6)), np.uint8)[:90], "mismatch", "the code of a step is not one of"),
        (rounded(np.nan, 1), "not-finite", "generator.w has 6 of 6 values that are not finite"),
        (rounded(np.inf, 0), "not-finite", "generator.w has 6 of 6 values that are not finite"),
        (rounded(3e38, -128), "not-finite", "generator.w has 6 of 6 values that are not finite"),
        (rounded(1e5, -128), "not-finite", "generator.w has values up to 1.28e+07, wanted at most 1e+06"),
    ],
    ids=range(12),
)
def test_a_malformed_code_is_left_out_by_name(
    sent: np.ndarray, kind: str, words: str, roster: Roster, tmp_path: Path
) -> None:
    honest = UPDATES_BY_CODEC["int8"][:NUM_HONEST]
    hostile = reply_with([sent], 10, {"loss_generator": 1.0})
    others = [nothing_from(reply) for reply in UPDATES[NUM_HONEST:]]
    outcome = outcome_of(roster, [*copy.deepcopy(honest), *others[:-1], hostile], tmp_path, "int8")
    assert outcome.rejected_kinds[NUM_SITES - 1] == kind
    assert words in outcome.rejected[NUM_SITES - 1]
    assert bits(outcome) == bits(outcome_of(roster, [*copy.deepcopy(honest), *others], tmp_path, "int8"))


def test_numbers_too_large_for_a_history_are_cut_and_unknown_names_dropped(
    roster: Roster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replies = copy.deepcopy(UPDATES)
    replies[0].content.config_records["fitres.metrics"].update(
        {"loss_generator": 1e308, "seconds": -1e308, "peak_memory_bytes": 8e9, "frame-0": 0.5, "note": "text"}
    )
    outcome = outcome_of(roster, replies, tmp_path)
    assert outcome.clients[0] == {
        "loss_generator": 1e6,
        "seconds": -(2.0**53),
        "num_steps": 2.0,
        "peak_memory_bytes": 8e9,
        "num_examples": 10,
    }
    assert "client 0 sent 2 values that no site of this run sends; they are dropped" in caplog.text
    assert outcome.metrics["loss_generator"] == pytest.approx(
        np.average([1e6, *range(2, NUM_SITES + 1)], weights=range(10, 10 + NUM_SITES))
    )


def hostile_statistics(index: int, **metrics: Any) -> Message:
    reply = copy.deepcopy(STATISTICS[index])
    record = reply.content.config_records["fitres.metrics"]
    for name, value in metrics.items():
        record[name.replace("_", "-")] = value
    return reply


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (hostile_statistics(5, num_simulated=7), "the simulation has 7 clients, num-clients is 23"),
        (hostile_statistics(5, num_simulated=float("inf")), "metric num-simulated is inf, wanted a finite number"),
        (hostile_statistics(5, num_simulated=NUM_SITES), "says it is a client of a simulation"),
        (hostile_statistics(5, partition_id=2.5), "partition-id is 2.5, wanted 0 to 22"),
        (hostile_statistics(5, partition_id=4), "has frames of the identities [5], its own is 4"),
        (with_data(hostile_statistics(5), "3", npz(np.zeros(23))), "cannot be read"),
        (with_data(hostile_statistics(5), "3", header_of((2**45,), "<f8")), "counts has shape (35184372088832,)"),
    ],
)
def test_malformed_statistics_refuse_their_node_alone(reply: Message, words: str) -> None:
    others = copy.deepcopy([*STATISTICS[:5], *STATISTICS[6:]])
    roster = met([*others[:5], reply, *others[5:]])
    assert [site.partition_id for _, site in roster.sites] == [i for i in range(NUM_SITES) if i != 5]
    (reason,) = roster.refused.values()
    assert words in reason


def test_a_simulation_of_the_wrong_size_is_told_at_once_and_one_site_cannot_claim_it() -> None:
    said = [hostile_statistics(index, num_simulated=4) for index in range(4)]
    with pytest.raises(FederationError, match="the simulation has 4 clients, num-clients is 23.*num-supernodes=23"):
        Roster(SETTINGS.replaced({"round-timeout-s": 6e5})).wait_for_sites(CannedGrid(said))
    one = Roster(SETTINGS.replaced({"min-fit-clients": 1}))
    with pytest.raises(FederationError, match="0 sites are ready"):  # only after the whole wait
        one.wait_for_sites(CannedGrid([hostile_statistics(0, num_simulated=1)]))


def test_nothing_is_allocated_for_an_array_of_another_size() -> None:
    forms = [form("w", np.float32, 2, 3)]
    large = malformed.npy(np.zeros(10**7, np.float32))
    reply = with_data(reply_with([np.zeros((2, 3), np.float32)]), "0", large)
    tracemalloc.start()
    with pytest.raises(RejectedUpdateError, match="w has 40000128 bytes, expected 24 and a header"):
        read_fit_reply(reply, forms)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10**6


def test_arrays_stored_by_column_are_read_as_they_are() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays, _, _ = read_fit_reply(reply_with([np.asfortranarray(array)]), [form("w", np.float32, 2, 3)])
    assert arrays[0].tolist() == array.tolist()


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("\x1b]0;owned\x07\x1b[2Jboom\r\n\x9b31m", "]0;owned [2Jboom 31m"),
        ("\u202eknab\u200b", "knab"),
        (b"bytes", "b'bytes'"),
        (7, "7"),
        ("a" * 10**6, "a" * 400 + " ..."),
    ],
)
def test_what_a_site_says_went_wrong_can_be_shown_on_a_terminal(reason: Any, line: str) -> None:
    assert failure_reason(Error(2, reason)) == line


def test_names_that_sites_report_are_those_of_the_run() -> None:
    clear = reported_scalars(Settings())
    assert {"loss_generator", "l1_image", "seconds", "peak_memory_bytes"} <= clear
    secure = reported_scalars(Settings().replaced({"secure-aggregation": True}))
    assert clear - secure >= {"loss_generator", "l1_image"} and "seconds" in secure
    noised = reported_scalars(Settings().replaced({"dp-noise-multiplier": 1.0, "dp-clip-norm": 1.0, "tau": 0.0}))
    assert noised == {"dp_releases", "dp_mu", "refused_tasks"}
