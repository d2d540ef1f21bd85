"""A deployed site notices when its data are not those with which it began a run. Nothing of it leaves the site."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from data_partition.shards.content import ShardContent
from data_partition.shards.shard import Shard
from model.errors import DataError
from model.files import read_json, write_json
from model.run_files import RunFiles

_log = logging.getLogger(__name__)

_NAME = "known-data.json"


def check_known_data(folder: Path, run_id: str, shard: Shard) -> None:
    """Compare a site's shard with what the site last trained on in a run, and keep it on disk as known.

    Other frames of the same person are said in the site's log and no error: somebody may take back part of what they
    agreed to while a run goes on.

    Args:
        folder: for the site's state; the file lies beside the run's moments.
        run_id: the server's name of the run.
        shard: the site's, as it is now.

    Raises:
        DataError: if it is another person's: the run knows this site's identity by the first one's face.
    """
    path = RunFiles(folder=folder, run_id=run_id).run_folder / _NAME
    now, before = ShardContent.of(shard), _read(path)
    if before is not None:
        _compare(path, shard, before, now)
    if before != (shard.identity, now):
        write_json(path, {"identity": shard.identity, **dataclasses.asdict(now)}, is_private=True)


def _compare(path: Path, shard: Shard, before: tuple[str, ShardContent], now: ShardContent) -> None:
    identity, content = before
    if identity != shard.identity:
        raise DataError(
            f"{shard.path}: holds {shard.identity}, this site began the run with {identity}, whose name in the model "
            f"would go to somebody else; put the shard of {identity} back, or leave the run. If it is the same person "
            f"under another name, remove {path}"
        )
    if changes := content.changes(now):
        _log.warning("%s: other frames than before in this run: %s", shard.path, changes)
    elif content.is_annotated_anew(now):
        _log.warning("%s: the same frames as before in this run with other annotations", shard.path)


def _read(path: Path) -> tuple[str, ShardContent] | None:
    """Name and content; None if the site has not trained in the run, or the file is damaged."""
    try:
        values = read_json(path)
        return str(values.pop("identity")), ShardContent(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read (%s): the site's data are not compared", path, type(error).__name__)
        return None
