"""first-order-model's published files (Siarohin et al. 2019) in the place of a checkpoint, to compare with.

`vox-cpk.pth.tar` (vox-256), or another of its layout, as its authors' program wrote it: state dicts `generator` and
`kp_detector`, besides others that are not looked at. Never downloaded, and read as tensors only: no code in it runs.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.config import ModelConfig, config_from_flat
from model.errors import CheckpointError, TensorMismatchError, listed
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks, validate_tensors
from model.networks.comparators.published_fomm import PublishedFOMM
from model.setting import Scalar

SUFFIXES = (".tar", ".pth")
"""Of the files' names."""
LICENCE = (
    "first-order-model's published weights: not for commercial use (CC BY-NC 4.0 when they were published), learnt "
    "from VoxCeleb's people"
)

_GROUPS = ("generator", "kp_detector")
_DTYPES = (torch.float32, torch.int64)  # the latter count batches
_WANTED = "first-order-model's vox-256"
_WIDTH_OF = "generator.first.conv.weight"
_SIZE_PX = 256
_UNUSED_PARTS = PartSizes((8, 8, 8, 8), (8, 8, 8, 8))
_log = logging.getLogger(__name__)


class PublishedNetworks(Networks):
    """What draws; nothing of it can be trained."""

    generator: PublishedFOMM

    def __init__(self, model: PublishedModel) -> None:
        super().__init__(config_from_flat(ModelConfig, model.settings), model.part_sizes)
        self.generator = model.generator


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedModel(Checkpoint):
    """A checkpoint that knows nobody; the driving frame itself drives, so its landmark statistics say nothing."""

    generator: PublishedFOMM

    def networks(self, *, use_ema: bool = True) -> Networks:
        """What draws."""
        return PublishedNetworks(self).eval()


def read_published(path: Path) -> PublishedModel:
    """The model in a published file.

    Raises:
        CheckpointError: if it is not such a file: what was found, and what is wanted.
    """
    tensors = _tensors(path, _content(path))
    generator = PublishedFOMM(_width(path, tensors))
    own = generator.state_dict()
    try:
        validate_tensors(
            {name: tensor.numpy() for name, tensor in tensors.items()},
            {name: tensor.numpy() for name, tensor in own.items()},
            where=str(path),
        )
    except TensorMismatchError as error:
        raise CheckpointError(f"{error}; wanted the layout of {_WANTED}") from error
    generator.load_state_dict(tensors)
    _log.warning("%s: %s", path, LICENCE)
    return _model(generator)


def _content(path: Path) -> Mapping[str, Any]:
    """What is in the file; nothing that it has but tensors and containers of them is made."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{path}: not readable as tensors alone ({type(error).__name__}: {reason})") from error
    if not isinstance(content, Mapping) or not all(isinstance(content.get(group), Mapping) for group in _GROUPS):
        found = listed(sorted(map(str, content)), 5) if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{path}: has {found}, wanted {' and '.join(_GROUPS)} as {_WANTED}")
    return content


def _tensors(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """All of both networks, by names that begin with their group's."""
    tensors = {f"{group}.{name}": value for group in _GROUPS for name, value in content[group].items()}
    wrong = [name for name, value in tensors.items() if not isinstance(value, Tensor) or value.dtype not in _DTYPES]
    if wrong:
        raise CheckpointError(f"{path}: {listed(wrong, 1)}: no tensor of float32, wanted those of {_WANTED}")
    return {name: value.detach() for name, value in tensors.items()}


def _width(path: Path, tensors: Mapping[str, Tensor]) -> int:
    first = tensors.get(_WIDTH_OF)
    if first is None or first.ndim != 4 or len(first) % 2:
        got = "none" if first is None else str(tuple(first.shape))
        raise CheckpointError(f"{path}: {_WIDTH_OF} is {got}, wanted (64, 3, 7, 7) as of {_WANTED}")
    return len(first)


def _model(generator: PublishedFOMM) -> PublishedModel:
    width = generator.generator.final.in_channels
    settings: dict[str, Scalar] = {"network": "fomm", "image-size-px": _SIZE_PX, "patch-size-px": 16, "flow-seed-px": 8}
    nowhere_IKC = np.zeros((1, 68, 2), np.float32)
    return PublishedModel(
        generator=generator,
        round=0,
        settings=settings | {"generator-channels": width},
        identities=[],
        part_sizes=_UNUSED_PARTS,
        landmark_mean_IKC=nowhere_IKC,
        landmark_std_IKC=np.ones_like(nowhere_IKC),
        tensors={},
    )
