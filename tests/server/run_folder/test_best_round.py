from __future__ import annotations

import json
from pathlib import Path

from server.run_folder.best_round import BestRound, best_round
from server.run_folder.history import RoundRow
from tests.support.rows import round_row


def row(number: int, loss: float, ssim: float | None = None) -> RoundRow:
    return round_row(number, loss_generator=loss, evaluation={} if ssim is None else {"ssim": ssim})


def test_the_lowest_generator_loss_is_the_best_of_rounds_that_were_not_measured() -> None:
    history = [row(1, 3.0), row(2, 1.5), row(3, 2.0)]
    assert best_round(history, {1, 2, 3}) == BestRound(round=2, by="loss_generator", value=1.5)


def test_the_highest_ssim_is_the_best_of_measured_rounds_and_beats_every_other() -> None:
    history = [row(1, 3.0, 0.5), row(2, 2.0, 0.7), row(3, 1.0, 0.6), row(4, 0.1)]
    assert best_round(history, {1, 2, 3, 4}) == BestRound(round=2, by="ssim", value=0.7)


def test_a_low_loss_of_fewer_terms_is_not_the_best_once_there_are_all() -> None:
    history = [row(1, 0.5), row(2, 0.7), row(3, 9.0), row(4, 8.0), row(5, 8.5)]
    assert best_round(history, {1, 2, 3, 4, 5}, 3) == BestRound(round=4, by="loss_generator", value=8.0)
    measured = [row(1, 0.5, 0.9), *history[1:]]
    assert best_round(measured, {1, 2, 3, 4, 5}, 3) == BestRound(round=1, by="ssim", value=0.9)


def test_before_all_terms_are_there_the_newest_is_the_best() -> None:
    assert best_round([row(1, 0.5), row(2, 0.7)], {1, 2}, 3) == BestRound(round=2, by="round", value=2.0)


def test_the_earliest_of_equal_rounds_is_the_best() -> None:
    assert best_round([row(1, 2.0), row(2, 2.0)], {1, 2}) == BestRound(round=1, by="loss_generator", value=2.0)


def test_rounds_without_a_checkpoint_do_not_count() -> None:
    assert best_round([row(1, 1.0), row(2, 2.0)], {2}) == BestRound(round=2, by="loss_generator", value=2.0)
    assert best_round([row(1, 1.0)], set()) is None


def test_rounds_without_loss_and_measurement_are_never_the_best() -> None:
    assert best_round([round_row(1, loss_generator=None)], {1}) is None


def test_the_file_names_round_measure_and_value(tmp_path: Path) -> None:
    BestRound(round=7, by="ssim", value=0.75).write(tmp_path)
    assert json.loads((tmp_path / "best.json").read_text()) == {"round": 7, "by": "ssim", "value": 0.75}
