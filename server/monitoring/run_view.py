"""A run as its folder tells it: read by the exporter and by `fedreenact status`, never written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import round_folders
from model.errors import ConfigError
from server.run_folder.folder import HISTORY_NAME, RUN_NAME, read_history, read_result, read_run_id
from server.run_folder.live_status import Live

STATES = ("waiting", "training", "completed", "failed", "lost")
_SILENCE_S = 180.0
"""A reply of hundreds of megabytes takes minutes to fetch over a busy machine, and nothing is written meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """One moment of a run."""

    folder: Path
    run_id: str
    history: list[dict[str, Any]]
    """Rows of history.jsonl, the oldest first."""
    live: Live | None
    result: Mapping[str, str] | None
    checkpoints: list[Path]
    """Folders of the kept rounds, the oldest first."""

    @classmethod
    def read(cls, folder: Path) -> RunView:
        """What the folder says now.

        Raises:
            ConfigError: if the folder holds no run.
        """
        if not (folder / RUN_NAME).is_file():
            raise ConfigError(f"{folder} holds no run; wanted a folder that `train` or a deployed run has written to")
        return cls(
            folder=folder,
            run_id=read_run_id(folder),
            history=read_history(folder),
            live=Live.read(folder),
            result=read_result(folder),
            checkpoints=round_folders(folder),
        )

    def state(self, now: float) -> str:
        """One of `STATES`; lost if the server app has not written for three minutes though the run has not ended.

        Args:
            now: Unix seconds.
        """
        if self.result is not None:
            return self.result["status"]
        if self.live is None:
            return "waiting"
        if now - self.live.time > _SILENCE_S and not self._is_between_writes(now):
            return "lost"
        return "waiting" if self.live.phase == "waiting" else "training"

    @property
    def last(self) -> dict[str, Any]:
        """The newest row of the history; empty before the first round's end."""
        return self.history[-1] if self.history else {}

    def sites(self) -> list[str]:
        """Partition ids of all sites that took part or were seen, ascending."""
        found = set(self.live.last_contact) if self.live else set()
        for row in self.history:
            found |= set(row["clients"]) | set(row["rejected"])
        return sorted(found, key=int)

    def total(self, site: str, name: str, *, of: str) -> float:
        """Sum over all rounds of a site's number `name` in the rows' part `of`."""
        return float(sum(row.get(of, {}).get(site, {}).get(name, 0.0) for row in self.history))

    def rejections(self, site: str) -> dict[str, int]:
        """How often the site was left out, by kind of reason."""
        counts: dict[str, int] = {}
        for row in self.history:
            kind = row.get("rejected_kinds", {}).get(site)
            if kind is not None:
                counts[kind] = counts.get(kind, 0) + 1
        return counts

    def _is_between_writes(self, now: float) -> bool:
        """Aggregation and evaluation take as long as they take, without a word."""
        return bool(self.last) and now - float(self.last.get("time", 0.0)) <= _SILENCE_S


def newest_run(root: Path) -> Path | None:
    """The folder itself if it holds a run, else the folder below it whose run was last written to."""
    if (root / RUN_NAME).is_file():
        return root
    runs = [path.parent for path in root.glob(f"*/{RUN_NAME}")]
    return max(runs, key=_last_written, default=None)


def _last_written(run: Path) -> float:
    return max((run / name).stat().st_mtime for name in (RUN_NAME, HISTORY_NAME) if (run / name).exists())
