"""One trained and evaluated model of a table, kept under a hash of mode, data and the settings not at their default.

Not of the program: what an earlier version trained or measured is taken as it is, and a table says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_partition.shards.shard import BLENDSHAPES_COLUMN, MESH_COLUMN, METADATA_NAME, Shard, open_dataset
from evaluation.metrics.perceptual_distance import measures_with_vgg19
from evaluation.pairs import Protocol
from experiments.table import ModelRow
from federation.settings import MEANINGS, Settings, differences, read_preset
from model.designs.design import ALL_SETTINGS
from model.designs.registry import design_of
from model.errors import ConfigError
from model.files import json_sha256
from model.setting import Scalar
from reenact.guidance_choice import Guidance, MotionKind
from server.run_folder.folder import SETTINGS_NAME
from server.run_folder.history import read_history, spent
from server.run_folder.record import RECORD_NAME, RunRecord
from server.run_folder.result import RunResult, RunState
from server.training import Mode

Train = Callable[[Mode, Settings], object]
"""Trains into the settings' output-dir, going on with what is there if the settings say so."""

_KEPT = frozenset({"num-sources", "use-landmark-flow", "num-identities", "patch-size-px", "flow-seed-px"})
"""Settings that every network has from the preset, whether it knows them or not: a model that was trained with
num-sources above 1 can be evaluated so, and the others have to fit it, the dataset or the size of the frames."""
_LOCAL_SCHEDULES = (
    "flow-warmup-steps",
    "adversarial-from-step",
    "adversarial-lead-steps",
    "adversarial-ramp-steps",
    "decay-from-step",
    "decay-halving-steps",
)
"""Settings that count local steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What every model of a table may spend, however it is trained."""

    num_steps: int
    """Optimiser steps in total, over all sites."""

    def apply(self, settings: Settings, mode: Mode) -> Settings:
        """Settings that spend it: as many rounds for every mode, and in each the same number of steps in total.

        A federated round of E steps at each of C sites becomes a centralized round of E * C steps, with the same batch
        size: equal steps, equal samples, equal computation. Schedules that count local steps are stretched alike.

        Raises:
            ConfigError: if the budget is less than one federated round.
        """
        rounds = settings.rounds
        steps_a_round = rounds.local_steps * rounds.num_clients
        num_rounds = self.num_steps // steps_a_round
        if num_rounds < 1:
            raise ConfigError(
                f"--budget {self.num_steps}: one round is {rounds.local_steps} local steps at "
                f"{rounds.num_clients} sites; wanted at least {steps_a_round}, or fewer with --set local-steps="
            )
        changes: dict[str, Scalar] = {"max-rounds": num_rounds, "tau": 0.0}
        if mode is Mode.CENTRALIZED:
            flat = settings.to_flat()
            changes["local-steps"] = steps_a_round
            changes |= {key: int(flat[key]) * rounds.num_clients for key in _LOCAL_SCHEDULES}
        return settings.replaced(changes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A training: rows that differ in landmarks at evaluation share one."""

    mode: Mode
    settings: Settings
    """Resolved, with the budget applied and its own seed."""
    folder: Path

    @property
    def run(self) -> Path:
        """Run folder."""
        return self.folder / "run"

    @property
    def is_trained(self) -> bool:
        """Whether training has ended as it should."""
        result = RunResult.read(self.run)
        return result is not None and result.state is RunState.COMPLETED

    def evaluation(
        self,
        protocol: Protocol,
        guidance: Guidance,
        motion: MotionKind,
        num_pairs: int,
        num_sources: int,
        dataset: Path,
        embedder: str = "sface",
    ) -> Path:
        """Folder of an evaluation of this training, named after all that it depends on but the program."""
        how = guidance if motion is MotionKind.ABSOLUTE else f"{guidance}-{motion}"
        how += f"-k{num_sources}" if num_sources > 1 else ""
        how += "" if embedder == "sface" else f"-{embedder}"
        how += "-vgg19" if measures_with_vgg19() else ""
        with_meshes = design_of(self.settings.model.network).needs_mesh
        name = f"{protocol}-{how}-{num_pairs}-{fingerprint(open_dataset(dataset), with_meshes=with_meshes)[:8]}"
        return self.folder / name

    def require_same_settings(self) -> None:
        """That what is there was begun with these settings: the folder's name says nothing of those at their default.

        Raises:
            ConfigError: with the differences, after a default was changed.
        """
        if not (self.run / SETTINGS_NAME).is_file():
            return
        changed = differences(read_preset(self.run / SETTINGS_NAME), shaping(self.settings))
        if changed:
            raise ConfigError(
                f"{self.run}: begun with other settings: {'; '.join(changed.values())}; put them back with --set, or "
                "use another --out"
            )

    def train(self, train: Train) -> None:
        """Train it if that has not been done; an interrupted training goes on where it was."""
        if self.is_trained:
            return
        self.run.mkdir(parents=True, exist_ok=True)
        train(self.mode, self.settings.replaced({"output-dir": str(self.run), "resume": True}))

    def version(self) -> str:
        """Of the program that trained it last; "" if its run does not say."""
        return RunRecord.read(self.run).version if (self.run / RECORD_NAME).is_file() else ""

    def spent(self) -> tuple[int, int]:
        """Optimiser steps and samples in total, counted from the run's history."""
        return spent(read_history(self.run), self.settings)


def cell_of(row: ModelRow, base: Settings, budget: Budget, *, seed: int, folder: Path) -> Cell:
    """The training of a row, for one seed.

    Args:
        row: of a table.
        base: preset and the user's changes; its data-dir is the dataset.
        budget: of every cell.
        seed: of the training.
        folder: where all cells are kept.
    """
    settings = budget.apply(base.replaced({**row.changes, "seed": seed}), row.mode)
    settings = _without_unused(settings)
    dataset, defaults = open_dataset(Path(settings.data.data_dir)), Settings().to_flat()
    depends_on: Mapping[str, Any] = {
        "settings": {key: value for key, value in shaping(settings).items() if value != defaults[key]},
        "mode": row.mode.value,
        "data": fingerprint(dataset, with_meshes=design_of(settings.model.network).needs_mesh),
    }
    key = json_sha256(depends_on)[:16]
    return Cell(mode=row.mode, settings=settings, folder=folder / key)


def shaping(settings: Settings) -> dict[str, Scalar]:
    """The settings that shape a result."""
    return {key: value for key, value in settings.to_flat().items() if MEANINGS[key].shapes_result}


def _without_unused(settings: Settings) -> Settings:
    """With the defaults in place of what the network does not know: whatever these are, it is the same training.

    X2Face knows neither backbone nor style.
    """
    unused = ALL_SETTINGS - design_of(settings.model.network).settings - _KEPT
    defaults = Settings().to_flat()
    return settings.replaced({key: defaults[key] for key in unused})


def fingerprint(shards: Sequence[Shard], *, with_meshes: bool = False) -> str:
    """SHA-256 over names and annotations of all shards: changes whenever a frame comes, goes or is annotated anew.

    A renewed record of consent changes nothing, and neither do face meshes, unless they are asked for.
    """
    left_out = set() if with_meshes else {MESH_COLUMN, BLENDSHAPES_COLUMN}
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(shard.identity.encode())
        table = pq.read_table(shard.path / METADATA_NAME).replace_schema_metadata(None)
        table = table.select([name for name in table.column_names if name not in left_out])
        with pa.BufferOutputStream() as content:
            with pa.ipc.new_stream(content, table.schema) as stream:
                stream.write_table(table)
            digest.update(content.getvalue())
    return digest.hexdigest()
