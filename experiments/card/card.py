"""`fedreenact card`: a run as a model card in the format of the Hugging Face hub.

Markdown with YAML in front (https://huggingface.co/docs/hub/model-cards), after Mitchell et al., Model Cards for Model
Reporting (2019). It names nobody, no site and no place on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from data_partition.consent.withdrawal import refuse_withdrawn
from deploy.files import PRESETS
from evaluation.figures.tables import TextTable
from experiments.card.people import CardPeople, read_people, shards_of
from experiments.card.results import CardResults, metric_types, read_audit_table, read_results
from experiments.templating import render
from federation.settings import MEANINGS, PLACES, Settings, read_preset
from model.checkpoint import Checkpoint, load_checkpoint, run_folder_of
from model.designs.registry import design_of
from model.errors import ConfigError
from model.networks.bundle import is_of_discriminator
from model.setting import Scalar
from model.version import own_version
from server.run_folder.history import RoundRow, read_history, spent
from server.run_folder.record import RunRecord

CARD_NAME = "card.md"
"""In the run folder, unless told otherwise."""
_SIZED = ("num-identities", "num-clients", "min-fit-clients")
"""Settings that follow from how many people there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CardRequest:
    """What to make a card of."""

    run: Path
    """A run folder for its newest intact round, or a round's folder."""
    evaluations: tuple[Path, ...] = ()
    """Folders as `evaluate --out` writes them."""
    audit: Path | None = None
    """Folder as `audit --out` writes it; None for the run folder."""
    dataset: Path | None = None
    """With the people's records; None for where the run found it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What the card says."""

    name: str
    """Of the model: network and size."""
    settings: Settings
    weights_sha256: str
    """Of all that is drawn with, as manifests name it."""
    num_values: int
    """Of the networks that draw."""
    round: int
    num_steps: int
    """Optimiser steps at all sites together."""
    num_pairs_seen: int
    num_sites: int
    num_frames: int
    """Trained on, as the sites told with the last round; 0 where they did not."""
    epsilon: tuple[float, float] | None
    """(epsilon, delta) that noise has spent on the person with most; None without noise."""
    preset: str
    """The one that the settings are nearest to."""
    changed: Mapping[str, Scalar]
    """Settings that are not the preset's."""
    people: CardPeople
    results: Sequence[CardResults]
    audit: TextTable | None
    trained_by: str
    """Version of this program that trained it; "" if the run does not say."""
    written: date
    version: str
    """Of this program, now."""

    @property
    def is_simulation(self) -> bool:
        """Whether the server itself knew where the frames are, so that sites were processes of its machine."""
        return bool(self.settings.data.data_dir)

    @property
    def has_identity_rows(self) -> bool:
        """Whether some weights are one person's alone."""
        return bool(design_of(self.settings.model.network).identity_rows)

    @property
    def is_measured_on_strangers(self) -> bool:
        """Whether an evaluation has people whom the model never saw."""
        return any(result.is_of_strangers for result in self.results)

    @property
    def metric_types(self) -> list[str]:
        """Keys of the metrics that were measured."""
        return metric_types(self.results)


def read_card(request: CardRequest) -> ModelCard:
    """Collect the card of a run.

    Raises:
        CheckpointError: if there is no intact checkpoint or no run.json, or somebody withdrew whom it learnt.
        ConfigError: if the run has no history, or a measurement is of another model.
        DataError: if somebody's consent does not hold, or something cannot be read.
    """
    refuse_withdrawn(request.run)
    checkpoint, run = load_checkpoint(request.run), run_folder_of(request.run)
    settings, record = Settings.from_flat(checkpoint.settings), RunRecord.read(run)
    history = _history(run, checkpoint)
    num_steps, num_samples = spent(history, settings)
    weights_sha256 = checkpoint.networks().weights_sha256()
    preset, changed = nearest_preset(settings)
    return ModelCard(
        name=f"fedreenact-{settings.model.network}-{settings.model.image_size_px}px",
        settings=settings,
        weights_sha256=weights_sha256,
        num_values=_num_values(checkpoint),
        round=checkpoint.round,
        num_steps=num_steps,
        num_pairs_seen=num_samples,
        num_sites=max(len(row.clients) for row in history),
        num_frames=int(sum(told.get("num_examples", 0) for told in history[-1].clients.values())),
        epsilon=_epsilon(history[-1]),
        preset=preset,
        changed=changed,
        people=read_people(
            checkpoint.identities,
            shards_of(checkpoint.identities, request.dataset, settings.data.data_dir),
            record.people,
            settings.data.without_consent,
        ),
        results=tuple(
            read_results(folder, round_number=checkpoint.round, weights_sha256=weights_sha256)
            for folder in request.evaluations
        ),
        audit=_audit(request.audit, run, weights_sha256),
        trained_by=record.version,
        written=date.today(),
        version=own_version(),
    )


def render_card(card: ModelCard, *, has_onnx: bool = False) -> str:
    """The card as Markdown with YAML in front; `model.onnx` is told of where it lies beside."""
    return render("card.md.j2", card=card, has_onnx=has_onnx) + "\n"


def nearest_preset(settings: Settings) -> tuple[str, dict[str, Scalar]]:
    """The preset that fewest settings differ from, and those; places and numbers of people do not count."""
    flat = {key: value for key, value in settings.to_flat().items() if key not in (*PLACES, *_SIZED)}
    flat = {key: value for key, value in flat.items() if MEANINGS[key].shapes_result}
    found = {}
    for file in sorted(PRESETS.glob("*.toml")):
        preset = Settings.from_flat(read_preset(file)).to_flat()
        found[file.stem] = {key: value for key, value in flat.items() if value != preset[key]}
    return min(found.items(), key=lambda one: len(one[1]))


def _history(run: Path, checkpoint: Checkpoint) -> list[RoundRow]:
    """Rows up to the checkpoint's round, whose clients told of their work."""
    history = [row for row in read_history(run) if row.round <= checkpoint.round and row.clients]
    if not history:
        raise ConfigError(f"{run} has no history.jsonl with a finished round; wanted a run folder as `train` writes it")
    return history


def _num_values(checkpoint: Checkpoint) -> int:
    return sum(value.size for name, value in checkpoint.tensors.items() if not is_of_discriminator(name))


def _epsilon(row: RoundRow) -> tuple[float, float] | None:
    if "dp_epsilon" not in row.metrics:
        return None
    return row.metrics["dp_epsilon"], row.metrics["dp_delta"]


def _audit(folder: Path | None, run: Path, weights_sha256: str) -> TextTable | None:
    found = read_audit_table(folder if folder is not None else run, weights_sha256)
    if folder is not None and found is None:
        raise ConfigError(f"--audit {folder}: no audit.json in it; wanted a folder that `audit --out` wrote")
    return found
