"""Metrics that merge without a mean of means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WeightedMean:
    """A weighted sum and its weight; `+` merges two, `value` divides once at the end."""

    weighted_sum: float = 0.0
    weight: float = 0.0

    @classmethod
    def of(cls, value: float, weight: float) -> WeightedMean:
        """One observation `value` that counts `weight` times (for example a batch mean and its N)."""
        return cls(value * weight, weight)

    def __add__(self, other: WeightedMean) -> WeightedMean:
        """The merged mean."""
        return WeightedMean(self.weighted_sum + other.weighted_sum, self.weight + other.weight)

    @property
    def value(self) -> float:
        """The mean; ZeroDivisionError if nothing was added."""
        return self.weighted_sum / self.weight


def merge(total: dict[str, WeightedMean], part: dict[str, WeightedMean]) -> dict[str, WeightedMean]:
    """A new dict in which every name of either side holds the merged mean."""
    zero = WeightedMean()
    return {name: total.get(name, zero) + part.get(name, zero) for name in (*total, *(part.keys() - total.keys()))}
