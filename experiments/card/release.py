"""`fedreenact release`: a folder to hand on, with all that drawing needs and nothing of sites, places and names.

<out>/README.md, LICENSE              the model card, the licence
<out>/weights.safetensors             networks and statistics of landmarks; discriminators are zero
<out>/checkpoint.json, settings.toml  what the networks are, without places; people as identity-0, identity-1, ...
<out>/model.onnx                      where one is given
<out>/SHA256SUMS                      of all of these, for `sha256sum --check`
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from data_partition.consent.releases import Release, note_release
from deploy.files import TOP
from experiments.card.card import CardRequest, ModelCard, read_card, render_card
from federation.settings import PLACES, to_toml
from model.checkpoint import Checkpoint, load_checkpoint, run_folder_of, unnamed, write_checkpoint
from model.errors import ConfigError
from model.files import file_sha256, name_folder, write_text
from model.networks.bundle import is_of_discriminator

CARD_NAME, LICENCE_NAME, ONNX_NAME = "README.md", "LICENSE", "model.onnx"
SETTINGS_NAME, SUMS_NAME = "settings.toml", "SHA256SUMS"


def release_run(request: CardRequest, out: Path, onnx: Path | None = None) -> Release:
    """Write a release whole or not at all, and note in the run who is who in it.

    Args:
        request: what to release, and what its card tells.
        out: folder to make; `reenact` takes it for a model.
        onnx: the same model as `export` writes it; None for none.

    Returns:
        What was noted.

    Raises:
        CheckpointError: as `read_card`; also if the run's list of releases is damaged.
        ConfigError: as `read_card`; if `out` is there, or the ONNX file is of another model or names places.
        DataError: as `read_card`.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; choose another name, a release is not changed")
    card, checkpoint, run = read_card(request), load_checkpoint(request.run), run_folder_of(request.run)
    graph = None if onnx is None else _checked_onnx(onnx, card, run)
    out = out.resolve()
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        sha256 = _write(partial, card, checkpoint, graph)
        people = {unnamed(index): name for index, name in enumerate(checkpoint.identities)}
        release = Release(folder=out, released=date.today().isoformat(), weights_sha256=sha256, people=people)
        note_release(run, release)  # before there is one: it cannot be found otherwise
        name_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return release


def released(checkpoint: Checkpoint) -> Checkpoint:
    """What is handed on of a checkpoint: it draws the same pictures, and cannot go on training.

    Of averaged and last weights those that draw; no discriminators, which tell best who was trained on (Hayes et al.
    2019, LOGAN); no places, no losses; names that say nothing.
    """
    tensors = checkpoint.ema_tensors or checkpoint.tensors
    return replace(
        checkpoint,
        settings={key: value for key, value in checkpoint.settings.items() if key not in PLACES},
        identities=[unnamed(index) for index in range(len(checkpoint.identities))],
        tensors={name: np.zeros_like(value) if is_of_discriminator(name) else value for name, value in tensors.items()},
        ema_tensors={},
        loss_window=[],
    )


def _write(folder: Path, card: ModelCard, checkpoint: Checkpoint, graph: bytes | None) -> str:
    """All files; returns the SHA-256 of the weights' file."""
    public = released(checkpoint)
    sha256 = write_checkpoint(folder, public)
    write_text(folder / SETTINGS_NAME, to_toml(public.settings))
    write_text(folder / CARD_NAME, render_card(card, has_onnx=graph is not None))
    shutil.copyfile(TOP / LICENCE_NAME, folder / LICENCE_NAME)
    if graph is not None:
        (folder / ONNX_NAME).write_bytes(graph)
    files = sorted(folder.iterdir())
    sums = (f"{file_sha256(file)}  {file.name}\n" for file in files)
    write_text(folder / SUMS_NAME, "".join(sums))
    return sha256


def _checked_onnx(path: Path, card: ModelCard, run: Path) -> bytes:
    """The content of an ONNX file, which says in its metadata which weights it was made of."""
    graph = path.read_bytes()
    if card.weights_sha256.encode() not in graph:
        raise ConfigError(f"--onnx {path}: does not name the weights {card.weights_sha256}; export this checkpoint")
    for place in filter(None, (str(run.resolve()), card.settings.data.data_dir)):
        if place.encode() in graph:
            raise ConfigError(f"--onnx {path}: names {place}, a place on this machine; export it without")
    return graph
