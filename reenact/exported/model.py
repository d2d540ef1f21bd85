"""An exported file in the place of a checkpoint: the generator runs in ONNX Runtime, on the CPU.

The file's metadata are strings, and name nobody. For whoever looks: `network`, `size-px`, `num-identities` and
`guidances`. To draw with: `format`, `weights-sha256`, `round`, `settings` and `part-sizes` in JSON, and `landmarks`,
safetensors in base 64: `mean` and `std` as of `people.stand_ins`, and with a base its coefficients of a stranger.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load
from torch import Tensor, nn

from model.batch import GeneratorInputs
from model.checkpoint import Checkpoint
from model.config import ModelConfig, config_from_flat
from model.designs.registry import has_base
from model.errors import CheckpointError
from model.files import json_of
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.networks.landmark_base import LandmarkBase
from model.networks.landmark_motion import SourceMotion
from reenact.exported.graph import OUTPUTS, graph_inputs
from reenact.exported.packages import package

SUFFIX = ".onnx"
FORMAT = "2"
"""Of the metadata."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedOutput:
    """What an exported generator gives for N pairs, as a `GeneratorOutput`."""

    image_NCHW: Tensor
    motion: SourceMotion
    heatmap_NCHW: Tensor
    warped_source_NCHW: Tensor
    parts_NCHW: Tensor

    @property
    def flow_NCHW(self) -> Tensor:
        """As of `GLROutput`."""
        return self.motion.flow_MCHW[: self.image_NCHW.shape[0]]

    def stages(self) -> dict[str, Tensor]:
        """As of `GLROutput`."""
        return {
            "Heatmap": self.heatmap_NCHW.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 2 - 1,
            "Warped source": self.warped_source_NCHW,
            "Parts": self.parts_NCHW,
        }


class ExportedGenerator(nn.Module):
    """`GeneratorInputs` to an `ExportedOutput`; as many threads as PyTorch has."""

    def __init__(self, content: bytes) -> None:
        """Load a file's content.

        Raises:
            ConfigError: if ONNX Runtime is not installed.
            CheckpointError: if it is no file of ONNX.
        """
        super().__init__()
        runtime = package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        try:
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors have no class of their own to catch them by
            raise CheckpointError(f"not a readable ONNX file: {' '.join(str(error).split())}") from error

    @property
    def metadata(self) -> dict[str, str]:
        """The file's."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def forward(self, inputs: GeneratorInputs) -> ExportedOutput:
        """Draw N results."""
        fed = {name: np.ascontiguousarray(value.cpu().numpy()) for name, value in graph_inputs(inputs).items()}
        image, flows, confidence, warped, parts = map(torch.from_numpy, self._session.run(list(OUTPUTS), fed))
        return ExportedOutput(
            image_NCHW=image,
            motion=SourceMotion(*(of_NK.transpose(0, 1).flatten(0, 1) for of_NK in (flows, confidence))),
            heatmap_NCHW=inputs.heatmap_NCHW,
            warped_source_NCHW=warped,
            parts_NCHW=parts,
        )


class _BaseAlone(nn.Module):
    """The landmark GAN without the people that it learnt: its base, for strangers."""

    def __init__(self, num_identities: int, coefficients: Mapping[str, FloatArray]) -> None:
        super().__init__()
        self.base = LandmarkBase(num_identities)
        for name, buffer in self.base.named_buffers():
            (buffer[-1:] if name.endswith("_own") else buffer).copy_(torch.from_numpy(coefficients[name]))


def strangers_base(base: LandmarkBase) -> dict[str, FloatArray]:
    """The base's coefficients, of a stranger alone."""
    return {
        name: (buffer[-1:] if name.endswith("_own") else buffer).cpu().numpy() for name, buffer in base.named_buffers()
    }


class ExportedNetworks(Networks):
    """What draws; nothing of it can be trained."""

    def __init__(self, model: ExportedModel) -> None:
        super().__init__(config_from_flat(ModelConfig, model.settings), model.part_sizes)
        self.generator, self._sha256 = model.generator, model.generator.metadata["weights-sha256"]
        if has_base(self.config):
            self.landmark_generator = _BaseAlone(self.config.num_identities, model.tensors)  # type: ignore[assignment]

    def weights_sha256(self) -> str:
        """Of the checkpoint that was exported."""
        return self._sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedModel(Checkpoint):
    """A checkpoint that knows nobody, and whose tensors are the base alone."""

    generator: ExportedGenerator

    def networks(self, *, use_ema: bool = True) -> Networks:
        """What draws."""
        return ExportedNetworks(self).eval()


def load_exported(content: bytes) -> ExportedModel:
    """The model in an exported file's content.

    Raises:
        ConfigError: if ONNX Runtime is not installed.
        CheckpointError: if `fedreenact export` has not written it, or another version has.
    """
    generator = ExportedGenerator(content)
    metadata = generator.metadata
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"format {metadata.get('format')!r}, this program reads {FORMAT!r}; write it anew with `fedreenact export`"
        )
    try:
        return ExportedModel(generator=generator, **_rest(metadata))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"damaged metadata: {type(error).__name__}: {error}") from error


def _rest(metadata: Mapping[str, str]) -> dict[str, Any]:
    arrays = load(base64.b64decode(metadata["landmarks"]))
    return {
        "round": int(metadata["round"]),
        "settings": json_of(metadata["settings"]),
        "identities": [],
        "part_sizes": PartSizes.from_flat(json_of(metadata["part-sizes"])),
        "landmark_mean_IKC": arrays.pop("mean"),
        "landmark_std_IKC": arrays.pop("std"),
        "tensors": arrays,
    }


def read_exported(path: Path) -> ExportedModel:
    """The model in an exported file; errors as of `load_exported`, with its name.

    Raises:
        OSError: if it cannot be read.
    """
    try:
        return load_exported(path.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
