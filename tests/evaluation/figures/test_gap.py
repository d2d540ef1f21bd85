from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.figures.gap import Evaluated, PairValues, gap_table, gaps, read_pair_values, relative_gap
from evaluation.figures.pooling import Pooling
from model.errors import DataError

HEADER = "protocol,source_identity,source_file,driving_identity,driving_file,method"


def _write(folder: Path, csim: list[float | str], prmse: list[float | str]) -> Path:
    folder.mkdir()
    lines = [f'{HEADER},CSIM (SFace),"PRMSE, degrees (MediaPipe)",source_face']
    for index, (a, b) in enumerate(zip(csim, prmse, strict=True)):
        lines.append(f"cross,ana,{index}.jpg,ben,{index}.jpg,model,{a},{b},1")
        lines.append(f"cross,ana,{index}.jpg,ben,{index}.jpg,copy-source,1,9,1")
    (folder / "per-pair.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_gap_is_relative_to_the_first_model_over_pairs_that_both_define(tmp_path: Path) -> None:
    first = read_pair_values(_write(tmp_path / "c", [0.8, 0.6, 0.5], [3.0, 4.0, 5.0]))
    second = read_pair_values(_write(tmp_path / "f", [0.4, 0.6, ""], [6.0, 8.0, 10.0]))
    csim, prmse = gaps([first], [second], seed=0)
    assert (csim.name, csim.num_pairs) == ("CSIM (SFace)", 2)
    assert csim.relative == pytest.approx((0.7 - 0.5) / 0.7)
    assert prmse.first == pytest.approx(np.sqrt((9 + 16 + 25) / 3))  # root of the mean of squares
    assert prmse.relative == pytest.approx(-1.0)
    assert (prmse.low, prmse.high) == pytest.approx((-1.0, -1.0))  # resampled together
    assert gap_table([csim, prmse]).rows[1][4].startswith("-100.0 %")


def test_interval_covers_no_gap_where_models_differ_by_chance_only() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(1.0, 0.2, 400)
    first, second = base[None, None], rng.permutation(base)[None, None]
    _, _, relative, low, high = relative_gap(first, second, pooling=Pooling.MEAN, seed=0)
    assert relative == pytest.approx(0.0, abs=1e-9)
    assert low < 0 < high


def _scores(values: Sequence[float] | NDArray[np.float64], pairs_a_second: int = 0) -> Evaluated:
    """Of as many pairs; 0: the evaluation does not say of which second they are."""
    return {
        ("cross", "ana", str(n), "ben", str(n)): PairValues(
            {"CSIM (SFace)": (float(x),)}, ("ben", "clip", str(n // pairs_a_second)) if pairs_a_second else None
        )
        for n, x in enumerate(values)
    }


def test_seeds_that_measure_the_same_give_the_interval_of_one_of_them() -> None:
    rng = np.random.default_rng(0)
    first, second = _scores(rng.normal(1.0, 0.2, 60)), _scores(rng.normal(0.9, 0.2, 60))
    (one,) = gaps([first], [second], seed=0)
    (three,) = gaps([first] * 3, [second] * 3, seed=0)
    assert (one.num_pairs, three.num_pairs) == (60, 60)
    assert (three.relative, three.low, three.high) == pytest.approx((one.relative, one.low, one.high))


def test_interval_over_pairs_is_near_that_of_normal_theory() -> None:
    rng = np.random.default_rng(0)
    loss = rng.normal(0.1, 0.2, 400)  # of every pair, for a first model that scores 1 on all: the gap is its mean
    (gap,) = gaps([_scores(np.ones(400))] * 3, [_scores(1 - loss)] * 3, seed=0)
    half = 1.96 * loss.std() / np.sqrt(400)
    assert (gap.low, gap.high) == pytest.approx((loss.mean() - half, loss.mean() + half), abs=0.003)


def test_pairs_of_one_second_are_resampled_together() -> None:
    rng = np.random.default_rng(0)
    loss = rng.normal(0.1, 0.2, 100)
    by_frame, ones = np.repeat(loss, 25), np.ones(2500)  # neighbouring frames score alike
    (gap,) = gaps([_scores(ones, 25)], [_scores(1 - by_frame, 25)], seed=0)
    half = 1.96 * loss.std() / np.sqrt(100)
    assert (gap.low, gap.high) == pytest.approx((loss.mean() - half, loss.mean() + half), abs=0.006)
    assert gap.num_pairs == 2500
    (older,) = gaps([_scores(ones, 25)], [_scores(1 - by_frame)], seed=0)  # one of both says it
    assert older == gap


def test_pairs_of_one_second_alone_have_no_interval() -> None:
    (gap,) = gaps([_scores([1.0, 0.5], 2)], [_scores([0.5, 0.4], 2)], seed=0)
    assert np.isnan([gap.low, gap.high]).all()
    assert gap_table([gap]).rows[0][4] == "+40.0 %"


def test_seconds_are_read_where_an_evaluation_wrote_them(tmp_path: Path) -> None:
    columns = "protocol,source_identity,source_file,driving_identity,driving_file,driving_clip,driving_second,method"
    path = tmp_path / "per-pair.csv"
    path.write_text(f"{columns},CSIM (SFace)\ncross,ana,0.jpg,ben,60.jpg,a,2,model,0.5\n")
    assert read_pair_values(tmp_path) == {
        ("cross", "ana", "0.jpg", "ben", "60.jpg"): PairValues({"CSIM (SFace)": (0.5,)}, ("ben", "a", "2"))
    }
    folder = _write(tmp_path / "older", [0.8], [3.0])
    assert [found.second for found in read_pair_values(folder).values()] == [None]


def test_seeds_that_differ_widen_the_interval_to_what_trainings_vary() -> None:
    # Equal pairs: nothing varies but the seeds. Both draws are of the better, or of the worse, once in four each.
    seeds = [_scores([1.0 - loss] * 50) for loss in (0.1, 0.3)]
    (gap,) = gaps([_scores([1.0] * 50)] * 2, seeds, seed=0)
    assert (gap.relative, gap.low, gap.high) == pytest.approx((0.2, 0.1, 0.3))


def test_a_pair_counts_under_the_seeds_that_define_it() -> None:
    first, second = _scores([1.0, 0.5]), _scores([0.5, 0.5])
    (gap,) = gaps([first, first], [second, _scores([0.5])], seed=0)
    assert (gap.first, gap.second, gap.num_pairs) == pytest.approx(((1 + 0.5 + 1) / 3, 0.5, 2))


def test_evaluations_of_other_pairs_are_refused_with_what_to_do(tmp_path: Path) -> None:
    first = read_pair_values(_write(tmp_path / "c", [0.8], [3.0]))
    other = {("cross", "eve", "0.jpg", "ben", "0.jpg"): PairValues({"CSIM (SFace)": (0.5,)})}
    with pytest.raises(DataError, match="--pairs of the first"):
        gaps([first], [other], seed=0)
    with pytest.raises(DataError, match=r"per-pair\.csv"):
        read_pair_values(tmp_path / "nowhere")


def test_a_metric_of_two_columns_is_pooled_from_both_and_left_out_without_one(tmp_path: Path) -> None:
    name = "Lip-gap slope: {} (MediaPipe)"
    for folder, slope in (("c", 1.0), ("f", 0.5)):
        lines = [",".join([HEADER, name.format("real"), name.format("generated")])]
        lines += [f"cross,ana,{gap}.jpg,ben,{gap}.jpg,model,{gap},{0.1 + slope * gap}" for gap in (0.1, 0.2, 0.4)]
        lines += ["cross,ana,9.jpg,ben,9.jpg,model,0.9,"]
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "per-pair.csv").write_text("\n".join(lines) + "\n")
    (slope,) = gaps([read_pair_values(tmp_path / "c")], [read_pair_values(tmp_path / "f")], seed=0)
    assert (slope.name, slope.num_pairs) == ("Lip-gap slope (MediaPipe)", 3)
    assert (slope.first, slope.second, slope.relative) == pytest.approx((1.0, 0.5, 0.5))
