"""Who is which site: with keys as the sites file says, without keys as each says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message

from federation.settings import Settings
from model.errors import ConfigError, FederationError
from server.sites import roster as roster_module
from server.sites.roster import Roster
from tests.server.replies import Answer, answering_app
from tests.support.inprocess_grid import FIRST_NODE_ID, InProcessGrid, lost


def settings(sites_file: Path | None = None, **changes: object) -> Settings:
    flat = {"num-clients": 3, "min-fit-clients": 2, "num-identities": 3, "round-timeout-s": 0.05}
    return Settings.from_flat(flat | {"sites-file": str(sites_file or "")} | changes)  # type: ignore[arg-type]


def site(context: Context) -> Answer:
    """A deployed site with ten frames of its identity, or of those that its node config names."""
    config = context.node_config

    def answer(parameters: list[np.ndarray], _: dict[str, object]) -> tuple[list[np.ndarray], int, dict[str, object]]:
        counts, landmarks = np.zeros(3), np.zeros((3, 68, 2))
        counts[json.loads(str(config.get("owns", [config["partition-id"]])))] = 10
        scalars = {"partition-id": config["partition-id"], "num-simulated": 0}
        scalars |= json.loads(str(config.get("labels", "{}")))
        return [np.ones((4, 2)), landmarks, landmarks, counts], 10, scalars

    return answer


class ChangingGrid(InProcessGrid):
    """Of its nodes those of `here` are connected."""

    here: Iterable[int] = ()

    def get_node_ids(self) -> Iterable[int]:
        return [FIRST_NODE_ID + index for index in self.here]


class HoldingGrid(ChangingGrid):
    """Keeps the replies of node 2 to itself until it is told to deliver them, or loses them."""

    is_holding = True
    is_losing = False
    num_asked = 0
    """Messages to node 2."""

    def _answer(self, message: Message, index: int) -> None:
        super()._answer(message, index)
        if index != 2:
            return
        self.num_asked += 1
        name = message.metadata.message_id
        if self.is_losing:
            self._replies[name] = lost(self._replies[name])
        elif self.is_holding:
            self._kept = {name: self._replies.pop(name)}

    def deliver(self) -> None:
        self._replies |= self._kept


def holding(*here: int) -> HoldingGrid:
    made = HoldingGrid(answering_app(site), partitions(0, 1, 2), {})
    made.here = here
    return made


def grid(*configs: Mapping[str, object], here: Iterable[int] | None = None) -> ChangingGrid:
    made = ChangingGrid(answering_app(site), list(configs), {})
    made.here = range(len(configs)) if here is None else here
    return made


def partitions(*ids: int) -> list[dict[str, object]]:
    return [{"partition-id": index} for index in ids]


def write(path: Path, *nodes: int) -> Path:
    """Node nodes[p] is registered for partition p."""
    rows = [{"partition-id": p, "node-id": str(node), "key-sha256": f"{node:x}"} for p, node in enumerate(nodes)]
    path.write_text(json.dumps({"sites": rows}))
    return path


def known(roster: Roster) -> dict[int, int]:
    """Node index to partition."""
    return {node - FIRST_NODE_ID: one.partition_id for node, one in roster.sites}


def test_a_site_is_the_partition_for_which_its_key_is_registered(tmp_path: Path) -> None:
    roster = Roster(settings(write(tmp_path / "sites.json", 1002, 1000, 1001)))
    roster.wait_for_sites(grid(*partitions(1, 2, 0)))
    assert known(roster) == {2: 0, 0: 1, 1: 2}


def test_a_squatter_is_named_and_never_takes_or_blocks_a_place(tmp_path: Path) -> None:
    """Node 1 has the key of partition 1, says it is 0 and comes first."""
    roster = Roster(settings(write(tmp_path / "sites.json", 1000, 1001, 1002)))
    network = grid(*partitions(0, 0, 2), here=[1])
    roster.refresh(network)
    assert known(roster) == {}
    assert roster.refused == {1001: "says partition-id 0, its key is registered for partition-id 1"}
    network.here = [0, 1, 2]
    roster.refresh(network)
    assert known(roster) == {0: 0, 2: 2}


def test_a_node_without_a_registered_key_is_not_even_asked(tmp_path: Path) -> None:
    roster = Roster(settings(write(tmp_path / "sites.json", 1000, 1001)))
    network = grid(*partitions(0, 1, 2))
    roster.refresh(network)
    assert known(roster) == {0: 0, 1: 1}
    assert network.pulled == [0, 1]
    assert roster.refused == {1002: "its key is none of those in sites.json; register it"}


def test_nodes_without_a_registered_key_do_not_end_the_wait_for_sites(tmp_path: Path) -> None:
    """Three strangers do not stand for the three sites that are missing."""
    roster = Roster(settings(write(tmp_path / "sites.json", 1000, 1001)))
    roster.refresh(grid(*partitions(0, 1, 0, 1, 2), here=[2, 3, 4]))
    assert len(roster.refused) == 3
    assert not roster._is_settled()


def test_a_site_cannot_leave_quarantine_as_another_partition(tmp_path: Path) -> None:
    """Site 2 is away; site 1 restarts as partition 2."""
    for roster in (Roster(settings(write(tmp_path / "sites.json", 1000, 1001, 1002))), Roster(settings())):
        network = grid(*partitions(0, 1, 2))
        roster.wait_for_sites(network)
        network.here = [0]
        roster.refresh(network)
        network._contexts[1].node_config["partition-id"] = 2
        network.here = [0, 1]
        roster.refresh(network)
        assert known(roster) == {0: 0}
        assert roster.refused[1001].startswith("says partition-id 2, ")


def test_a_key_that_is_replaced_during_a_run_is_let_in_and_the_old_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "sites.json", 1000, 1001)
    roster = Roster(settings(path))
    network = grid(*partitions(0, 1, 1), here=[0, 1])
    roster.wait_for_sites(network)
    network.here = [0, 1, 2]
    write(path, 1000, 1002)
    roster.refresh(network)
    assert known(roster) == {0: 0, 2: 1}
    assert list(roster.refused) == [1001]


def test_a_file_damaged_during_a_run_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "sites.json", 1000, 1001)
    roster = Roster(settings(path))
    path.write_text("{")
    roster.refresh(grid(*partitions(0, 1)))
    assert known(roster) == {0: 0, 1: 1}
    assert "the sites registered before still count" in caplog.text


@pytest.mark.parametrize("text", [None, "{", "[]", '{"sites": [{"partition-id": 0}]}'])
def test_a_file_that_cannot_be_read_is_said_at_once(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "sites.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="sites.json cannot be read .*`fedreenact register` writes it"):
        Roster(settings(path))
    with pytest.raises(ConfigError, match="sites-file: got 'sites.json', wanted an absolute path"):
        Roster(settings(Path("sites.json")))


def test_without_keys_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        Roster(settings())
    assert "sites are not bound to keys (sites-file is empty)" in caplog.text


def test_a_site_speaks_for_its_own_identity_alone() -> None:
    configs = [{"partition-id": 0}, {"partition-id": 1, "owns": "[0, 1]"}, {"partition-id": 2}]
    roster = Roster(settings())
    roster.wait_for_sites(grid(*configs))
    assert known(roster) == {0: 0, 2: 2}
    assert roster.refused == {1001: "has frames of the identities [0, 1], its own is 1"}


def test_a_name_is_of_the_sites_own_identity_and_of_one_alone() -> None:
    """Site 1 also names identity 2; site 2 takes site 0's name, in vain."""
    labels = [{"label-0": "Ada"}, {"label-1": "Bea", "label-2": "Eve"}, {"label-2": "Ada"}]
    configs = [{"partition-id": i, "labels": json.dumps(names)} for i, names in enumerate(labels)]
    roster = Roster(settings())
    roster.wait_for_sites(grid(*configs))
    assert roster.labels() == ["Ada", "Bea", "identity-2"]


@pytest.mark.parametrize("label", ["O'Brien", "Doe, Jane", "Zoe\u0308", "anna (2)", "\u674e \u96f7", "x" * 200])
def test_any_name_of_a_person_arrives_unchanged(label: str) -> None:
    configs = [{"partition-id": 0}, {"partition-id": 1, "labels": json.dumps({"label-1": label})}, {"partition-id": 2}]
    roster = Roster(settings())
    roster.wait_for_sites(grid(*configs))
    assert roster.labels() == ["identity-0", label, "identity-2"]


@pytest.mark.parametrize(
    "label", ["..", ".", "../x", "", " x", "\x1b[2J", "a\nb", "x" * 248, 7, "identity-0", "\u202ex"]
)
def test_names_that_are_no_names_are_not_taken(label: object) -> None:
    configs = [{"partition-id": 0}, {"partition-id": 1, "labels": json.dumps({"label-1": label})}, {"partition-id": 2}]
    roster = Roster(settings())
    roster.wait_for_sites(grid(*configs))
    assert roster.labels() == ["identity-0", "identity-1", "identity-2"]


def test_without_keys_refused_nodes_do_not_end_the_wait_for_sites() -> None:
    """Anybody can be many nodes: two more that say they are site 0 do not stand for the sites that are missing."""
    roster = Roster(settings())
    with pytest.raises(FederationError, match="1 sites are ready, min-fit-clients is 2"):
        roster.wait_for_sites(grid(*partitions(0, 0, 0)))
    assert not roster._is_settled()


def refused_for_a_mistake(path: Path) -> tuple[Roster, ChangingGrid]:
    """Site 2 has another partition in its node config than its key is registered for, mended once it was refused."""
    roster = Roster(settings(write(path, 1000, 1001, 1002)))
    network = grid(*partitions(0, 1, 7))
    roster.wait_for_sites(network)
    assert known(roster) == {0: 0, 1: 1}
    network._contexts[2].node_config["partition-id"] = 2
    return roster, network


def test_a_refused_site_that_was_restarted_between_two_greetings_is_asked_again(tmp_path: Path) -> None:
    """With a registered key its node id is the same as before."""
    roster, network = refused_for_a_mistake(tmp_path / "sites.json")
    roster.refresh(network)
    assert known(roster) == {0: 0, 1: 1}
    network.here = [0, 1]
    assert roster.connected(network) == [0, 1]
    network.here = [0, 1, 2]
    roster.refresh(network)
    assert known(roster) == {0: 0, 1: 1, 2: 2}
    assert roster.refused == {}


def test_a_refused_site_is_asked_again_after_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roster, network = refused_for_a_mistake(tmp_path / "sites.json")
    monkeypatch.setattr(roster_module, "_ASK_AGAIN_S", 0.0)
    roster.refresh(network)
    assert known(roster) == {0: 0, 1: 1, 2: 2}
    assert roster.refused == {}


def test_a_site_that_is_refused_again_for_the_same_reason_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(roster_module, "_ASK_AGAIN_S", 0.0)
    roster = Roster(settings(write(tmp_path / "sites.json", 1000, 1001)))
    for _ in range(3):
        roster.refresh(grid(*partitions(0, 7, 2)))
    assert sorted(roster.refused) == [1001, 1002]
    assert [text.partition(" cannot")[0] for text in caplog.messages] == ["node 1002", "site 1 (node 1001)"]


def test_a_greeting_that_is_not_answered_costs_one_wait_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roster = Roster(settings(write(tmp_path / "sites.json", 1000, 1001, 1002)))
    network = holding(0, 1, 2)
    roster.wait_for_sites(network)
    waits: list[None] = []
    for _ in range(3):
        roster.refresh(network, on_wait=lambda: waits.append(None))
    assert (known(roster), waits, network.num_asked) == ({0: 0, 1: 1}, [], 1)
    assert roster.refusals() == {"site 2 (node 1002)": "has not answered its greeting"}
    assert roster.connected(network) == [0, 1, 2]
    assert caplog.messages[-1] == "site 2 (node 1002) has not answered its greeting, and is not waited for any more"
    network.deliver()
    roster.refresh(network)
    assert (known(roster), roster.refusals()) == ({0: 0, 1: 1, 2: 2}, {})


def test_a_site_that_comes_between_two_rounds_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_module, "_POLL_INTERVAL_S", 0.01)
    roster = Roster(settings())
    network = holding(0, 1)
    roster.wait_for_sites(network)
    network.here = [0, 1, 2]
    roster._settings = settings(**{"round-timeout-s": 60.0})
    roster.refresh(network, on_wait=network.deliver)
    assert known(roster) == {0: 0, 1: 1, 2: 2}


def test_a_site_that_hangs_at_the_start_does_not_keep_those_waiting_who_come_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roster_module, "_POLL_INTERVAL_S", 0.01)
    roster = Roster(settings(**{"round-timeout-s": 60.0}))
    network = holding(0, 2)

    def let_site_1_come_then_answer() -> None:
        network.here = [0, 1, 2]
        if 1 in known(roster).values():
            network.deliver()

    roster.wait_for_sites(network, let_site_1_come_then_answer)
    assert known(roster) == {0: 0, 1: 1, 2: 2}


def test_a_site_that_ends_at_every_greeting_is_asked_again_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roster = Roster(settings(write(tmp_path / "sites.json", 1000, 1001, 1002)))
    network = holding(0, 1, 2)
    network.is_losing = True
    for _ in range(2):
        roster.refresh(network)
    assert (known(roster), network.num_asked) == ({0: 0, 1: 1}, 2)
    assert roster.refusals() == {"site 2 (node 1002)": "did not answer its greeting (gone)"}
    assert caplog.messages == ["site 2 (node 1002) did not answer its greeting (gone), and is asked again"]
    network.is_losing = network.is_holding = False
    roster.refresh(network)
    assert (known(roster), roster.refusals()) == ({0: 0, 1: 1, 2: 2}, {})


def test_a_late_answer_of_a_key_that_is_registered_no_more_is_not_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "sites.json", 1000, 1001, 1002)
    roster = Roster(settings(path))
    network = holding(0, 1, 2)
    roster.wait_for_sites(network)
    write(path, 1000, 1001)
    network.deliver()
    roster.refresh(network)
    assert known(roster) == {0: 0, 1: 1}
    assert list(roster.refused) == [1002]


def test_sites_that_hang_are_the_reason_that_too_few_are_ready() -> None:
    with pytest.raises(FederationError, match=r"min-fit-clients is 2 \(has not answered its greeting\)"):
        Roster(settings()).wait_for_sites(holding(0, 2))
