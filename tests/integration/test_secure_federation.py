"""Secure and private runs on an in-process grid: real clients, real networks, 32 px noise."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flwr.app import Message

import client.app
import server.rounds.federation
import server.rounds.secure_statistics
import server.sites.agreement
from client.consent.egress import inventory, training_scalars
from data_partition.partition import site_data
from data_partition.shards.shard import METADATA_NAME, open_shard
from federation.local_training import LocalResult, RoundTask, train_locally
from federation.privacy_accountant import epsilon_of
from federation.reported import OPERATIONS
from federation.secure_sum.vector import FRACTION_BITS, Coarse
from federation.settings import Settings
from model.checkpoint import Checkpoint, load_checkpoint
from model.designs.registry import IDENTITY_ROWS
from model.errors import ConfigError, FederationError
from model.networks.bundle import NamedArrays
from server.rounds.federation import run_federation
from server.rounds.secure_statistics import drawn_face
from server.run_folder.history import read_history
from server.updates.weighted_mean import StreamingMean
from tests.support.federated_setup import GLR, deployed_config, minimal_settings, simulated_grid, write_dataset
from tests.support.inprocess_grid import InProcessGrid, lost
from tests.support.node_keys import key_config, write_node_keys

pytestmark = pytest.mark.integration

Trained = dict[int, dict[int, tuple[dict[str, np.ndarray], LocalResult]]]
STEPS = ("keys", "shares", "masked", "agreed", "revealed")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 5)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Round to site to (tensors it started from, what it trained), filled while a run goes on."""
    seen: Trained = {}

    def train(task: RoundTask, tensors: NamedArrays, **rest: object) -> LocalResult:
        result = train_locally(task, tensors, **rest)  # type: ignore[arg-type]
        before = {name: array.copy() for name, array in tensors.items()}
        seen.setdefault(task.round_number, {})[task.partition_id] = (before, result)
        return result

    monkeypatch.setattr(client.app, "train_locally", train)
    return seen


def run(settings: Settings, **options: object) -> Checkpoint:
    run_federation(simulated_grid(settings, **options), settings)
    return load_checkpoint(Path(settings.run.output_dir))


def failing(site: int, step: str, in_round: str) -> object:
    """A tamper under which a site fails at a step of the first attempt at a round."""
    num_replies = -1

    def tamper(reply: Message, index: int) -> Message:
        nonlocal num_replies
        if index != site or reply.metadata.group_id != in_round:
            return reply
        num_replies += 1
        return lost(reply) if num_replies == STEPS.index(step) else reply

    return tamper


def assert_is_mean(checkpoint: Checkpoint, trained: Trained, round_number: int, sites: list[int]) -> None:
    """The tensors of the round are the plain mean of what these sites trained, within the stated quantisation.

    n 2^-25 / W with W the frames that weigh, the site's own 9 at least, plus one rounding to float32.
    """
    quantisation = len(sites) * 2.0 ** -(FRACTION_BITS + 1) / 9
    for name, expected in mean_of(trained, round_number, sites).items():
        bound = quantisation + np.spacing(np.abs(expected))
        assert (np.abs(checkpoint.tensors[name] - expected) <= bound).all(), name


def mean_of(trained: Trained, round_number: int, sites: list[int]) -> dict[str, np.ndarray]:
    """The plain mean of what these sites trained."""
    mean = StreamingMean(trained[round_number][sites[0]][0], identity_rows=IDENTITY_ROWS)
    for site in sites:
        result = trained[round_number][site][1]
        weights = np.zeros(5, np.int64)
        weights[site] = result.num_examples
        mean.add(result.tensors, weight=result.num_examples, identity_weights_I=weights)
    return mean.result()


def test_two_secure_rounds_are_the_plain_mean_within_the_quantisation(
    dataset: Path, tmp_path: Path, trained: Trained
) -> None:
    settings = minimal_settings(dataset, tmp_path / "secure", 5, secure_aggregation=True)
    final = run(settings)
    sites = list(range(5))
    assert_is_mean(final, trained, 2, sites)
    first = trained[2][0][0]  # round 2 began with round 1's result
    assert_is_mean(dataclasses.replace(final, tensors=first), trained, 1, sites)
    rows = read_history(tmp_path / "secure")
    weights = [trained[2][site][1].num_examples for site in sites]
    for name in ("loss_generator", "loss_discriminator", "l1_image"):
        values = [trained[2][site][1].metrics[name] for site in sites]
        assert rows[1].metrics[name] == pytest.approx(np.average(values, weights=weights), abs=1e-7)
    assert set(rows[1].clients) == set(rows[1].measured) == {0, 1, 2, 3, 4}
    assert {"seconds", "num_steps"} <= set(rows[1].clients[0]) <= set(OPERATIONS)


def test_a_secure_run_goes_where_the_plain_run_goes(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round 1 within the quantisation, from the same beginning and the same pairs."""
    monkeypatch.setattr(client.app, "new_salt", lambda: None)
    drawn = server.rounds.secure_statistics._agreement(drawn_face(), minimal_settings(dataset, tmp_path, 5))
    monkeypatch.setattr(server.sites.agreement, "agree", lambda *_, **__: drawn)
    monkeypatch.setattr(server.rounds.federation, "secure_agreement", lambda *_: drawn)
    plain, secure = (
        run(minimal_settings(dataset, tmp_path / str(on), 5, secure_aggregation=on, max_rounds=1))
        for on in (False, True)
    )
    for name, expected in plain.tensors.items():
        bound = 5 * 2.0 ** -(FRACTION_BITS + 1) / 9 + np.spacing(np.abs(expected))
        assert (np.abs(secure.tensors[name] - expected) <= bound).all(), name
    assert secure.loss_window == pytest.approx(plain.loss_window, abs=1e-6)


def test_a_server_that_goes_further_does_so_with_the_sum_too(dataset: Path, tmp_path: Path, trained: Trained) -> None:
    settings = minimal_settings(dataset, tmp_path, 5, secure_aggregation=True, max_rounds=1, server_learning_rate=2.0)
    final = run(settings)
    start = trained[1][0][0]
    half_way = {
        name: ((start[name].astype(np.float64) + array) / 2).astype(np.float32)
        if name not in IDENTITY_ROWS and "discriminator" not in name
        else array
        for name, array in final.tensors.items()
    }
    assert_is_mean(dataclasses.replace(final, tensors=half_way), trained, 1, list(range(5)))


def test_a_site_with_a_lone_frame_of_a_clip_takes_part(tmp_path: Path, trained: Trained) -> None:
    """A frame without a partner is never drawn, so its identity has a frame more than the site's weight counts."""
    dataset = write_dataset(tmp_path / "dataset", 5)
    path = dataset / "person-2" / METADATA_NAME
    table = pq.read_table(path)
    clips = pa.array(["portrait", *table["clip"].to_pylist()[1:]], table.schema.field("clip").type)
    pq.write_table(table.set_column(table.schema.get_field_index("clip"), "clip", clips), path)
    settings = minimal_settings(dataset, tmp_path / "run", 5, secure_aggregation=True, max_rounds=1)
    assert_is_mean(run(settings), trained, 1, list(range(5)))
    counts = site_data(open_shard(dataset / "person-2"), 2).identity_counts(5)
    assert trained[1][2][1].num_examples == counts.sum() - 1


@pytest.mark.parametrize("codec", ["bfloat16", "int8"])
def test_a_secure_run_with_a_codec_sends_half_up_and_steps_down(
    dataset: Path, tmp_path: Path, trained: Trained, codec: str
) -> None:
    """The mean within the units of 32 bits and what the server rounds; everybody begins with the checkpoint's bits."""
    whole = minimal_settings(dataset, tmp_path / "whole", 5, secure_aggregation=True, max_rounds=1)
    run(whole)
    settings = minimal_settings(
        dataset, tmp_path / "coded", 5, secure_aggregation=True, update_codec=codec, max_rounds=3, min_fit_clients=4
    )
    final = run(settings, tamper=failing(2, "masked", "2"))
    sites = [0, 1, 3, 4]
    start = trained[2][0][0]
    coarse = Coarse.of_run(start, settings)
    num_frames = sum(trained[2][site][1].num_examples for site in sites)
    expected = mean_of(trained, 2, sites)
    for name in expected.keys() - set(IDENTITY_ROWS):
        got = trained[3][0][0][name]
        rounded = np.abs(expected[name] - start[name]).max() / (2 * 127) * 1.01
        unit = len(sites) / 2 * coarse.unit(name) / num_frames
        assert (np.abs(got - expected[name]) <= rounded + unit + np.spacing(np.abs(got))).all(), name
    for site in range(5):
        known = load_checkpoint(tmp_path / "coded" / "round-000002").tensors
        assert {n: a.tobytes() for n, a in trained[3][site][0].items()} == {n: a.tobytes() for n, a in known.items()}
    (plain, *_), rows = read_history(tmp_path / "whole"), read_history(tmp_path / "coded")
    up, down = ([row.measured[0][way] for row in (plain, *rows)] for way in ("bytes_up", "bytes_down"))
    values = sum(array.size for array in final.tensors.values())
    assert all(up[0] - number > 3.9 * values for number in up[1:])
    assert down[1] == pytest.approx(down[0], rel=0.01) and max(down[2:]) < 0.5 * down[0]
    assert rows[2].measured[2]["bytes_down"] == pytest.approx(down[0], rel=0.01)  # it missed round 2


@pytest.mark.parametrize("step", ["keys", "shares", "masked"])
def test_one_of_five_may_fail_before_its_masked_update_is_in(
    dataset: Path, tmp_path: Path, trained: Trained, step: str
) -> None:
    settings = minimal_settings(dataset, tmp_path, 5, secure_aggregation=True, min_fit_clients=4, max_rounds=1)
    final = run(settings, tamper=failing(2, step, "1"))
    assert_is_mean(final, trained, 1, [0, 1, 3, 4])
    row = read_history(tmp_path)[0]
    assert row.rejected == {2: "gone"} and row.rejected_kinds == {2: "lost"}


def test_one_of_five_may_fail_after_its_masked_update_is_in(dataset: Path, tmp_path: Path, trained: Trained) -> None:
    settings = minimal_settings(dataset, tmp_path, 5, secure_aggregation=True, max_rounds=1)
    final = run(settings, tamper=failing(2, "revealed", "1"))
    assert_is_mean(final, trained, 1, [0, 1, 2, 3, 4])
    assert read_history(tmp_path)[0].rejected == {}


def test_a_late_site_is_left_out(dataset: Path, tmp_path: Path, trained: Trained) -> None:
    settings = minimal_settings(
        dataset, tmp_path, 5, secure_aggregation=True, min_fit_clients=4, max_rounds=1, round_timeout_s=3.0
    )
    fail = failing(2, "masked", "1")
    final = run(settings, tamper=lambda reply, index: None if fail(reply, index) is not reply else reply)  # type: ignore[operator]
    assert_is_mean(final, trained, 1, [0, 1, 3, 4])
    assert read_history(tmp_path)[0].rejected == {2: "no reply within 3 s to secure-train"}


def test_a_site_that_never_answered_costs_one_wait(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path, 5, secure_aggregation=True, min_fit_clients=4, round_timeout_s=3.0)
    fail = failing(2, "masked", "1")
    run(settings, tamper=lambda reply, index: None if fail(reply, index) is not reply else reply)  # type: ignore[operator]
    second = read_history(tmp_path)[1]
    assert second.rejected == {2: "has not answered the message of round 1 yet, and is not asked before"}
    assert sorted(second.clients) == [0, 1, 3, 4]


def test_too_few_masked_updates_end_the_round_with_the_reasons(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path, 5, secure_aggregation=True)
    words = r"round 1: 4 sites sent a masked vector, min-fit-clients is 5 and the secure sum needs 4 \(client 2: gone\)"
    with pytest.raises(FederationError, match=words):
        run(settings, tamper=failing(2, "masked", "1"))


def deployed(dataset: Path, root: Path, **changes: object) -> tuple[Settings, list[Message]]:
    """One round of five deployed sites; settings and every reply of site 0."""
    settings = minimal_settings(dataset, root / "run", 5, data_dir="", max_rounds=1, **GLR, **changes)  # type: ignore[arg-type]
    keys = write_node_keys(root / "keys", 5)
    configs = [deployed_config(dataset, root, index, settings) | key_config(keys, index) for index in range(5)]
    replies: list[Message] = []

    def capture(reply: Message, index: int) -> Message:
        if index == 0:
            replies.append(reply)
        return reply

    run_federation(InProcessGrid(client.app.app, configs, settings.to_flat(), tamper=capture), settings)
    return settings, replies


@pytest.mark.parametrize("codec", ["float32", "int8"])
def test_the_inventory_is_exactly_what_leaves_in_a_secure_round(dataset: Path, tmp_path: Path, codec: str) -> None:
    settings, (greeting, *phases) = deployed(dataset, tmp_path, secure_aggregation=True, update_codec=codec)
    left = [array.numpy() for reply in phases for array in reply.content.array_records["fitres.parameters"].values()]
    assert len(phases) == 10  # five before round 1, five of round 1
    listed = [item for item in inventory(settings) if item.shape != () and item.name != "secure.refused"]
    assert [(array.shape, str(array.dtype)) for array in left] == [(item.shape, item.dtype) for item in listed]
    assert not [key for key in greeting.content.array_records["fitres.parameters"] if key != "_empty"]
    assert int(greeting.content.metric_records["fitres.num_examples"]["num_examples"]) == 0
    assert dict(greeting.content.config_records["fitres.metrics"]) == {"partition-id": 0, "num-simulated": 0}
    for reply in phases:
        assert int(reply.content.metric_records["fitres.num_examples"]["num_examples"]) == 0
        assert set(reply.content.config_records["fitres.metrics"]) <= training_scalars(settings)
    assert not any(name.startswith(("loss", "ranking", "l1")) for name in training_scalars(settings))


@pytest.mark.parametrize("is_secure", [False, True])
def test_a_private_run_tells_no_losses_and_says_what_is_spent(
    dataset: Path, tmp_path: Path, is_secure: bool, trained: Trained
) -> None:
    changes = {"secure_aggregation": is_secure, "dp_clip_norm": 0.5, "dp_noise_multiplier": 1e-9}
    settings, (_, *phases) = deployed(dataset, tmp_path, **changes)
    for reply in phases:
        assert set(reply.content.config_records["fitres.metrics"]) <= training_scalars(settings)
    row = read_history(tmp_path / "run")[0]
    assert row.metrics["dp_releases"] == 1.0 and row.metrics["dp_epsilon"] > 0
    assert row.loss_generator is None
    final = load_checkpoint(tmp_path / "run")
    mean = dict.fromkeys(final.tensors, 0.0)
    for before, result in trained[1].values():  # clipped by hand, equal weights; this noise is far below float32
        steps = {name: after.astype(np.float64) - before[name] for name, after in result.tensors.items()}
        norm = np.sqrt(sum(np.square(step).sum() for step in steps.values()))
        assert norm > 0.5
        mean = {name: mean[name] + 0.5 * step / norm / 5 for name, step in steps.items()}
    for name in final.tensors.keys() - set(IDENTITY_ROWS):  # those are averaged over their owners
        start = trained[1][0][0][name]
        assert np.abs(final.tensors[name] - (start + mean[name])).max() < 1e-6, name


def test_a_repeated_round_costs_privacy_again(dataset: Path, tmp_path: Path) -> None:
    """Round 2 fails once after all sites have sent it; the run goes on from round 1 and sends it again."""
    settings = minimal_settings(dataset, tmp_path, 5, dp_clip_norm=1.0, dp_noise_multiplier=1.0, round_timeout_s=3.0)
    with pytest.raises(FederationError, match="round 2: 4 valid updates"):
        run(settings, tamper=lambda reply, index: None if index == 0 and reply.metadata.group_id == "2" else reply)
    run(settings.replaced({"resume": True}))
    rows = read_history(tmp_path)
    assert [row.metrics["dp_releases"] for row in rows] == [1.0, 3.0]
    assert rows[1].metrics["dp_epsilon"] == epsilon_of(2 * math.sqrt(3))


def test_a_resumed_run_says_no_less_than_before(dataset: Path, tmp_path: Path) -> None:
    """The sites lose their books between two rounds; what was told stays told."""
    settings = minimal_settings(dataset, tmp_path, 5, dp_clip_norm=1.0, dp_noise_multiplier=1.0, max_rounds=1)
    book = [{"noise_multiplier": 1.0, "clip_norm": 1.0, "releases": 50}]
    books = [tmp_path / "clients" / str(site) / "privacy-ledger.json" for site in range(5)]
    for path in books:
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"persons": {f"person-{number}": book for number in range(5)}}))
    run(settings)
    for path in books:
        path.unlink()
    run(settings.replaced({"resume": True, "max-rounds": 2}))
    assert [row.metrics["dp_releases"] for row in read_history(tmp_path)] == [51.0, 51.0]


@pytest.mark.parametrize("change", [{"dp-noise-multiplier": 2.0}, {"dp-clip-norm": 2.0}, {"secure-aggregation": True}])
def test_a_run_is_not_resumed_with_other_privacy(dataset: Path, tmp_path: Path, change: dict[str, object]) -> None:
    settings = minimal_settings(dataset, tmp_path, 5, dp_clip_norm=1.0, dp_noise_multiplier=1.0, max_rounds=1)
    run(settings)
    other = settings.replaced({**change, "resume": True, "max-rounds": 2})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=next(iter(change))):
        run_federation(simulated_grid(other), other)
