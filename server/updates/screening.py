"""Which updates of a round do not fit the others': too long, with losses unlike theirs, or against their direction.

What is compared is what an averaging server can see of a GAN's training: the step that a site took, and the losses L_G
and L_D that it reports. An update passes that is merely useless, and so does one made to look like the others'.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federation.settings import DefenceConfig
from server.updates.reply import Rejection

MIN_COMPARED = 3
"""Fewest updates that can be compared: of two that differ nobody can say which is wrong."""

LOSSES = {"loss_generator": "L_G", "loss_discriminator": "L_D"}
"""Names under which sites report them, and their symbols."""
_LEAST_SPREAD = 0.05
"""Of the others' losses, relative to their median: sites that agree closely by chance do not make another one odd."""

_NO_LENGTH = 1e-12
"""Of a sum of as many unit steps, squared and relative to the largest it can be: none, but for rounding."""

Metrics = Mapping[int, Mapping[str, float]]
Products = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Which update is left out and why."""

    client: int
    reason: str
    kind: Rejection


def compare(
    clients: Sequence[int], products_nn: Products, metrics: Metrics, config: DefenceConfig, local_steps: int
) -> list[Finding]:
    """The updates that do not fit the others', the worst first, until the rest fit or are fewer than `MIN_COMPARED`.

    Args:
        clients: n partition ids.
        products_nn: [n, n] inner products of their steps away from the global tensors, in the order of `clients`.
        metrics: partition id to what the site reports.
        config: `max-norm-ratio`, `max-loss-deviation` and `min-cosine`.
        local_steps: that were asked for; a site that says it made fewer is expected to have come less far.
    """
    shares = {client: _share_of_way(metrics[client], local_steps) for client in clients}
    checks: list[Callable[[Products, list[int]], Finding | None]] = []
    if config.max_norm_ratio:
        checks.append(lambda products_nn, rest: _longest(products_nn, rest, shares, config.max_norm_ratio))
    if config.max_loss_deviation:
        checks.append(lambda _, rest: _oddest(metrics, rest, config.max_loss_deviation))
    if config.min_cosine > -1:
        checks.append(lambda products_nn, rest: _most_opposed(products_nn, rest, config.min_cosine))
    found, rest = [], list(clients)
    for check in checks:
        while len(rest) >= MIN_COMPARED and (finding := check(products_nn, rest)) is not None:
            found.append(finding)
            row = rest.index(finding.client)
            products_nn = np.delete(np.delete(products_nn, row, axis=0), row, axis=1)
            del rest[row]
    return found


def weights(num_frames: Mapping[int, int], limit: float) -> dict[int, int]:
    """What each site's frames count for: its number, but not more than `limit` times the median; 0 is no limit.

    Args:
        num_frames: partition id to the number of frames, > 0. Of fewer than `MIN_COMPARED` none is limited.
        limit: `max-weight-ratio`, 0 or at least 1.
    """
    if not limit or len(num_frames) < MIN_COMPARED:
        return dict(num_frames)
    most = int(limit * statistics.median(num_frames.values()))
    return {client: min(number, most) for client, number in num_frames.items()}


def _share_of_way(metrics: Mapping[str, float], local_steps: int) -> float:
    """How far a site's step is expected to lead, of what all local steps would: 1 if it does not say how many it made.

    By the square root: steps that point every way come no further, and steps that all agree come further by less than
    `max-norm-ratio` allows, unless a site made hardly any. More steps than asked for excuse nothing.
    """
    num_steps = metrics.get("num_steps", local_steps)
    return math.sqrt(min(max(num_steps, 1), local_steps) / local_steps)


def _longest(
    products_nn: Products, clients: Sequence[int], shares: Mapping[int, float], limit: float
) -> Finding | None:
    """The longest step, if it is more than `limit` times as long as the median one; where that is no step at all, none.

    Each is divided by its share of the way. Sites stand still that have nothing left to learn: one that still moves is
    not wrong for that.
    """
    norms_n = np.sqrt(np.diag(products_nn)) / [shares[client] for client in clients]
    median, worst = float(np.median(norms_n)), int(norms_n.argmax())
    if median == 0 or norms_n[worst] <= limit * median:
        return None
    cut = any(shares[client] != 1 for client in clients)
    reason = (
        f"its step is {norms_n[worst]:.4g} long, the median is {median:.4g}"
        + (" (both as for all local-steps)" if cut else "")
        + f"; max-norm-ratio is {limit:g}"
    )
    return Finding(client=clients[worst], reason=reason, kind=Rejection.TOO_LONG)


def _oddest(metrics: Metrics, clients: Sequence[int], limit: float) -> Finding | None:
    """The loss furthest from the median of the others', if it is more than `limit` of their spreads away.

    The spread is the others' median absolute deviation, scaled to the standard deviation of a normal distribution. A
    loss of 0 is one whose training has not begun at that site, and is not compared.
    """
    worst, worst_deviation = None, limit
    for client in clients:
        for name, symbol in LOSSES.items():
            others = [value for other in clients if other != client and (value := metrics[other].get(name))]
            if not metrics[client].get(name) or len(others) < MIN_COMPARED - 1:
                continue
            median = statistics.median(others)
            spread = 1.4826 * statistics.median(abs(value - median) for value in others)
            spread = max(spread, _LEAST_SPREAD * abs(median))
            deviation = abs(metrics[client][name] - median) / spread
            if deviation > worst_deviation:
                worst_deviation = deviation
                reason = (
                    f"its {symbol} is {metrics[client][name]:.4g}, the others' median is {median:.4g}, their spread "
                    f"{spread:.3g}; max-loss-deviation is {limit:g}"
                )
                worst = Finding(client=client, reason=reason, kind=Rejection.OUTLYING_LOSS)
    return worst


def _most_opposed(products_nn: Products, clients: Sequence[int], limit: float) -> Finding | None:
    """The step that points furthest away from the others', if the cosine is below `limit`.

    The others' direction is the sum of their steps made equally long, so that a long one is not all of it.
    """
    lengths_n = np.sqrt(np.diag(products_nn))
    inverse_n = np.divide(1.0, lengths_n, out=np.zeros_like(lengths_n), where=lengths_n > 0)
    cosines_nn = products_nn * inverse_n[:, None] * inverse_n[None, :]
    own_n, to_all_n = np.diag(cosines_nn), cosines_nn.sum(axis=1)
    squares_n = cosines_nn.sum() - 2 * to_all_n + own_n  # of the length of the others' sum
    has_direction_n = squares_n > _NO_LENGTH * len(clients) ** 2  # steps that cancel have none
    to_others_n = np.zeros_like(squares_n)
    np.divide(to_all_n - own_n, np.sqrt(np.maximum(squares_n, 0)), out=to_others_n, where=has_direction_n)
    worst = int(to_others_n.argmin())
    if to_others_n[worst] >= limit:
        return None
    reason = f"its step's cosine to the others' direction is {to_others_n[worst]:.2f}; min-cosine is {limit:g}"
    return Finding(client=clients[worst], reason=reason, kind=Rejection.OPPOSED)
