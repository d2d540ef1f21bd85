"""One setting: its default, and what its values mean for a network, a resumed run, a cache and a site.

A site computes with the settings that a server sends, so no number among them may be without an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeVar

from model.errors import ConfigError

Scalar = bool | int | float | str
Value = TypeVar("Value", bool, int, float, str)

WEEK_S = 7 * 24 * 3600.0


class Leeway(StrEnum):
    """How a run's value of a setting may differ from the one that a site approved."""

    SAME = "same"
    AT_MOST = "at most"
    AT_LEAST = "at least"
    ANY = "any"


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """What is known of a setting besides its default."""

    low: float | None = None
    """Least value of a number."""
    high: float | None = None
    """Greatest value of a number: what one process can hold, and what a training can mean."""
    least_if_on: float | None = None
    """Least value besides 0 of a number of which 0 means off. A term with next to no weight keeps Adam's step
    proportional to the gradient, from which frames can be computed back; so does a round that ends after its first
    step."""
    choices: tuple[str, ...] = ()
    """Values of a text; none is any text."""
    may_change: bool = False
    """Whether a resumed run may have another value; otherwise it is part of what is being trained."""
    shapes_result: bool = True
    """Whether another value gives another model. If not, results found with one value hold for all."""
    leeway: Leeway = Leeway.SAME
    """What a site that approved one value answers to. SAME for network, losses, batches and schedules, which decide
    what an update says about single frames, for the seed, which decides which frames are in it, and for how the model
    that all sites get is made of their updates."""

    def in_words(self) -> str:
        """Values that a number may have, for example "1 to 100", or "0, or 0.01 to 10000"; empty for what is none."""
        if self.low is None or self.high is None:
            return ""
        if self.least_if_on is not None:
            return f"0, or {self.least_if_on:g} to {_shown(self.high)}"
        return f"{_shown(self.low)} to {_shown(self.high)}"

    def allows(self, value: Scalar) -> bool:
        """Whether a setting may have the value; never true for NaN."""
        if self.choices:
            return value in self.choices
        if self.low is None or self.high is None or isinstance(value, str):
            return True
        if self.least_if_on is None:
            return self.low <= value <= self.high
        return value == 0 or self.least_if_on <= value <= self.high


def setting(
    default: Value,
    *,
    low: float | None = None,
    high: float | None = None,
    least_if_on: float | None = None,
    choices: tuple[str, ...] = (),
    may_change: bool = False,
    shapes_result: bool = True,
    leeway: Leeway = Leeway.SAME,
) -> Value:
    """A field of a configuration dataclass; the arguments are the fields of `Meaning`."""
    meaning = Meaning(
        low=low,
        high=high,
        least_if_on=least_if_on,
        choices=choices,
        may_change=may_change,
        shapes_result=shapes_result,
        leeway=leeway,
    )
    made: Value = field(default=default, metadata={_KEY: meaning})
    return made


_KEY = "meaning"


def meanings_of(config: object) -> Iterator[tuple[str, Meaning]]:
    """Kebab-case key and meaning of every setting of a configuration dataclass, or of an instance of one."""
    for one in fields(config):  # type: ignore[arg-type]
        yield key_of(one.name), one.metadata[_KEY]


def key_of(name: str) -> str:
    """The kebab-case key of a field's name, and of a key itself."""
    return name.replace("_", "-")


def check_meanings(config: object) -> None:
    """Check every field of a configuration dataclass by itself.

    Raises:
        ConfigError: naming the first value that is out of bounds, not a finite number or none of the choices.
    """
    for key, meaning in meanings_of(config):
        value = getattr(config, key.replace("-", "_"))
        wanted = "one of " + ", ".join(meaning.choices) if meaning.choices else meaning.in_words()
        check(meaning.allows(value), key, value, wanted)


def check(condition: bool, name: str, got: object, wanted: str) -> None:
    """Raise ConfigError in the words of a setting, given by its key or its field's name, unless the condition holds."""
    if not condition:
        raise ConfigError(f"setting {key_of(name)}: got {got!r}, wanted {wanted}")


def _shown(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"
