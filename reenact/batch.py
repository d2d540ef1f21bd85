"""Every source of a folder driven by every clip and picture of another, and one table of what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from data_partition.sources.records import visible
from data_partition.sources.video import is_clip, is_picture
from model.errors import ConfigError, DataError, FedreenactError
from model.files import csv_text, json_sha256, read_csv, write_text
from model.progress import Progress
from reenact.request import ReenactReport, ReenactRequest
from reenact.studio import Studio

TABLE_NAME = "results.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRow:
    """What came of one source and one driving input: a row of the table, every field as text."""

    source: str
    """Name in its folder."""
    driving: str
    """Name in its folder."""
    result: str = ""
    """Name of the file that was written; "" if none was."""
    frames: str = ""
    without_face: str = ""
    """Number of driving frames without a face."""
    landmarks: str = ""
    """What they were made by."""
    reference: str = ""
    """Index of the driving frame that motion is relative to; "" for absolute motion."""
    sound: str = ""
    """What became of it; "" if there is none."""
    record: str = ""
    """Number in its watermark and manifest, hexadecimal."""
    made_of: str = ""
    """Digest of checkpoint, inputs and choices: a row that has it still need not be made again."""
    problem: str = ""
    """Why there is no result."""

    @classmethod
    def done(cls, source: str, driving: str, made_of: str, report: ReenactReport) -> BatchRow:
        """Of a pair that came out well."""
        return cls(
            source=source,
            driving=driving,
            result=report.out.name,
            frames=str(report.num_frames),
            without_face=str(sum(gap.last - gap.first + 1 for gap in report.gaps)),
            landmarks=report.guidance,
            reference="" if report.reference is None else str(report.reference),
            sound=report.sound,
            record=f"{report.record:06x}",
            made_of=made_of,
        )


def run_batch(
    request: ReenactRequest, *, device: torch.device, progress: Progress, on_row: Callable[[BatchRow], None]
) -> list[BatchRow]:
    """Reenact all pairs; what fails is a row with its reason and stops no other.

    Pairs that a table from before lists with a result made of the same are left as they are; the table is written after
    every pair, so a batch that was stopped goes on.

    Args:
        request: `sources` one folder of pictures, clips, shards and folders of pictures; `driving` a folder of pictures
            and clips; `out` the folder for results and table.
        device: where the networks run.
        progress: called for every frame of a clip.
        on_row: called for every pair once it is done.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        ConfigError: if a folder holds nothing to use, or two inputs that results would be named the same for.
        DataError: if a folder cannot be read.
    """
    if len(request.sources) != 1 or request.preview is not None:
        raise ConfigError("--batch: wanted one folder as --source, and no --preview")
    drivings, sources = _named_inputs(request.driving, "--driving"), _named_inputs(request.sources[0], "--source")
    table = request.out / TABLE_NAME
    before = {(row.source, row.driving): row for row in read_table(table)}
    studio = Studio(request.checkpoint, device, progress)
    rows: list[BatchRow] = []
    for driving_name, driving in drivings.items():
        for source_name, source in sources.items():
            out = request.out / f"{source_name}--{driving_name}{'.mp4' if is_clip(driving) else '.png'}"
            one = replace(request, sources=(source,), driving=driving, out=out)
            rows.append(_one_row(studio, one, before.get((source.name, driving.name))))
            write_table(table, [*rows, *_later(before, rows)])
            on_row(rows[-1])
    write_table(table, rows)
    return rows


def read_table(path: Path) -> list[BatchRow]:
    """The rows of a table; none if there is no table.

    Raises:
        DataError: if it is not one that this program wrote.
    """
    if not path.is_file():
        return []
    names = {one.name for one in fields(BatchRow)}
    try:
        lines = read_csv(path)
        if any(line.keys() != names for line in lines):
            raise ValueError(f"wanted the columns {', '.join(sorted(names))}")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a table of results ({error}); mend it or move it away") from error
    return [BatchRow(**line) for line in lines]


def write_table(path: Path, rows: list[BatchRow]) -> None:
    """Write the table whole or not at all."""
    header = [one.name for one in fields(BatchRow)]
    write_text(path, csv_text(header, ([asdict(row)[name] for name in header] for row in rows)))


def _later(before: dict[tuple[str, str], BatchRow], rows: list[BatchRow]) -> Iterator[BatchRow]:
    """Rows from before that are not gone through yet: a batch that is stopped must not forget them."""
    gone_through = {(row.source, row.driving) for row in rows}
    return (row for pair, row in before.items() if pair not in gone_through)


def _one_row(studio: Studio, request: ReenactRequest, before: BatchRow | None) -> BatchRow:
    source, driving = request.sources[0].name, request.driving.name
    try:
        made_of = json_sha256(studio.made_of(request))
        if before is not None and before.made_of == made_of and request.out.is_file():
            return before
        return BatchRow.done(source, driving, made_of, studio.run(request))
    except (FedreenactError, OSError) as error:
        return BatchRow(source=source, driving=driving, problem=str(error))


def _named_inputs(folder: Path, option: str) -> dict[str, Path]:
    """Pictures, clips and folders in a folder by the name that results have of them."""
    if not folder.is_dir():
        raise ConfigError(f"--batch: {option} {folder} is no folder; wanted one of pictures, clips and folders")
    found: dict[str, Path] = {}
    for path in visible(folder):
        if not (path.is_dir() or is_picture(path) or is_clip(path)):
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise ConfigError(f"--batch: {found[name]} and {path} would give results of one name; rename one")
        found[name] = path
    if not found:
        raise ConfigError(f"--batch: nothing to use in {option} {folder}; wanted pictures, clips and folders of them")
    return found
