"""Differential privacy at the site: the update is clipped, and noised before it goes anywhere. Knows no Flower."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from client.state_file import alone_with
from federation.local_training import LocalResult
from federation.privacy_accountant import DELTA, MU, RELEASES, composed_mu, epsilon_of
from federation.secure_sum.primitives import Keystream, new_secret
from model.errors import ConfigError, NonFiniteLossError
from model.files import read_json, write_json
from model.networks.bundle import NamedArrays

LEDGER_NAME = "privacy-ledger.json"

_log = logging.getLogger(__name__)

Steps = Mapping[str, npt.NDArray[np.float64]]
"""How far each tensor went, by name."""


def noised_answer(
    train: Callable[[], LocalResult],
    before: NamedArrays,
    *,
    clip_norm: float,
    noise_multiplier: float,
    ledger: ReleaseLedger,
    max_epsilon: float = 0.0,
) -> LocalResult:
    """Train, and answer with what may leave the site: step clipped and noised, weight 1, what is spent.

    Clipping and noise of a whole update are those of McMahan et al. 2018, Learning Differentially Private Recurrent
    Language Models; here the site does both. Every site adds the whole noise, whether or not its update is summed
    secretly: the promise holds whatever the other sites and the server do.

    Whether training failed depends on the frames, and whoever sends the networks can choose on what: networks can be
    made that overflow if one pixel is bright. So the release is counted before training, and a training that fails in
    any way is a step of length zero, noised as any other; the site's own log alone says so. A number of frames as the
    weight, losses, durations and memory would tell it without noise, and are left out.

    Args:
        train: trains; what it raises stays here.
        before: the tensors from which it starts, checked already.
        clip_norm: C > 0.
        noise_multiplier: z > 0; each value gets noise of standard deviation z C.
        ledger: counts this release.
        max_epsilon: the site's limit for all releases of a person's frames together; 0 for none.

    Raises:
        ConfigError: before training, if the ledger cannot be read or this release would pass the limit.
    """
    spent = ledger.count_one(noise_multiplier=noise_multiplier, clip_norm=clip_norm, max_epsilon=max_epsilon)
    try:
        steps = clipped(train().tensors, before, clip_norm)
    except Exception:  # whatever it is, it may depend on the frames
        _log.exception("training failed; the answer is noise around a step of length zero")
        steps = {name: np.zeros(old.shape) for name, old in before.items()}
    told = noised(steps, noise_multiplier * clip_norm)
    return LocalResult(
        tensors={name: np.asarray(old + told[name], np.float32) for name, old in before.items()},
        num_examples=1,
        metrics={RELEASES: float(spent.num_releases), MU: spent.mu},
    )


def clipped(tensors: NamedArrays, before: NamedArrays, clip_norm: float) -> Steps:
    """The steps tensors - before, made shorter together if their Euclidean length is above the clip norm."""
    steps = {name: np.subtract(tensors[name], old, dtype=np.float64) for name, old in before.items()}
    norm = math.sqrt(sum(float(np.square(step).sum()) for step in steps.values()))
    if not math.isfinite(norm):
        raise NonFiniteLossError(f"the length of the update is {norm}, wanted a finite number")
    factor = min(1.0, clip_norm / norm) if norm else 1.0
    return {name: step * factor for name, step in steps.items()}


def noised(steps: Steps, sigma: float) -> Steps:
    """The steps plus independent Gaussian noise of standard deviation sigma from a key that nobody has."""
    return {name: step + sigma * gaussian(step.size).reshape(step.shape) for name, step in steps.items()}


def gaussian(num_values: int) -> npt.NDArray[np.float64]:
    """[num_values] standard normal, from a cryptographic keystream (Box and Muller 1958).

    numpy's generators can be computed back from values that show, and where a site has trained nothing its noise shows.
    """
    if not num_values:
        return np.zeros(0)
    num_pairs = (num_values + 1) // 2
    bits = Keystream(new_secret()).take(2 * num_pairs, np.uint64)
    uniform = (bits >> np.uint64(11)) * 2.0**-53
    radius = np.sqrt(-2 * np.log1p(-uniform[:num_pairs]))
    angle = 2 * np.pi * uniform[num_pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:num_values]


class Spent(NamedTuple):
    """What has been told about a person."""

    num_releases: int
    """Noised updates made of the person's frames."""
    mu: float
    """Of all of them together (`federation.privacy_accountant.composed_mu`)."""


class _Entry(NamedTuple):
    """Releases with the same noise."""

    noise_multiplier: float
    clip_norm: float
    releases: int


class ReleaseLedger:
    """The book of noised updates in a site's state folder, `privacy-ledger.json`: by person, over all runs.

    The site counts, not the server: what a run calls itself and the number of its round are the server's words. A round
    that is repeated, because too few sites answered or the server came back, is another release of the same frames.

        {"persons": {"person-a": [{"noise_multiplier": 20.0, "clip_norm": 1.0, "releases": 31}]}}
    """

    def __init__(self, folder: Path, persons: Sequence[str]) -> None:
        """The file need not be there.

        Args:
            folder: the site's own.
            persons: identities of the frames that are trained on; one at a deployed site.
        """
        self._path = folder / LEDGER_NAME
        self._persons = persons

    def count_one(self, *, noise_multiplier: float, clip_norm: float, max_epsilon: float = 0.0) -> Spent:
        """One more release; on disk when this returns.

        Args:
            noise_multiplier: z > 0 of the release.
            clip_norm: C > 0 of the release; epsilon does not depend on it.
            max_epsilon: limit for all releases of a person together; 0 for none.

        Returns:
            What has been told about the person of whom most is known, this release included.

        Raises:
            ConfigError: if the file is there and cannot be read, or the release would pass the limit; it is not
                counted then.
        """
        with alone_with(self._path):
            books = self._read()
            for person in self._persons:
                books[person] = _with_one_more(books.get(person, []), noise_multiplier, clip_norm)
            spent = max((_spent(books[person]) for person in self._persons), key=lambda one: one.mu)
            epsilon = epsilon_of(spent.mu)
            if 0 < max_epsilon < epsilon:
                raise ConfigError(
                    f"site policy: one more noised update would bring epsilon to {epsilon:.4g} (delta {DELTA:g}, "
                    f"{spent.num_releases} updates over all runs), this site wants at most max-epsilon = "
                    f"{max_epsilon:g}"
                )
            self._write(books)
        return spent

    def _write(self, books: dict[str, list[_Entry]]) -> None:
        persons = {person: [entry._asdict() for entry in book] for person, book in books.items()}
        write_json(self._path, {"persons": persons}, indent=1, is_private=True)

    def _read(self) -> dict[str, list[_Entry]]:
        try:
            content = read_json(self._path)
            if not _is_of_older_version(content):
                return {person: [_entry(**row) for row in book] for person, book in content["persons"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"the site's {self._path.name} cannot be read ({type(error).__name__}); restore it: without it the "
                "privacy already spent is unknown"
            ) from error
        raise ConfigError(
            f"the site's {self._path.name} is of an older version, which did not note the noise of its releases; "
            "docs/privacy.md says how to write them down"
        )


def _is_of_older_version(content: dict[str, object]) -> bool:
    """Whether a file counts releases by run and says nothing else."""
    return bool(content) and all(isinstance(count, int) for count in content.values())


def _entry(noise_multiplier: float, clip_norm: float, releases: int) -> _Entry:
    entry = _Entry(float(noise_multiplier), float(clip_norm), int(releases))
    if not (0 < entry.noise_multiplier < math.inf and 0 < entry.clip_norm < math.inf and entry.releases >= 0):
        raise ValueError(f"{entry} are no releases")
    return entry


def _with_one_more(book: Sequence[_Entry], noise_multiplier: float, clip_norm: float) -> list[_Entry]:
    counts = {(entry.noise_multiplier, entry.clip_norm): entry.releases for entry in book}
    counts[noise_multiplier, clip_norm] = counts.get((noise_multiplier, clip_norm), 0) + 1
    return [_Entry(*with_noise, count) for with_noise, count in counts.items()]


def _spent(book: Sequence[_Entry]) -> Spent:
    mu = composed_mu((entry.noise_multiplier, entry.releases) for entry in book)
    return Spent(sum(entry.releases for entry in book), mu)
