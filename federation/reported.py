"""Names of the numbers that a site reports of a round; sites and server hold to this one list."""

from __future__ import annotations

from federation.privacy_accountant import MU, RELEASES
from federation.resources import RESOURCES
from federation.settings import Settings
from model.designs.registry import design_of

OPERATIONS = ("seconds", "num_steps", "has_moments", "refused_tasks", *RESOURCES)
"""Numbers about a round or a site that say how the work went. Whether a training failed shows in all but the tasks that
the site has refused, so under noise the others stay at the site."""


def reported_scalars(settings: Settings) -> frozenset[str]:
    """Names of the numbers that the replies of a round may have in clear.

    Losses leave inside the masked update under secure aggregation. Under differential privacy nothing leaves that
    depends on how the training went, and what is spent does.
    """
    if settings.privacy.dp_noise_multiplier:
        return frozenset({RELEASES, MU, "refused_tasks"})
    losses = () if settings.privacy.secure_aggregation else design_of(settings.model.network).reported()
    return frozenset({*OPERATIONS, *losses})


def largest(name: str) -> float:
    """What the server takes such a number for at most: losses to a million, seconds and bytes to 2^53."""
    return 2.0**53 if name in (*OPERATIONS, RELEASES, MU) else 1e6
