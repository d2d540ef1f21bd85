"""`fedreenact export`: a run's model as one file of ONNX, compared with PyTorch before it has its name."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save
from torch import Tensor

from data_partition.consent.withdrawal import refuse_withdrawn
from model.batch import FurtherSources, GeneratorInputs
from model.checkpoint import Checkpoint, load_checkpoint
from model.config import ModelConfig
from model.designs.registry import design_of, has_base
from model.errors import CheckpointError, ConfigError
from model.files import write_bytes
from model.networks.bundle import Networks
from model.networks.warping import resized
from model.setting import meanings_of
from reenact.exported.graph import INPUTS, OUTPUTS, Graph, graph_inputs
from reenact.exported.model import FORMAT, SUFFIX, ExportedGenerator, load_exported, strangers_base
from reenact.exported.packages import package
from reenact.exported.people import stand_ins

LARGEST_DIFFERENCE = 1e-4
"""Of the range of a picture, between PyTorch and the file."""
_EXPORTED = "glr"
_COMPARED = ((1, 1), (1, 3), (4, 3))
"""Results and sources of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """What was written."""

    out: Path
    num_bytes: int
    difference: float
    """Largest between PyTorch's pictures and the file's, of their range."""


def export(run: Path, out: Path) -> ExportReport:
    """Write a run's model as a file of ONNX.

    Args:
        run: a round folder, or a run folder for its newest intact round.
        out: .onnx; it appears only if it draws as PyTorch does.

    Raises:
        ConfigError: if the name has another ending, a package is missing or the network has no form in ONNX.
        CheckpointError: if the checkpoint cannot be used, somebody withdrew whom it learnt, or the file draws
            otherwise.
        OSError: if it cannot be written.
    """
    if out.suffix != SUFFIX:
        raise ConfigError(f"{out}: got {out.suffix or 'no ending'!r}, wanted a file that ends in {SUFFIX}")
    refuse_withdrawn(run)
    checkpoint = load_checkpoint(run)
    networks = checkpoint.networks()
    content = _content(checkpoint, networks)
    difference = largest_difference(checkpoint, networks, load_exported(content).generator)
    if not difference <= LARGEST_DIFFERENCE:
        raise CheckpointError(
            f"{out}: its pictures differ from PyTorch's by {difference:.1e} of their range, wanted at most "
            f"{LARGEST_DIFFERENCE:.0e}; not written"
        )
    write_bytes(out, content)
    return ExportReport(out=out, num_bytes=len(content), difference=difference)


def _content(checkpoint: Checkpoint, networks: Networks) -> bytes:
    """The file."""
    if networks.config.network != _EXPORTED:
        raise ConfigError(f"export: network {networks.config.network} has no form in ONNX, wanted {_EXPORTED}")
    model = _traced(checkpoint, networks)
    del model.graph.value_info[:]  # with names of sizes that are given better ones here
    for value in (*model.graph.input, *model.graph.output):
        for size, letter in zip(value.type.tensor_type.shape.dim, "NK", strict=False):
            if size.dim_param:
                size.dim_param = letter
    model.producer_name, model.producer_version = "fedreenact", version("fedreenact")
    model.doc_string = "\n".join(f"{name}: {meaning}" for name, meaning in (INPUTS | OUTPUTS).items())
    package("onnx").helper.set_model_props(model, _metadata(checkpoint, networks))
    return bytes(model.SerializeToString())


def _traced(checkpoint: Checkpoint, networks: Networks) -> Any:
    """The graph, as `onnx.ModelProto`."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        package(name)
    from reenact.exported.operators import OPSET, TRANSLATIONS

    has_further, any_size = networks.config.num_sources > 1, torch.export.Dim.DYNAMIC
    example = graph_inputs(_example(checkpoint, networks.config, 2, 3))
    of_sources = {0: any_size, 1: any_size} if has_further else {0: any_size}
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            Graph(networks.generator, has_further=has_further).eval(),
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=tuple(of_sources if name.startswith("source") else {0: any_size} for name in INPUTS),
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    assert program is not None
    package("onnx_ir.passes.common").ClearMetadataAndDocStringPass()(program.model)  # lines and files of this machine
    return program.model_proto


def _metadata(checkpoint: Checkpoint, networks: Networks) -> dict[str, str]:
    """What `model` says is in the file; names nobody."""
    config = networks.config
    mean_JKC, std_JKC = stand_ins(*checkpoint.agreed_landmarks())
    arrays = {"mean": mean_JKC, "std": std_JKC}
    if has_base(config) and networks.landmark_generator.base is not None:
        arrays |= strangers_base(networks.landmark_generator.base)
    settings = {key: checkpoint.settings[key] for key, _ in meanings_of(ModelConfig) if key in checkpoint.settings}
    return {
        "format": FORMAT,
        "network": config.network,
        "size-px": str(config.image_size_px),
        "num-identities": str(len(checkpoint.identities)),
        "guidances": ", ".join(_guidances(config)),
        "weights-sha256": networks.weights_sha256(),
        "round": str(checkpoint.round),
        "settings": json.dumps(settings),
        "part-sizes": json.dumps(checkpoint.part_sizes.to_flat()),
        "landmarks": base64.b64encode(save(arrays)).decode(),
    }


def _guidances(config: ModelConfig) -> list[str]:
    """Landmarks that the file can be guided by: it knows nobody, so not lgan."""
    without = {"lgan"} if has_base(config) else {"lgan", "base"}
    return [name for name in design_of(config.network).guidances if name not in without]


@torch.inference_mode()
def largest_difference(checkpoint: Checkpoint, networks: Networks, exported: ExportedGenerator) -> float:
    """Between PyTorch's pictures and an exported generator's, of their range, for several numbers of results.

    Args:
        checkpoint: of the networks.
        networks: in evaluation mode, on the CPU.
        exported: what was written of them.
    """
    worst = 0.0
    for num_results, num_sources in _COMPARED:
        inputs = _example(checkpoint, networks.config, num_results, num_sources)
        drawn_NCHW, wanted_NCHW = (generator(inputs).image_NCHW for generator in (exported, networks.generator))
        worst = max(worst, float((drawn_NCHW - wanted_NCHW).abs().max()) / 2)
    return worst


def _example(checkpoint: Checkpoint, config: ModelConfig, num_results: int, num_sources: int) -> GeneratorInputs:
    """Smooth pictures, and landmarks of the people whom the checkpoint learnt, each a little otherwise."""
    size_px, random = config.image_size_px, torch.Generator().manual_seed(0)
    num_sources = num_sources if config.num_sources > 1 else 1

    def pictures(channels: int) -> Tensor:
        return resized(torch.rand(num_results, channels, 8, 8, generator=random) * 2 - 1, size_px, size_px)

    def landmarks() -> Tensor:
        mean_KC = torch.from_numpy(checkpoint.agreed_landmarks()[0].mean(axis=0))
        return mean_KC + 0.02 * size_px * torch.randn(num_results, *mean_KC.shape, generator=random)

    further = (
        FurtherSources(
            image_NRCHW=torch.stack([pictures(3) for _ in range(1, num_sources)], dim=1),
            landmarks_NRKC=torch.stack([landmarks() for _ in range(1, num_sources)], dim=1),
            heatmap_NRCHW=torch.stack([pictures(1) for _ in range(1, num_sources)], dim=1),
        )
        if num_sources > 1
        else None
    )
    heatmap_NCHW = (pictures(config.heatmap_channels) + 1) / 2
    return GeneratorInputs(
        source_NCHW=pictures(3),
        driving_NCHW=pictures(3),
        source_landmarks_NKC=landmarks(),
        source_heatmap_NCHW=heatmap_NCHW[:, :1],
        target_landmarks_NKC=landmarks(),
        heatmap_NCHW=heatmap_NCHW,
        further=further,
    )
