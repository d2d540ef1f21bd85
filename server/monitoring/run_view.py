"""A run as its folder tells it: read by the exporter and by `fedreenact status`, never written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint import round_folders
from model.errors import ConfigError
from server.run_folder.history import HISTORY_NAME, RoundRow, read_history
from server.run_folder.live_status import Live, Phase
from server.run_folder.record import RECORD_NAME, RunRecord
from server.run_folder.result import RunResult, RunState

_SILENCE_S = 180.0
"""A reply of hundreds of megabytes takes minutes to fetch over a busy machine, and nothing is written meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """One moment of a run."""

    folder: Path
    run_id: str
    history: list[RoundRow]
    """The oldest first."""
    live: Live | None
    result: RunResult | None
    checkpoints: list[Path]
    """Folders of the kept rounds, the oldest first."""

    @classmethod
    def read(cls, folder: Path) -> RunView:
        """What the folder says now.

        Raises:
            ConfigError: if the folder holds no run.
        """
        if not (folder / RECORD_NAME).is_file():
            raise ConfigError(f"{folder} holds no run; wanted a folder that `train` or a deployed run has written to")
        return cls(
            folder=folder,
            run_id=RunRecord.read(folder).run_id,
            history=read_history(folder),
            live=Live.read(folder),
            result=RunResult.read(folder),
            checkpoints=round_folders(folder),
        )

    def state(self, now: float) -> RunState:
        """Where the run stands; lost if the server app has not written for three minutes though the run has not ended.

        Args:
            now: Unix seconds.
        """
        if self.result is not None:
            return self.result.state
        if self.live is None:
            return RunState.WAITING
        if now - self.live.time > _SILENCE_S and not self._is_between_writes(now):
            return RunState.LOST
        return RunState.WAITING if self.live.phase is Phase.WAITING else RunState.TRAINING

    def connected(self, now: float) -> list[int] | None:
        """Partition ids of the sites that are connected; None where nobody looks, after the end or without server app.

        Args:
            now: Unix seconds.
        """
        if self.live is None or self.state(now) not in (RunState.WAITING, RunState.TRAINING):
            return None
        return self.live.connected

    @property
    def last(self) -> RoundRow | None:
        """The newest row of the history; None before the first round's end."""
        return self.history[-1] if self.history else None

    def newest(self, site: int) -> RoundRow | None:
        """The last round in which a site was accepted."""
        return next((row for row in reversed(self.history) if site in row.clients), None)

    def sites(self) -> list[int]:
        """Partition ids of all sites that took part or were seen, ascending."""
        found = set(self.live.last_contact) if self.live else set()
        for row in self.history:
            found |= row.clients.keys() | row.rejected.keys()
        return sorted(found)

    def never_seen(self) -> list[int]:
        """Partition ids of sites that are to take part and have not been here, ascending; none after the end."""
        if self.live is None or self.result is not None:
            return []
        return sorted(set(range(self.live.num_sites)) - set(self.sites()))

    def num_rounds(self, site: int) -> int:
        """Rounds in which a site was accepted."""
        return sum(site in row.clients for row in self.history)

    def rejections(self, site: int) -> dict[str, int]:
        """How often the site was left out, by kind of reason."""
        return dict(Counter(row.rejected_kinds[site] for row in self.history if site in row.rejected_kinds))

    def _is_between_writes(self, now: float) -> bool:
        """Aggregation and evaluation take as long as they take, without a word."""
        return self.last is not None and now - self.last.time <= _SILENCE_S


def newest_run(root: Path) -> Path | None:
    """The folder itself if it holds a run, else the folder below it whose run was last written to."""
    if (root / RECORD_NAME).is_file():
        return root
    runs = [path.parent for path in root.glob(f"*/{RECORD_NAME}")]
    return max(runs, key=_last_written, default=None)


def _last_written(run: Path) -> float:
    return max((run / name).stat().st_mtime for name in (RECORD_NAME, HISTORY_NAME) if (run / name).exists())
