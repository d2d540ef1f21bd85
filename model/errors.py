"""Errors a user can cause or meet.

    FedreenactError
    ├── ConfigError            a setting is unknown, out of range, or two settings contradict
    ├── DataError              a video, image or shard cannot be used
    ├── WeightsError           a pretrained model file is missing or not the expected one
    ├── CheckpointError        a checkpoint is torn, foreign or of another preset
    ├── TensorMismatchError    named tensors differ from the network's in name, shape, dtype, or are not finite
    ├── UnknownWeightsError    weights that honest training of the run cannot have made
    ├── OneSidedUpdateError    an update that few of its steps made
    ├── NonFiniteLossError     a loss or gradient is NaN or infinite; raised before the optimiser step
    └── FederationError        a round or a run cannot go on

Every message says what, where, got, wanted, and what to do. The command line prints it without a traceback.
"""

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """End of a message about an unknown name: "; did you mean tau?"; `otherwise` if no known one is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else otherwise


def listed(names: Sequence[str], most: int) -> str:
    """At most so many names in words, and how many more there are: "anna, ben and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class FedreenactError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(FedreenactError, ValueError):
    """A setting is unknown, out of range, or two settings contradict each other."""


class DataError(FedreenactError, ValueError):
    """A video, image or shard cannot be used."""


class WeightsError(FedreenactError):
    """A pretrained model file is missing or is not the expected one."""


class CheckpointError(FedreenactError):
    """A checkpoint is torn, foreign or belongs to another configuration."""


class TensorMismatchError(FedreenactError, ValueError):
    """Named tensors do not match what the network expects."""


class UnknownWeightsError(FedreenactError):
    """Weights that honest training of the run cannot have made; nothing was trained."""


class OneSidedUpdateError(FedreenactError):
    """An update that few of its steps made, which may show a single frame; it was not sent."""


class NonFiniteLossError(FedreenactError):
    """A loss term or gradient is NaN or infinite; no optimiser step was taken."""


class FederationError(FedreenactError):
    """A federated round or run cannot go on."""
