"""FedGAN on clients that answer with chosen arrays: no networks, no frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, Context, Error, Message

from federation.settings import Settings
from model.errors import FederationError
from server.rounds.exchange import Link
from server.rounds.fedgan import FedGAN, to_record
from server.rounds.loop import RoundOutcome
from server.sites.roster import Roster
from tests.server.replies import Answer, answering_app
from tests.support.inprocess_grid import InProcessGrid

NUM_CLIENTS = 3
START = {"generator.w": np.zeros(2, np.float32), "discriminator.w": np.zeros((), np.float32)}


def settings(min_fit_clients: int = NUM_CLIENTS, server_learning_rate: float = 1.0) -> Settings:
    return Settings.from_flat(
        {
            "num-clients": NUM_CLIENTS,
            "min-fit-clients": min_fit_clients,
            "num-identities": 3,
            "round-timeout-s": 0.2,
            "server-learning-rate": server_learning_rate,
        }
    )


def client(context: Context) -> Answer:
    """Client i has 10 (i + 1) frames and trains every weight to i + 1; its loss is 100 (i + 1)."""
    index = int(context.node_config["partition-id"])

    def answer(
        parameters: list[np.ndarray], config: dict[str, object]
    ) -> tuple[list[np.ndarray], int, dict[str, object]]:
        if config["phase"] == "statistics":
            counts = np.zeros(3)
            counts[index % 3] = 10 * (index + 1)
            landmarks = np.zeros((3, 68, 2))
            return (
                [np.ones((4, 2)), landmarks, landmarks, counts],
                10,
                {"partition-id": index, f"label-{index}": f"Ada {index}"},
            )
        if context.node_config.get("is-broken"):
            raise RuntimeError("disk full")
        return [array + index + 1 for array in parameters], 10 * (index + 1), {"loss_generator": 100.0 * (index + 1)}

    return answer


def grid(**options: object) -> InProcessGrid:
    configs = [{"partition-id": index, "is-broken": index == options.get("broken")} for index in range(NUM_CLIENTS)]
    options.pop("broken", None)
    return InProcessGrid(answering_app(client), configs, {}, **options)  # type: ignore[arg-type]


def strategy_on(network: InProcessGrid, config: Settings, folder: Path) -> FedGAN:
    roster = Roster(config)
    roster.wait_for_sites(network)
    min_sites = config.rounds.min_fit_clients
    link = Link(grid=network, roster=roster, timeout_s=0.2, on_wait=lambda: None, min_sites=min_sites)
    return FedGAN(START, link, config, folder, scalars={"run-id": "r"})


def one_round(network: InProcessGrid, config: Settings, folder: Path) -> RoundOutcome:
    return strategy_on(network, config, folder).train(1, START)


def test_a_round_averages_tensors_and_metrics_by_examples(tmp_path: Path) -> None:
    outcome = one_round(grid(), settings(), tmp_path)
    expected = (1 * 10 + 2 * 20 + 3 * 30) / 60
    assert outcome.tensors["generator.w"].tolist() == [np.float32(expected)] * 2
    assert outcome.tensors["discriminator.w"] == np.float32(expected)
    assert outcome.metrics["loss_generator"] == pytest.approx(100 * expected)
    assert outcome.clients[2] == {"loss_generator": 300.0, "num_examples": 30}
    assert outcome.rejected == {}


def test_the_server_goes_further_than_the_mean_if_it_is_asked_to(tmp_path: Path) -> None:
    start = {name: np.full_like(array, 5) for name, array in START.items()}
    outcome = strategy_on(grid(), settings(server_learning_rate=2.0), tmp_path).train(1, start)
    expected = 5 + 2 * (1 * 10 + 2 * 20 + 3 * 30) / 60
    assert outcome.tensors["generator.w"].tolist() == pytest.approx([expected] * 2, abs=1e-6)
    assert outcome.tensors["discriminator.w"] == pytest.approx(5 + 14 / 6)
    assert outcome.metrics["loss_generator"] == pytest.approx(100 * 14 / 6)


def test_a_round_measures_every_update(tmp_path: Path) -> None:
    measured = one_round(grid(), settings(), tmp_path).measured
    assert [values["update_norm"] for values in measured.values()] == pytest.approx([3**0.5, 2 * 3**0.5, 3 * 3**0.5])
    assert [values["cosine_to_mean"] for values in measured.values()] == pytest.approx([1.0, 1.0, 1.0])
    num_bytes = len(Array(np.zeros(3, np.float32)).data)
    assert {(values["bytes_up"], values["bytes_down"]) for values in measured.values()} == {(num_bytes, num_bytes)}
    assert list(tmp_path.iterdir()) == []


def test_the_global_tensors_given_are_not_changed(tmp_path: Path) -> None:
    one_round(grid(), settings(), tmp_path)
    assert not any(array.any() for array in START.values())


def test_replies_are_taken_in_the_order_of_partitions_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    network = grid(arrival=[2, 0, 1])
    one_round(network, settings(), tmp_path)
    assert network.pulled == [0, 1, 2, 0, 1, 2]


def test_a_client_that_raises_is_named_with_its_reason(tmp_path: Path) -> None:
    outcome = one_round(grid(broken=1), settings(min_fit_clients=2), tmp_path)
    assert outcome.rejected == {1: "disk full"}
    assert outcome.rejected_kinds == {1: "failed"}
    assert outcome.tensors["discriminator.w"] == np.float32((1 * 10 + 3 * 30) / 40)


def test_a_client_that_does_not_answer_is_named(tmp_path: Path) -> None:
    network = grid(tamper=lambda reply, index: None if index == 0 and reply.metadata.group_id == "1" else reply)
    outcome = one_round(network, settings(min_fit_clients=2), tmp_path)
    assert outcome.rejected == {0: "no reply within 0.2 s"}
    assert outcome.rejected_kinds == {0: "late"}


def test_too_few_updates_raise_with_every_reason_and_what_to_do(tmp_path: Path) -> None:
    words = r"round 1: 2 valid updates, min-fit-clients is 3 \(client 1: disk full\); mend the clients"
    with pytest.raises(FederationError, match=words):
        one_round(grid(broken=1), settings(), tmp_path)


def test_the_strategy_also_runs_in_flowers_own_loop(tmp_path: Path) -> None:
    network = grid()
    strategy = strategy_on(network, settings(), tmp_path)
    result = strategy.start(network, to_record(START), num_rounds=2, timeout=1.0)
    step = (1 * 10 + 2 * 20 + 3 * 30) / 60
    assert result.arrays["weights"].numpy() == pytest.approx([2 * step] * 3)
    assert sorted(result.train_metrics_clientapp) == [1, 2]


def test_sites_may_name_their_identity() -> None:
    roster = Roster(settings())
    roster.wait_for_sites(grid())
    assert roster.labels() == ["Ada 0", "Ada 1", "Ada 2"]


def test_a_second_site_with_the_same_partition_id_is_refused() -> None:
    configs = [{"partition-id": index} for index in (0, 1, 1)]
    roster = Roster(settings(min_fit_clients=2))
    roster.wait_for_sites(InProcessGrid(answering_app(client), configs, {}))
    assert [site.partition_id for _, site in roster.sites] == [0, 1]
    assert list(roster.refused.values()) == ["partition-id 1 is taken by another connected site"]


def test_a_site_whose_greeting_got_lost_is_asked_again() -> None:
    lost: list[int] = []

    def lose_once(reply: Message, index: int) -> Message:
        if index != 1 or lost:
            return reply
        lost.append(index)
        expired = Message(Error(code=3, reason="expired"), reply_to=reply)
        expired.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
        return expired

    roster = Roster(settings().replaced({"round-timeout-s": 5.0}))
    roster.wait_for_sites(grid(tamper=lose_once))
    assert lost == [1]
    assert [site.partition_id for _, site in roster.sites] == [0, 1, 2]


def test_too_few_sites_end_the_wait_with_a_reason() -> None:
    roster = Roster(settings())
    network = InProcessGrid(answering_app(client), [{"partition-id": 0}, {"partition-id": 9}], {})
    words = r"1 sites are ready, min-fit-clients is 3 \(partition-id is 9, wanted 0 to 2\)"
    with pytest.raises(FederationError, match=words):
        roster.wait_for_sites(network)
