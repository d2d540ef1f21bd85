"""`fedreenact audit`: attacks on a trained run, measured against chance, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data_partition.shards.shard import Shard, open_dataset
from evaluation.attacks.membership import draw_probe
from experiments.audit.charts import pictures_png, shares_png
from experiments.audit.files import Audit, write_audit
from experiments.audit.identification import identification_section
from experiments.audit.inversion import Recovered, inversion_section
from experiments.audit.membership import Person, frame_section, look_at, person_section
from experiments.audit.section import Section
from federation.settings import Settings
from model.checkpoint import Checkpoint, load_checkpoint
from model.errors import ConfigError, DataError
from model.progress import Progress

_MOST_FRAMES = 100
"""Frames of each person that are asked about on each side of the split."""

_SECURE = (
    'What a secure sum (secure-aggregation) changes: the server sees the row "sum of all sites" in place of "one '
    "site's update\". It changes nothing about membership and templates: these are told from the finished model, "
    "which everybody gets. Noise (dp-noise-multiplier) is in the run's model and in the attacked rounds, if the run "
    "asks for it."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRequest:
    """What to audit."""

    run: Path
    """A run folder for its newest intact round, or a round folder."""
    dataset: Path
    """The run's people, matched by name, and other people."""
    references: tuple[Path, ...]
    """Runs trained without some of the people."""
    out: Path
    seed: int
    """Of pairs, attacks and intervals, >= 0."""


def run_audit(request: AuditRequest, progress: Progress) -> tuple[Audit, dict[str, Path]]:
    """Attack a run and write what came of it.

    Args:
        request: what to do.
        progress: called as the work goes on.

    Returns:
        The audit, and what is in which file.

    Raises:
        CheckpointError: if a run has no intact checkpoint.
        ConfigError: if a reference is of another image size, or the seed is negative.
        DataError: if the dataset cannot be used, or has nobody that the run knows.
        WeightsError: if the files of the perceptual term are missing.
    """
    if request.seed < 0:
        raise ConfigError(f"--seed: got {request.seed}, wanted at least 0")
    run = load_checkpoint(request.run)
    shards = open_dataset(request.dataset)
    if not any(shard.identity in run.identities for shard in shards):
        raise DataError(
            f"{request.dataset}: has {', '.join(shard.identity for shard in shards)}, and the run was trained on "
            f"{', '.join(run.identities)}; give the dataset that it was trained on"
        )
    settings = Settings.from_flat(run.settings)
    torch.set_num_threads(settings.optimizer.num_threads)
    size_px = settings.model.image_size_px
    references = [_reference(path, size_px) for path in request.references]
    people = _people(shards, run, references, size_px, request.seed, progress)
    inversion, recovered = inversion_section(shards, run, seed=request.seed, progress=progress)
    sections = (
        frame_section(people, seed=request.seed),
        person_section(people, seed=request.seed),
        identification_section(shards, run, size_px, seed=request.seed),
        inversion,
    )
    audit = Audit(
        name=request.run.name,
        weights_sha256=run.networks().weights_sha256(),
        head=_head(request, run, shards),
        sections=sections,
        charts=_charts(sections, recovered),
    )
    return audit, write_audit(request.out, audit)


def _reference(path: Path, size_px: int) -> Checkpoint:
    reference = load_checkpoint(path)
    theirs_px = Settings.from_flat(reference.settings).model.image_size_px
    if theirs_px != size_px:
        raise ConfigError(
            f"--reference {path}: draws {theirs_px} px, the run {size_px} px; train it with equal settings"
        )
    return reference


def _people(
    shards: Sequence[Shard],
    run: Checkpoint,
    references: Sequence[Checkpoint],
    size_px: int,
    seed: int,
    progress: Progress,
) -> list[Person]:
    """Everybody with frames to ask about."""
    people = []
    for number, shard in enumerate(shards, 1):
        probe = draw_probe(shard, most=_MOST_FRAMES, seed=seed)
        if not probe.is_trained_on_N.all():  # somebody without held-out frames cannot be asked about
            people.append(look_at(probe, run, references, size_px))
        progress("Asking about people", number, len(shards))
    return people


def _head(request: AuditRequest, run: Checkpoint, shards: Sequence[Shard]) -> tuple[str, ...]:
    settings = Settings.from_flat(run.settings)
    known = [shard.identity for shard in shards if shard.identity in run.identities]
    others = [shard.identity for shard in shards if shard.identity not in run.identities]
    said = (
        f"Round {run.round} of {request.run.name}, trained on {', '.join(run.identities)}. "
        f"Asked about {', '.join(known)}"
        + (f" and, as people it does not know, {', '.join(others)}" if others else "")
        + f". References: {', '.join(path.name for path in request.references) or 'none'}. "
        f"secure-aggregation is {'on' if settings.privacy.secure_aggregation else 'off'}, dp-noise-multiplier "
        f"{settings.privacy.dp_noise_multiplier:g}. Seed {request.seed}."
    )
    return (said, _SECURE)


def _shown(recovered: Sequence[Recovered]) -> list[Recovered]:
    """Of every attack the picture that came out best and the one that came out worst."""
    shown: list[Recovered] = []
    for attack in dict.fromkeys(one.attack for one in recovered):
        ranked = sorted((one for one in recovered if one.attack == attack), key=lambda one: one.found.psnr_db)
        shown += [ranked[-1]] if len(ranked) == 1 else [ranked[-1], ranked[0]]
    return shown


def _charts(sections: Sequence[Section], recovered: Sequence[Recovered]) -> dict[str, bytes]:
    shares = {
        name: figure
        for section in sections
        for name, figure in section.figures.items()
        if figure.chance > 0  # decibels above a guess have none
    }
    charts = {"Shares and areas beside chance": shares_png(shares)} if shares else {}
    return charts | (
        {"What was read, beside the frame: the best and the worst of each attack": pictures_png(_shown(recovered))}
        if recovered
        else {}
    )
