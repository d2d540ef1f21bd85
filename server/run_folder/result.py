"""How a run ended, and the states that a run can be in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from model.errors import ConfigError
from model.files import read_json

RESULT_NAME = "result.json"


class RunState(StrEnum):
    """Where a run stands; the first two and `lost` while it has no result, the others are how it ended."""

    WAITING = "waiting"
    """For sites."""
    TRAINING = "training"
    """A round is in progress."""
    LOST = "lost"
    """The server app fell silent."""
    COMPLETED = "completed"
    """The stopping rule ended it."""
    STOPPED = "stopped"
    """A signal ended it; resume goes on."""
    FAILED = "failed"
    """An error ended it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """The content of result.json."""

    state: RunState
    """completed, stopped or failed; `status` in the file."""
    reason: str
    """In words."""
    error: str = ""
    """Name of the error's class; empty if the run was completed."""

    @classmethod
    def read(cls, run: Path) -> RunResult | None:
        """How the run in a folder ended, or None while it has not.

        Raises:
            ConfigError: if the file that says it is damaged.
        """
        try:
            values = read_json(run / RESULT_NAME)
            return cls(state=RunState(values["status"]), reason=values["reason"], error=values.get("error", ""))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{run / RESULT_NAME}: damaged ({type(error).__name__}); remove it") from error

    def to_json(self) -> dict[str, str]:
        """The JSON object of the file."""
        told = {"status": self.state.value, "reason": self.reason}
        return told | ({"error": self.error} if self.error else {})
