"""The loop and what it calls after a round, on small runs in this process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from federation.settings import Settings
from model.checkpoint import Checkpoint, load_checkpoint, round_folders, round_number_of, save_checkpoint
from model.networks.bundle import NamedArrays
from server.rounds import hooks
from server.rounds.centralized import train_centralized
from server.rounds.loop import RoundLoop, RoundOutcome
from server.rounds.stopping import MAX_DISCARDED, NoProgressError
from server.run_folder.folder import RunFolder
from server.run_folder.history import RoundRow, append_row, read_history
from server.run_folder.life import running
from server.run_folder.live_status import Live, Phase
from server.run_folder.result import RunResult, RunState
from tests.server.rounds.test_privacy_ledger import STATE
from tests.support.federated_setup import GLR, minimal_settings, write_dataset
from tests.support.rows import round_row
from tests.support.shards import write_random_shard


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return minimal_settings(write_dataset(tmp_path / "dataset", 2), tmp_path / "run", 2)


class Losses:
    """A kind of round that trains nothing and has these losses; None is a discarded round."""

    def __init__(self, *losses: float | None) -> None:
        self._losses = losses

    def train(self, round_number: int, tensors: NamedArrays) -> RoundOutcome:
        loss = self._losses[round_number - 1]
        metrics = {} if loss is None else {"loss_generator": loss}
        return RoundOutcome(tensors=dict(tensors), metrics=metrics, discarded="" if loss is not None else "no sum")


class Noting:
    """A hook that notes what it is given, and adds its name to the row."""

    def __init__(self, name: str, seen: list[tuple[str, int, int, list[str]]]) -> None:
        self._name, self._seen = name, seen

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        self._seen.append((self._name, row.round, state.round, list(row.server)))
        return replace(row, server={**row.server, self._name: 1.0})


def test_hooks_are_called_in_order_and_each_gets_the_row_of_the_one_before(settings: Settings) -> None:
    seen: list[tuple[str, int, int, list[str]]] = []
    with running(settings) as run:
        start = replace(STATE, round=0)
        stop = RoundLoop(run, start, Losses(2.0, 1.0), [Noting("a", seen), Noting("b", seen)]).run()
    assert seen == [("a", 1, 1, []), ("b", 1, 1, ["a"]), ("a", 2, 2, []), ("b", 2, 2, ["a"])]
    assert stop.kind == "max-rounds"


def test_a_run_does_not_stop_or_name_its_best_round_by_a_loss_of_fewer_terms(settings: Settings) -> None:
    late = settings.replaced(GLR | {"local-steps": 2, "adversarial-from-step": 3, "variance-window": 2, "tau": 0.1})
    rows: list[RoundRow] = []
    with running(late.replaced({"max-rounds": 9})) as run:
        hooks_of_run = hooks.hooks_of(run, rows.append)
        stop = RoundLoop(run, replace(STATE, round=0), Losses(1.0, 1.0, 9.0, 8.9), hooks_of_run).run()
    assert (stop.kind, len(rows)) == ("variance", 4)
    assert [row.variance_loss_generator is None for row in rows] == [True, True, True, False]
    assert [row.rounds_until_stop_possible for row in rows] == [3, 2, 1, 0]
    assert json.loads((run.folder.path / "best.json").read_text())["round"] == 4


class Counting:
    """A kind of round after which every value is the round's number."""

    def train(self, round_number: int, tensors: NamedArrays) -> RoundOutcome:
        arrays = {name: np.full_like(array, round_number) for name, array in tensors.items()}
        return RoundOutcome(tensors=arrays, metrics={"loss_generator": 1.0})


@pytest.mark.parametrize(
    ("decay", "averages"),
    [
        (0.3, [1.0, 0.25 * 1 + 0.75 * 2, 0.3 * 1.75 + 0.7 * 3]),  # 3 / 12, then 4 / 13 is more than 0.3
        (0.9, [1.0, 1.75, (4 * 1.75 + 9 * 3) / 13]),
    ],
)
def test_the_average_over_rounds_reaches_back_less_far_in_the_first_ones(
    settings: Settings, decay: float, averages: list[float]
) -> None:
    found: list[float] = []

    class Noted:
        def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
            found.extend({float(array.flat[0]) for array in state.ema_tensors.values()})
            return row

    with running(settings.replaced({"max-rounds": 3, "server-ema-decay": decay})) as run:
        start = replace(STATE, round=0, tensors={"generator.w": np.zeros(2, np.float32)})
        RoundLoop(run, start, Counting(), [Noted()]).run()
    assert found == pytest.approx(averages, abs=1e-6)


def test_names_that_are_told_during_a_run_are_in_its_state_and_stay(settings: Settings) -> None:
    told = iter([["ada", "identity-1"], ["ada", "bea"], ["eve", "identity-1"]])
    start = replace(STATE, round=0, identities=["identity-0", "identity-1"])
    with running(settings.replaced({"max-rounds": 3})) as run:
        loop = RoundLoop(run, start, Losses(3.0, 2.0, 1.0), [], names=lambda: next(told))
        loop.run()
    assert loop.state.identities == ["ada", "bea"]


def test_rounds_that_give_nothing_end_the_run_and_one_that_does_starts_the_count_anew(settings: Settings) -> None:
    longer = settings.replaced({"max-rounds": 100})
    rows: list[RoundRow] = []
    losses = [None] * (MAX_DISCARDED - 1) + [1.0] + [None] * MAX_DISCARDED
    told = hooks.Told(rows.append)
    words = f"the last {MAX_DISCARDED} rounds had no usable secure sum"
    with pytest.raises(NoProgressError, match=words), running(longer) as run:
        RoundLoop(run, replace(STATE, round=0), Losses(*losses), [told]).run()
    assert len(rows) == len(losses)
    assert rows[MAX_DISCARDED - 1].rounds_until_stop_possible == longer.rounds.variance_window - 1


def test_a_resume_after_too_many_discarded_rounds_has_as_many_anew(settings: Settings) -> None:
    """The site that poisoned the sums may be mended; nobody knows before a round is trained."""
    before = [None] * MAX_DISCARDED
    with running(settings.replaced({"max-rounds": MAX_DISCARDED + 2})) as run:
        for number in range(1, MAX_DISCARDED + 1):
            append_row(run.folder.path, round_row(number, discarded="no sum"))
        RoundLoop(run, replace(STATE, round=MAX_DISCARDED), Losses(*before, 2.0, 1.0), []).run()
    rows: list[RoundRow] = []
    with (
        running(settings.replaced({"max-rounds": 100, "output-dir": str(run.folder.path / "other")})) as other,
        pytest.raises(NoProgressError, match="no usable secure sum"),
    ):
        state = replace(STATE, round=MAX_DISCARDED)
        RoundLoop(other, state, Losses(*before, *before), [hooks.Told(rows.append)]).run()
    assert len(rows) == MAX_DISCARDED


def test_a_round_whose_checkpoint_was_not_written_is_trained_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of the history is written first: a resume drops it, and no checkpoint is without its line."""
    save = hooks.save_checkpoint

    def dies(folder: Path, state: Checkpoint) -> object:
        if state.round == 2:
            raise MemoryError("killed")
        return save(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr(hooks, "save_checkpoint", dies)
        with pytest.raises(MemoryError):
            train_centralized(settings)
    assert [row.round for row in read_history(tmp_path / "run")] == [1, 2]
    assert load_checkpoint(tmp_path / "run").round == 1
    folder, checkpoint = RunFolder.open(settings.replaced({"resume": True}))
    with folder:
        assert checkpoint is not None and checkpoint.round == 1
        assert [row.round for row in read_history(tmp_path / "run")] == [1]


def test_a_run_that_went_on_from_before_damaged_checkpoints_keeps_its_own_and_drops_those(tmp_path: Path) -> None:
    """Rounds 8 and 9 cannot be read: the run went on after round 4, the best of those that are left."""
    for number in (4, 8, 9):
        save_checkpoint(tmp_path, replace(STATE, round=number))
    for number in range(1, 5):
        append_row(tmp_path, round_row(number, loss_generator=5.0 - number))
    hook = hooks.Checkpoints(tmp_path, num_kept=2)
    for number in (5, 6, 7):
        row = round_row(number, loss_generator=9.0)
        append_row(tmp_path, row)
        hook.after_round(row, replace(STATE, round=number))
        assert round_number_of(round_folders(tmp_path)[-1]) == number
    assert [round_number_of(folder) for folder in round_folders(tmp_path)] == [4, 6, 7]


def test_centralized_training_says_what_it_does_and_is_measured(settings: Settings, tmp_path: Path) -> None:
    write_random_shard(tmp_path / "eval", "person-0", num_frames=60, seed=9)
    phases: list[tuple[Phase, int]] = []

    def look(row: RoundRow) -> None:
        live = Live.read(tmp_path / "run")
        assert live is not None
        phases.append((live.phase, live.round))

    train_centralized(settings.replaced({"eval-data-dir": str(tmp_path / "eval")}), look)
    look(round_row())
    assert phases == [(Phase.TRAINING, 1), (Phase.TRAINING, 2), (Phase.ENDED, 2)]
    rows = read_history(tmp_path / "run")
    assert all({"ssim", "copy_source_ssim"} <= row.evaluation.keys() for row in rows)
    result = RunResult.read(tmp_path / "run")
    assert result is not None and result.state is RunState.COMPLETED
    assert set(rows[0].clients) == {0} and "seconds" not in rows[0].clients[0]
