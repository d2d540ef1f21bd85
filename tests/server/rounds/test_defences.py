"""FedGAN against updates that are wrong, on clients that answer with chosen arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context

from federation.settings import Settings
from model.designs.registry import IDENTITY_ROWS
from model.errors import FederationError
from model.networks.bundle import NamedArrays
from model.setting import Scalar
from server.rounds.exchange import Link
from server.rounds.fedgan import FedGAN
from server.rounds.loop import RoundOutcome
from server.run_folder.history import RoundRow
from server.sites.roster import Roster
from tests.server.replies import Answer, answering_app
from tests.support.inprocess_grid import InProcessGrid
from tests.support.packed import packed, unpacked
from tests.support.rows import round_row

ROWS = sorted(IDENTITY_ROWS)[0]
START = {"generator.w": np.zeros(2, np.float32), ROWS: np.zeros((5, 1), np.float32)}
Step = Callable[[int], list[float]]
"""Round to the step of generator.w."""


def honest(index: int) -> Step:
    return lambda number: [1 + 0.1 * index, 0.5 + 0.01 * number]


class Federation:
    """Five clients of a simulation; client i owns identity i and has 10 (i + 1) frames.

    A boasting one says it has a billion, and as many of identity 0, and that its loss is 7.
    """

    def __init__(
        self, folder: Path, hostile: Mapping[int, Step], *, boasting: int | None = None, **changes: Scalar
    ) -> None:
        flat = {"min-fit-clients": 3, "round-timeout-s": 0.2, "max-norm-ratio": 0.0}
        self.settings = Settings.from_flat(flat | {k.replace("_", "-"): v for k, v in changes.items()})
        self.asked: list[list[int]] = []
        self._boasting = boasting
        self.replaying: int | None = None
        """The site that sends its first update for ever."""
        self.are_still = False
        """Whether all sites send back the weights that they were sent."""
        self._first: dict[int, np.ndarray] = {}
        self._steps = [hostile.get(index, honest(index)) for index in range(5)]
        configs = [{"partition-id": index} for index in range(5)]
        self._grid = InProcessGrid(answering_app(self._client), configs, {})
        self._roster = Roster(self.settings)
        self._roster.wait_for_sites(self._grid)
        self.folder = folder
        self.strategy = self.new_strategy()
        self._tensors: NamedArrays = START

    def new_strategy(self, history: Iterable[RoundRow] = ()) -> FedGAN:
        min_sites = self.settings.rounds.min_fit_clients
        link = Link(grid=self._grid, roster=self._roster, timeout_s=0.2, on_wait=lambda: None, min_sites=min_sites)
        return FedGAN(START, link, self.settings, self.folder, scalars={"run-id": "r"}, history=history)

    def round(self, number: int) -> RoundOutcome:
        num_before = len(self._grid.pulled)
        outcome = self.strategy.train(number, self._tensors)
        self.asked.append(self._grid.pulled[num_before:])
        self._tensors = outcome.tensors
        return outcome

    def _client(self, context: Context) -> Answer:
        index = int(context.node_config["partition-id"])

        def answer(
            parameters: list[np.ndarray], config: dict[str, object]
        ) -> tuple[list[np.ndarray], int, dict[str, object]]:
            is_boasting = index == self._boasting
            num_frames = 10**9 if is_boasting else 10 * (index + 1)
            if config["phase"] == "statistics":
                counts, landmarks = np.zeros(5), np.zeros((5, 68, 2))
                counts[[index, 0] if is_boasting else index] = num_frames
                return [np.ones((4, 2)), landmarks, landmarks, counts], 10, {"partition-id": index, "num-simulated": 5}
            step = np.array(self._steps[index](int(str(config["server-round"]))), np.float32)
            weights, rows = (array.copy() for array in unpacked(parameters[0], list(START.values())))
            rows[index] += index + 1
            update = parameters[0] if self.are_still else packed([weights + step, rows])
            first = self._first.setdefault(index, update)
            return (
                [first if index == self.replaying else update],
                num_frames,
                {"loss_generator": 7.0 if is_boasting else 1.0},
            )

        return answer


def row_of(number: int, outcome: RoundOutcome) -> RoundRow:
    """As the history has it."""
    return round_row(
        number, clients=outcome.clients, rejected_kinds=outcome.rejected_kinds, fingerprints=outcome.fingerprints
    )


def weighted(indices: list[int], number: int = 1) -> np.ndarray:
    steps = [honest(index)(number) for index in indices]
    return np.average(steps, axis=0, weights=[10 * (index + 1) for index in indices])


def test_a_step_far_too_long_is_left_out(tmp_path: Path) -> None:
    outcome = Federation(tmp_path, {3: lambda _: [50, 0]}, max_norm_ratio=10.0).round(1)
    assert outcome.rejected_kinds == {3: "too-long"}
    assert outcome.tensors["generator.w"] == pytest.approx(weighted([0, 1, 2, 4]))
    assert outcome.tensors[ROWS][:, 0].tolist() == [1, 2, 3, 0, 5]  # nobody trained row 3
    assert set(outcome.measured) == set(outcome.fingerprints) == {0, 1, 2, 4}
    assert "num_examples" not in outcome.metrics


def test_a_boast_of_many_frames_counts_as_few(tmp_path: Path) -> None:
    """Sites 0 to 4 have 10 to 50 frames; site 3 says it has a billion, also of identity 0, which is not its own."""
    outcome = Federation(tmp_path, {3: lambda _: [-9, -9]}, boasting=3, max_weight_ratio=2.0).round(1)
    assert outcome.rejected == {}
    frames = [10, 20, 30, 60, 50]  # twice the median
    steps = [honest(index)(1) for index in (0, 1, 2)] + [[-9, -9], honest(4)(1)]
    assert outcome.tensors["generator.w"] == pytest.approx(np.average(steps, axis=0, weights=frames))
    assert [outcome.measured[client]["weight"] for client in range(5)] == frames
    assert outcome.clients[3]["num_examples"] == 10**9  # what it said is kept
    assert outcome.metrics["loss_generator"] == pytest.approx(np.average([1, 1, 1, 7, 1], weights=frames))
    assert outcome.tensors[ROWS][0, 0] == pytest.approx(10 / 70)  # 1 by its owner, 0 by the site that claims it too


def test_a_flipped_step_is_left_out(tmp_path: Path) -> None:
    outcome = Federation(tmp_path, {0: lambda _: [-1, -0.5]}, min_cosine=0.0).round(1)
    assert outcome.rejected_kinds == {0: "opposed"}
    assert outcome.tensors["generator.w"] == pytest.approx(weighted([1, 2, 3, 4]))


def test_screening_that_leaves_too_few_ends_the_round(tmp_path: Path) -> None:
    federation = Federation(tmp_path, {0: lambda _: [50, 0]}, max_norm_ratio=10.0, min_fit_clients=5)
    with pytest.raises(FederationError, match=r"4 valid updates, min-fit-clients is 5 \(client 0: its step is 50"):
        federation.round(1)


def test_a_replay_is_left_out_also_after_a_restart_of_the_server(tmp_path: Path) -> None:
    federation = Federation(tmp_path, {})
    federation.replaying = 2
    rows = [row_of(1, federation.round(1))]
    assert rows[0].rejected_kinds == {}
    second = federation.round(2)
    rows.append(row_of(2, second))
    assert second.rejected == {2: "sent the very update of an earlier round"}
    federation.strategy = federation.new_strategy(rows)
    assert federation.round(3).rejected_kinds == {2: "replayed"}
    federation.strategy = federation.new_strategy()  # without the history nobody can know
    assert federation.round(3).rejected_kinds == {}


def test_sites_that_move_nothing_any_more_are_no_replays(tmp_path: Path) -> None:
    federation = Federation(tmp_path, {}, max_norm_ratio=5.0)
    federation.are_still = True
    assert [federation.round(number).rejected for number in (1, 2, 3)] == [{}] * 3
    federation.are_still = False
    federation.replaying = 2  # with weights that are no longer the global ones
    assert [federation.round(number).rejected_kinds for number in (4, 5)] == [{}, {2: "replayed"}]


@pytest.mark.parametrize("rule", ["median", "trimmed-mean"])
def test_coordinates_are_aggregated_without_their_extremes_and_weights(tmp_path: Path, rule: str) -> None:
    outcome = Federation(tmp_path, {4: lambda _: [-1e6, 1e6]}, aggregation=rule).round(1)
    first = {"median": 1.1, "trimmed-mean": (1.0 + 1.1 + 1.2) / 3}[rule]  # of -1e6, 1, 1.1, 1.2, 1.3
    assert outcome.tensors["generator.w"] == pytest.approx([first, 0.51])
    assert outcome.tensors[ROWS][:, 0].tolist() == [1, 2, 3, 4, 5]  # every row has one owner
    assert outcome.rejected == {}


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "krum"])
def test_under_a_robust_rule_one_site_alone_does_not_move_the_loss_that_stops_a_run(tmp_path: Path, rule: str) -> None:
    outcome = Federation(tmp_path, {}, boasting=3, aggregation=rule).round(1)
    assert outcome.metrics["loss_generator"] == 1.0
    assert outcome.clients[3]["loss_generator"] == 7.0  # what it said is kept
    assert "loss_discriminator" not in outcome.metrics  # which nobody told


def test_krum_takes_one_of_the_near_ones_whole(tmp_path: Path) -> None:
    outcome = Federation(tmp_path, {1: lambda _: [-40, 3]}, aggregation="krum").round(1)
    # n = 5, f = 1: two nearest of 1.0, 1.2, 1.3, 1.4 in the first coordinate: 0.1 + 0.1 for 1.3
    assert outcome.tensors["generator.w"] == pytest.approx([1.3, 0.51])
    assert outcome.tensors[ROWS][:, 0].tolist() == [1, 2, 3, 4, 5]


def test_a_site_is_not_asked_while_in_quarantine_and_then_asked_again(tmp_path: Path) -> None:
    limits: dict[str, Scalar] = {"max_norm_ratio": 10.0, "quarantine_after": 2, "quarantine_rounds": 3}
    federation = Federation(tmp_path, {3: lambda number: [50 + number, 0] if number < 3 else [1, 1]}, **limits)
    kinds = [federation.round(number).rejected_kinds for number in range(1, 7)]
    assert kinds == [{3: "too-long"}] * 2 + [{3: "quarantined"}] * 3 + [{}]
    everyone, others = [0, 1, 2, 3, 4], [0, 1, 2, 4]
    assert federation.asked == [everyone] * 2 + [others] * 3 + [everyone]


def test_quarantine_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    limits: dict[str, Scalar] = {"max_norm_ratio": 10.0, "quarantine_after": 2, "quarantine_rounds": 3}
    federation = Federation(tmp_path, {3: lambda number: [50 + number, 0]}, **limits)
    rows = [row_of(number, federation.round(number)) for number in (1, 2)]
    federation.strategy = federation.new_strategy(rows)
    assert federation.round(3).rejected[3].startswith("in quarantine until the end of round 5, after 2 updates")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aggregation": "mode"}, "aggregation: got 'mode', wanted one of mean, median, trimmed-mean, krum"),
        (
            {"aggregation": "krum", "min-fit-clients": 2},
            "min-fit-clients: got 2, wanted at least 3 with aggregation krum",
        ),
        ({"max-norm-ratio": 0.5}, "max-norm-ratio: got 0.5, wanted 0, or more than 1"),
        ({"max-weight-ratio": 0.5}, "max-weight-ratio: got 0.5, wanted 0, or at least 1"),
        ({"min-cosine": -1.5}, "min-cosine: got -1.5, wanted -1 to 1"),
        ({"aggregation": "median", "secure-aggregation": True}, "aggregation: got 'median', wanted mean with secure"),
        ({"min-cosine": -0.2, "secure-aggregation": True}, "min-cosine: got -0.2, wanted -1 with secure-aggregation"),
        ({"max-loss-deviation": 9.0, "secure-aggregation": True}, "max-loss-deviation: got 9.0, wanted 0 with secure"),
        (
            {"max-loss-deviation": 9.0, "tau": 0.0, "dp-clip-norm": 1.0, "dp-noise-multiplier": 1.0},
            "max-loss-deviation: got 9.0, wanted 0 with dp-noise-multiplier",
        ),
    ],
)
def test_defences_that_cannot_hold_are_refused(changes: dict[str, Scalar], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings.from_flat(changes)
