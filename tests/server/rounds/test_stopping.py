from __future__ import annotations

import pytest

from federation.settings import Settings
from model.setting import Scalar
from server.rounds.stopping import StoppingRule, first_whole_round

THESIS = StoppingRule(tau=3.0, window=5, max_rounds=100)


def test_variance_is_that_of_the_population_over_the_last_window() -> None:
    assert THESIS.variance([100.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == 2.0  # mean 3; (4 + 1 + 0 + 1 + 4) / 5


def test_variance_needs_a_full_window() -> None:
    assert THESIS.variance([1.0, 1.0, 1.0, 1.0]) is None


def test_training_goes_on_for_the_first_rounds_however_small_the_variance() -> None:
    assert [THESIS.decide(n, [1.0] * n) is None for n in range(1, 6)] == [True, True, True, True, False]


def test_training_stops_when_the_variance_is_below_tau_and_says_so() -> None:
    decision = THESIS.decide(6, [9.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert decision is not None
    assert decision.kind == "variance"
    assert decision.reason == "Var(L_G) over the last 5 rounds is 2, below tau = 3"


def test_training_goes_on_when_the_variance_equals_tau() -> None:
    rule = StoppingRule(tau=2.0, window=5, max_rounds=100)
    assert rule.decide(5, [1.0, 2.0, 3.0, 4.0, 5.0]) is None


def test_tau_zero_never_stops_early() -> None:
    rule = StoppingRule(tau=0.0, window=5, max_rounds=8)
    assert [rule.decide(n, [1.0] * n) is None for n in range(1, 8)] == [True] * 7
    decision = rule.decide(8, [1.0] * 8)
    assert decision is not None
    assert decision.kind == "max-rounds"
    assert "round 8" in decision.reason


@pytest.mark.parametrize("num_rounds", [1, 4])
def test_max_rounds_holds_before_the_window_is_full(num_rounds: int) -> None:
    rule = StoppingRule(tau=3.0, window=5, max_rounds=num_rounds)
    decision = rule.decide(num_rounds, [1.0] * num_rounds)
    assert decision is not None
    assert decision.kind == "max-rounds"


SCHEDULE: dict[str, Scalar] = {
    "local-steps": 100,
    "adversarial-from-step": 100,
    "adversarial-lead-steps": 300,
    "adversarial-ramp-steps": 50,
}


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, 1),
        ({"flow-warmup-steps": 100}, 2),
        ({"flow-warmup-steps": 101}, 3),
        (SCHEDULE, 6),  # round 5 begins at step 400, with terms that still grow
        (SCHEDULE | {"local-steps": 450}, 2),
        (SCHEDULE | {"weight-adversarial": 0.0, "weight-lgan-adversarial": 0.0}, 6),  # feature matching joins as late
        (SCHEDULE | {f"weight-{n}": 0.0 for n in ("adversarial", "lgan-adversarial", "feature-matching")}, 1),
        (SCHEDULE | {"network": "x2face"}, 1),  # has no such terms
    ],
)
def test_l_g_is_whole_from_the_round_that_begins_with_all_terms_fully_grown(
    changes: dict[str, Scalar], first: int
) -> None:
    assert first_whole_round(Settings.from_flat(changes)) == first


def test_rounds_before_l_g_is_whole_do_not_enter_the_variance() -> None:
    rule = StoppingRule(tau=1.0, window=2, max_rounds=100, first_round=4)
    window: list[float] = []
    left = []
    for number, loss in enumerate([3.0, 3.0, 3.0, 9.0, 9.0], 1):
        window = rule.counted(number, [*window, loss])
        left.append(rule.rounds_left(number, window))
        assert (rule.decide(number, window) is None) == (number < 5)
    assert window == [9.0, 9.0]
    assert left == [4, 3, 2, 1, 0]
    assert rule.counted(4, [3.0, 3.0, 9.0]) == [9.0]  # of a checkpoint that has earlier ones too
