"""Rows of a history, of which a test says only what it is about."""

from __future__ import annotations

from typing import Any

from server.run_folder.history import RoundRow


def round_row(number: int = 1, **values: Any) -> RoundRow:
    """The row of a round of 12 s without sites and without losses, but for `values`."""
    plain: dict[str, Any] = {
        "loss_generator": None,
        "loss_discriminator": None,
        "variance_loss_generator": None,
        "tau": 3.0,
        "seconds": 12.0,
        "metrics": {},
        "clients": {},
        "rejected": {},
        "stop": None,
    }
    return RoundRow(round=number, **plain | values)
