from __future__ import annotations

import numpy as np
import pytest

from federation.settings import Settings
from model.setting import Scalar
from server.updates.reply import Rejection
from server.updates.screening import Finding, compare, weights

OFF: dict[str, Scalar] = {"max-norm-ratio": 0.0, "min-cosine": -1.0, "max-loss-deviation": 0.0}


def screened(
    steps: list[list[float]],
    losses: list[tuple[float, float]] | None = None,
    num_steps: list[int | None] | None = None,
    **limits: Scalar,
) -> list[Finding]:
    """Clients 10, 11, ... took these steps; of 100 local steps they say they made so many, or say nothing."""
    config = Settings.from_flat(OFF | {name.replace("_", "-"): limit for name, limit in limits.items()}).defence
    steps_nd = np.array(steps, np.float64)
    clients = [10 + index for index in range(len(steps))]
    metrics = {
        client: {"loss_generator": generator, "loss_discriminator": discriminator}
        for client, (generator, discriminator) in zip(clients, losses or [(1.0, 1.0)] * len(clients), strict=True)
    }
    for client, number in zip(clients, num_steps or [], strict=num_steps is not None):
        metrics[client] |= {} if number is None else {"num_steps": float(number)}
    return compare(clients, steps_nd @ steps_nd.T, metrics, config, 100)


def found(findings: list[Finding]) -> dict[int, Rejection]:
    return {finding.client: finding.kind for finding in findings}


def test_nothing_is_found_with_all_limits_off() -> None:
    assert screened([[1, 0], [-1, 0], [1e9, 1e9]], [(1, 1), (1, 1), (1e9, -1e9)]) == []


def test_a_step_longer_than_the_limit_is_named_with_its_length() -> None:
    findings = screened([[3, 4], [0, 4], [5, 0], [51, 0], [0, -3]], max_norm_ratio=10.0)
    assert found(findings) == {13: Rejection.TOO_LONG}
    assert findings[0].reason == "its step is 51 long, the median is 5; max-norm-ratio is 10"


def test_a_step_as_long_as_the_limit_stays() -> None:
    assert screened([[1, 0], [0, 1], [10, 0]], max_norm_ratio=10.0) == []


def test_two_long_steps_of_five_go_both() -> None:
    assert found(screened([[1, 0], [99, 0], [0, 1], [0, -88], [1, 0]], max_norm_ratio=10.0)).keys() == {11, 13}


def test_two_updates_are_not_compared() -> None:
    limits: dict[str, Scalar] = {"max_norm_ratio": 2.0, "min_cosine": 0.0, "max_loss_deviation": 1.0}
    assert screened([[1, 0], [-99, 0]], [(1, 1), (50, 1)], **limits) == []


def test_no_step_at_all_is_no_offence() -> None:
    assert screened([[0, 0], [0, 0], [0, 0]], max_norm_ratio=2.0, min_cosine=-0.5) == []


def test_a_site_that_still_moves_among_those_that_do_not_is_not_too_long() -> None:
    assert screened([[0, 0], [0, 0], [0, 0], [1e-9, 0]], max_norm_ratio=5.0) == []


def test_quick_sites_are_not_too_long_beside_those_whose_time_was_over() -> None:
    """Lengths measured with Adam after 100 and after 5 steps."""
    steps: list[list[float]] = [[9, 0], [0, 8], [1, 0], [0, 1], [1, 0]]
    made = [100, 100, 5, 5, 5]
    assert screened(steps, num_steps=list(made), max_norm_ratio=5.0) == []
    assert found(screened(steps, max_norm_ratio=5.0)).keys() == {10, 11}  # they do not say what they made
    findings = screened([[99, 0], *steps[1:]], num_steps=list(made), max_norm_ratio=5.0)
    assert found(findings) == {10: Rejection.TOO_LONG}
    assert findings[0].reason.startswith("its step is 99 long, the median is 4.472 (both as for all local-steps); max")


def test_nobody_may_go_further_by_saying_that_it_made_more_steps_than_asked_for() -> None:
    steps: list[list[float]] = [[6, 0], [0, 1], [1, 0], [0, 1]]
    assert found(screened(steps, num_steps=[10_000, 100, 100, 100], max_norm_ratio=5.0)) == {10: Rejection.TOO_LONG}
    assert found(screened(steps, num_steps=[None, 100, 100, 100], max_norm_ratio=5.0)) == {10: Rejection.TOO_LONG}
    assert found(screened(steps, num_steps=[0, 0, 0, 0], max_norm_ratio=5.0)) == {10: Rejection.TOO_LONG}


def test_a_flipped_step_is_opposed_and_the_others_stay() -> None:
    findings = screened([[1, 0.1], [1, -0.1], [-1, 0], [1, 0]], min_cosine=-0.2)
    assert found(findings) == {12: Rejection.OPPOSED}
    assert findings[0].reason == "its step's cosine to the others' direction is -1.00; min-cosine is -0.2"


def test_cosine_by_hand() -> None:
    """(0, 1) against the sum of (1, 0) and (3, -4) / 5 = (1.6, -0.8): cosine -0.8 / sqrt(3.2) = -0.447."""
    steps: list[list[float]] = [[0, 1], [7, 0], [30, -40]]
    assert found(screened(steps, min_cosine=-0.44)) == {10: Rejection.OPPOSED}
    assert screened(steps, min_cosine=-0.45) == []


def test_of_hundreds_of_steps_the_flipped_ones_go() -> None:
    rng = np.random.default_rng(0)
    steps_nd = rng.standard_normal(50) + 0.5 * rng.standard_normal((300, 50))
    steps_nd[[7, 250]] *= -1
    assert found(screened(steps_nd.tolist(), min_cosine=-0.5)).keys() == {17, 260}


def test_steps_that_cancel_but_for_rounding_have_no_direction() -> None:
    turned_dd = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    pairs_nd = np.repeat(turned_dd, 2, axis=0)
    pairs_nd[1::2] *= -1  # nothing is left of their sum but 1e-16
    findings = screened([*pairs_nd.tolist(), (-turned_dd[0]).tolist()], min_cosine=-0.5)
    assert 90 not in found(findings)


def test_a_long_flipped_step_does_not_make_the_others_opposed() -> None:
    assert found(screened([[1, 0], [1, 0], [-1e6, 0], [1, 0]], min_cosine=-0.2)) == {12: Rejection.OPPOSED}


@pytest.mark.parametrize(("which", "symbol"), [(0, "L_G"), (1, "L_D")])
def test_a_loss_out_of_range_is_named(which: int, symbol: str) -> None:
    losses = [[1.0, 1.0] for _ in range(5)]
    for index, value in enumerate((1.0, 1.2, 0.8, 3.0, 1.1)):
        losses[index][which] = value
    findings = screened([[1, 0]] * 5, [(a, b) for a, b in losses], max_loss_deviation=5.0)
    assert found(findings) == {13: Rejection.OUTLYING_LOSS}
    # others 0.8, 1.0, 1.1, 1.2: median 1.05, deviations .05 .05 .15 .25: 1.4826 * 0.1
    assert findings[0].reason.startswith(f"its {symbol} is 3, the others' median is 1.05, their spread 0.148;")


def test_sites_that_agree_by_chance_do_not_make_another_one_odd() -> None:
    losses = [(1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.4, 1.0)]
    assert screened([[1, 0]] * 4, losses, max_loss_deviation=10.0) == []
    assert found(screened([[1, 0]] * 4, losses, max_loss_deviation=7.0)) == {13: Rejection.OUTLYING_LOSS}


def test_a_loss_whose_training_has_not_begun_is_not_compared() -> None:
    losses = [(1.0, 0.0), (1.0, 1.4), (1.0, 1.4), (1.0, 1.4)]
    assert screened([[1, 0]] * 4, losses, max_loss_deviation=1.0) == []
    assert screened([[1, 0]] * 4, [(1.0, 1.4), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)], max_loss_deviation=1.0) == []


def test_frames_count_up_to_the_limit_times_the_median() -> None:
    assert weights({0: 10, 1: 20, 2: 30, 3: 10**9}, 2.0) == {0: 10, 1: 20, 2: 30, 3: 50}
    assert weights({0: 10, 1: 20, 2: 30, 3: 61}, 2.5) == {0: 10, 1: 20, 2: 30, 3: 61}
    assert weights({0: 1, 1: 1, 2: 9}, 1.5) == {0: 1, 1: 1, 2: 1}


def test_frames_of_two_sites_or_without_a_limit_count_as_they_are() -> None:
    assert weights({0: 1, 1: 999}, 2.0) == {0: 1, 1: 999}
    assert weights({0: 1, 1: 2, 2: 999}, 0.0) == {0: 1, 1: 2, 2: 999}
