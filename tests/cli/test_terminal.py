from __future__ import annotations

from dataclasses import replace

from cli.terminal import round_line
from tests.support.rows import round_row

ROW = round_row(
    7,
    loss_generator=2.5,
    loss_discriminator=1.25,
    variance_loss_generator=0.04,
    seconds=12.3,
    clients={0: {"loss_generator": 2.0}, 1: {"loss_generator": 3.0}},
)


def test_a_round_in_one_line() -> None:
    assert round_line(ROW) == "round 7 | L_G 2.500 | L_D 1.250 | [dim]0:2.00 1:3.00[/] | Var(L_G) 0.04, tau 3 | 12 s"


def test_beside_the_discriminators_loss_stands_what_they_rank_right() -> None:
    line = round_line(replace(ROW, metrics={"ranking_image": 0.914, "ranking_landmarks": 0.5, "l1_image": 0.1}))
    assert line.startswith("round 7 | L_G 2.500 | L_D 1.250 (ranked image 0.91, landmarks 0.50) | ")


def test_sites_left_out_and_the_stop_are_in_it() -> None:
    line = round_line(replace(ROW, rejected={3: "sent [red] NaN"}, stop="variance"))
    assert line.endswith("12 s | [yellow]left out 3: sent \\[red] NaN[/] | [bold]stopped by variance[/]")


def test_a_secure_round_has_no_losses_of_sites() -> None:
    line = round_line(replace(ROW, clients={0: {"seconds": 1.0}}, variance_loss_generator=None))
    assert line == "round 7 | L_G 2.500 | L_D 1.250 | Var(L_G) too early | 12 s"


def test_a_private_round_has_no_losses_at_all_and_says_what_is_spent() -> None:
    row = replace(ROW, metrics={"dp_epsilon": 1.061, "dp_delta": 1e-5}, clients={0: {"seconds": 1.0}})
    line = round_line(replace(row, loss_generator=None, loss_discriminator=None, tau=0.0))
    assert line == (
        "round 7 | losses stay at the sites | Var(L_G) 0.04, tau 0 | 12 s | epsilon 1.06, delta 1e-05 a person"
    )
