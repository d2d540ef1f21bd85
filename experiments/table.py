"""What a table of `fedreenact experiment` is: its rows as settings, its protocol, and what somebody printed of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from evaluation.metrics.catalogue import Metric
from evaluation.pairs import Protocol
from model.errors import ConfigError
from model.setting import Scalar
from reenact.guidance_choice import Guidance, MotionKind
from server.training import Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRow:
    """One model of a table."""

    label: str
    """As the thesis calls it, if it stands there."""
    changes: dict[str, Scalar] = field(default_factory=dict)
    """Settings that differ from the preset's; rows with the same ones and the same mode share a training."""
    mode: Mode = Mode.CENTRALIZED
    guidance: Guidance = Guidance.DRIVING
    """Landmarks at evaluation when two people meet."""
    motion: MotionKind = MotionKind.ABSOLUTE
    """Relative results are drawn from the pair's own source alone, to which the reference is chosen."""

    def num_sources(self, wanted: int) -> int:
        """Source frames of each of its results, of as many as a table wants."""
        return 1 if self.motion is MotionKind.RELATIVE else wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentTable:
    """One table."""

    title: str
    protocol: Protocol
    unseen_protocol: Protocol | None = None
    """Of pairs of people whom the models have not seen, where the table can be about such a dataset."""
    metrics: tuple[Metric, ...]
    rows: tuple[ModelRow, ...]
    published: tuple[tuple[str, ...], ...] = ()
    """As the thesis printed it: model and its values in the order of `metrics`; empty where it has no such table."""


FOLLOWING_USE_FLOW: dict[str, Scalar] = {"use-landmark-flow": False, "num-sources": 1}
"""Changes of a row without flow besides: landmark motions are part of the flow, and choose among several sources."""


def with_backbone(table: ExperimentTable, backbone: str) -> ExperimentTable:
    """The table with every GLR row on one backbone, rows that become equal once."""
    names = {"vit": "ViT", "resnet34": "ResNet"}
    rows: list[ModelRow] = []
    for row in table.rows:
        was = row.changes.get("backbone")
        if was is not None:
            label = row.label.replace(names[str(was)], names[backbone])
            row = replace(row, label=label, changes=row.changes | {"backbone": backbone})
        if row not in rows:
            rows.append(row)
    return replace(table, rows=tuple(rows))


def of_unseen(table: ExperimentTable) -> ExperimentTable:
    """The table about people whom the models have not seen.

    Raises:
        ConfigError: if it is about people they know.
    """
    if table.unseen_protocol is None:
        raise ConfigError(f"--unseen: {table.title!r} is about people whom the models know; leave the option out")
    return replace(table, protocol=table.unseen_protocol)


def in_mode(table: ExperimentTable, mode: Mode) -> ExperimentTable:
    """The table with every row trained in one mode, rows that become equal once."""
    rows: list[ModelRow] = []
    for row in table.rows:
        label = row.label.removesuffix(" (C)").removesuffix(" (F)")
        row = replace(row, label=label, mode=mode)
        if row not in rows:
            rows.append(row)
    return replace(table, rows=tuple(rows))
