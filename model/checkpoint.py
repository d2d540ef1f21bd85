"""Checkpoints: one folder a round, safetensors for arrays and JSON for the rest, written whole or not at all.

<run>/round-000007/weights.safetensors      "model/<name>", "ema/<name>", "landmarks/mean", "landmarks/std"
<run>/round-000007/checkpoint.json          round, settings, identities, part sizes, loss window, SHA-256 of both files

A round is written as .round-000007.partial and renamed. One that is written again moves the old folder to
.round-000007.replaced first, which counts as the round until the new one has its name: at every moment one is whole.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model.config import ModelConfig, config_from_flat
from model.designs.registry import build_networks
from model.errors import CheckpointError, FedreenactError
from model.files import file_sha256, json_sha256, name_folder, read_json
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.setting import Scalar

SCHEMA_VERSION = 1
_WEIGHTS_FILE = "weights.safetensors"
_log = logging.getLogger(__name__)

_INDEX_FILE = "checkpoint.json"
_ROUND_FOLDER = re.compile(r"round-(\d{6})|\.round-(\d{6})\.replaced")
_INDEX_KEYS = {
    "schema_version",
    "round",
    "weights_sha256",
    "identities",
    "part_sizes",
    "loss_window",
    "settings",
}

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A trained model with all that is needed to use it or to go on training; I identities."""

    round: int
    """Rounds completed."""
    settings: dict[str, Scalar]
    """Flat settings of the run."""
    identities: list[str]
    """Name of each identity index."""
    part_sizes: PartSizes
    """Crop sizes the sites agreed on."""
    landmark_mean_IKC: FloatArray
    """[I, 68, 2] mean landmarks of each identity, pixels of the model's frame (LSt, Eq 3.3); zero, as is the next, for
    one that nobody had when the run began."""
    landmark_std_IKC: FloatArray
    """[I, 68, 2] standard deviation, pixels."""
    tensors: dict[str, FloatArray]
    """Global weights after the round."""
    ema_tensors: dict[str, FloatArray] = field(default_factory=dict)
    """Their average over rounds, if the run keeps one."""
    loss_window: list[float] = field(default_factory=list)
    """L_G of the last rounds, for the stopping rule."""

    @property
    def has_landmarks_I(self) -> npt.NDArray[np.bool_]:
        """[I] for which identities landmark statistics were agreed on: all but those of sites that joined later."""
        return np.asarray(np.any(self.landmark_std_IKC != 0, axis=(1, 2)))

    def agreed_landmarks(self) -> tuple[FloatArray, FloatArray]:
        """[J, 68, 2] means and standard deviations of those identities; of all where nothing was agreed on."""
        kept = np.flatnonzero(self.has_landmarks_I) if self.has_landmarks_I.any() else slice(None)
        return self.landmark_mean_IKC[kept], self.landmark_std_IKC[kept]

    def networks(self, *, use_ema: bool = True) -> Networks:
        """The trained networks in evaluation mode on the CPU; averaged weights if there are any and wanted."""
        networks = build_networks(config_from_flat(ModelConfig, self.settings), self.part_sizes, seed=0)
        networks.load_tensors(self.ema_tensors if use_ema and self.ema_tensors else self.tensors)
        return networks.eval()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `folder`/round-NNNNNN atomically and durably, replacing one of the same round; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"round-{checkpoint.round:06d}"
    partial, replaced = (folder / f".{final.name}.{word}" for word in ("partial", "replaced"))
    _clear_away(folder)
    partial.mkdir()
    write_checkpoint(partial, checkpoint)
    if final.exists():
        final.rename(replaced)
    name_folder(partial, final)
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> str:
    """Write both files into a folder that is not in use yet; returns the SHA-256 of the weights' file."""
    arrays = {f"model/{name}": value for name, value in checkpoint.tensors.items()}
    arrays |= {f"ema/{name}": value for name, value in checkpoint.ema_tensors.items()}
    arrays |= {"landmarks/mean": checkpoint.landmark_mean_IKC, "landmarks/std": checkpoint.landmark_std_IKC}
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / _WEIGHTS_FILE)
    index = {
        "schema_version": SCHEMA_VERSION,
        "round": checkpoint.round,
        "weights_sha256": file_sha256(folder / _WEIGHTS_FILE),
        "identities": checkpoint.identities,
        "part_sizes": checkpoint.part_sizes.to_flat(),
        "loss_window": checkpoint.loss_window,
        "settings": checkpoint.settings,
    }
    (folder / _INDEX_FILE).write_text(json.dumps(index | {"index_sha256": json_sha256(index)}, indent=2))
    return str(index["weights_sha256"])


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a round folder, or the newest intact one in a run folder; newer ones are logged as damaged.

    Raises:
        CheckpointError: if there is none, or the given round folder is torn or of another version.
    """
    if (path / _INDEX_FILE).is_file():
        return _load_round(path)
    reasons = []
    for folder in reversed(round_folders(path)):
        try:
            checkpoint = _load_round(folder)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        if reasons:
            _log.warning("%s; round %d is used in its place", "; ".join(reasons), checkpoint.round)
        return checkpoint
    detail = "; ".join(reasons) or "wanted a folder with round-NNNNNN folders in it, or one of those"
    raise CheckpointError(f"no usable checkpoint in {path}: {detail}")


def unnamed(index: int) -> str:
    """What an identity is called whose name nobody told, or nobody is to know."""
    return f"identity-{index}"


def with_names(identities: Sequence[str], told: Sequence[str]) -> list[str]:
    """The names of identities, and of those that have none the one that was told, if no other identity has it.

    Args:
        identities: [I] names so far.
        told: [I] names; `unnamed(index)` where nobody told one.
    """
    names = list(identities)
    for index, name in enumerate(told):
        if names[index] == unnamed(index) and name not in names:
            names[index] = name
    return names


def known_people(folder: Path) -> list[str]:
    """Whom the checkpoint in a round's folder learnt, by name, without reading its weights.

    Raises:
        CheckpointError: if it does not say.
    """
    return [str(name) for name in _indexed(folder, "identities")]


def recorded_weights(folder: Path) -> str:
    """The SHA-256 of its weights' file that the checkpoint in a folder records; raises as `known_people`."""
    return str(_indexed(folder, "weights_sha256"))


def round_folders_below(folder: Path) -> list[Path]:
    """Every checkpoint in a folder or deeper, of whatever runs."""
    return sorted(index.parent for index in folder.rglob(_INDEX_FILE))


def run_folder_of(checkpoint: Path) -> Path:
    """The run folder that a round's folder lies in; anything else is what it is."""
    return checkpoint.parent if checkpoint in round_folders(checkpoint.parent) else checkpoint


def round_folders(run: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first; one a round."""
    found: dict[int, Path] = {}
    for path in run.iterdir() if run.is_dir() else ():
        match = _ROUND_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            number = round_number_of(path)
            found[number] = path if match[1] else found.get(number, path)
    return [found[number] for number in sorted(found)]


def round_number_of(folder: Path) -> int:
    """The round of a folder that `round_folders` gave."""
    match = _ROUND_FOLDER.fullmatch(folder.name)
    assert match is not None, folder
    return int(match[1] or match[2])


def _indexed(folder: Path, key: str) -> Any:
    try:
        return read_json(folder / _INDEX_FILE)[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / _INDEX_FILE} cannot be read ({type(error).__name__}: {error})") from error


def _clear_away(folder: Path) -> None:
    """Remove what a writer that was killed left behind, but no round's only folder."""
    rounds = round_folders(folder)
    for pattern in (".round-*.partial", ".round-*.replaced"):
        for path in folder.glob(pattern):
            if path not in rounds:
                shutil.rmtree(path, ignore_errors=True)


def _load_round(folder: Path) -> Checkpoint:
    try:
        index = read_json(folder / _INDEX_FILE)
        if index["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError(
                f"{folder}: schema version {index['schema_version']}, this program reads {SCHEMA_VERSION}"
            )
        recorded = index.pop("index_sha256", None)  # absent in checkpoints of before there was one
        if index.keys() != _INDEX_KEYS or recorded not in (None, json_sha256(index)):
            raise CheckpointError(f"{folder / _INDEX_FILE} is damaged: its SHA-256 is not the recorded one")
        if file_sha256(folder / _WEIGHTS_FILE) != index["weights_sha256"]:
            raise CheckpointError(f"{folder / _WEIGHTS_FILE} is damaged: its SHA-256 is not the recorded one")
        return _assemble(index, load_file(folder / _WEIGHTS_FILE))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, FedreenactError):
            raise
        raise CheckpointError(f"{folder} is not a readable checkpoint: {type(error).__name__}: {error}") from error


def _assemble(index: dict[str, Any], arrays: dict[str, FloatArray]) -> Checkpoint:
    def group(prefix: str) -> dict[str, FloatArray]:
        return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}

    return Checkpoint(
        round=index["round"],
        settings=index["settings"],
        identities=index["identities"],
        part_sizes=PartSizes.from_flat(index["part_sizes"]),
        landmark_mean_IKC=arrays["landmarks/mean"],
        landmark_std_IKC=arrays["landmarks/std"],
        tensors=group("model/"),
        ema_tensors=group("ema/"),
        loss_window=index["loss_window"],
    )
