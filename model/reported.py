"""Names of the numbers that a site reports of a round; sites and server hold to this one list."""

from __future__ import annotations

from model.config import FederationConfig, LossConfig
from model.privacy import RELEASES
from model.resources import RESOURCES
from model.secure_vector import losses_of

OPERATIONS = ("seconds", "num_steps", "has_moments", "refused_tasks", *RESOURCES)
"""Numbers about a round or a site that say how the work went, and nothing about what is in the frames."""


def reported_scalars(federation: FederationConfig) -> frozenset[str]:
    """Names of the numbers that the replies of a round may have in clear.

    Losses leave inside the masked update under secure aggregation, and not at all under differential privacy.
    """
    if federation.dp_noise_multiplier:
        return frozenset({*OPERATIONS, RELEASES})
    losses = () if federation.secure_aggregation else losses_of(LossConfig())
    return frozenset({*OPERATIONS, *losses})


def largest(name: str) -> float:
    """What the server takes such a number for at most: losses to a million, seconds and bytes to 2^53."""
    return 2.0**53 if name in (*OPERATIONS, RELEASES) else 1e6
