"""What a person sees in the terminal: progress bars, one line a round, a table of results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from evaluation.figures.tables import TextTable
    from server.run_folder.history import RoundRow

console = Console(highlight=False)
error_console = Console(stderr=True, highlight=False)

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as shells have it."""
_ROUNDS = "Rounds, at most"
"""The stopping rule may end training sooner."""


class LiveProgress:
    """Progress bars with rate and time left, and one line a round."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            speed_estimate_period=600,
        )
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._max_rounds = 0

    def progress(self, text: str, done: int, total: int) -> None:
        """`done` of `total` (0 if unknown) units of the work that `text` names."""
        if text not in self._tasks:
            self._tasks[text] = self._bars.add_task(escape(text))
        self._bars.update(self._tasks[text], completed=done, total=total or None)

    def start_rounds(self, max_rounds: int) -> None:
        """Show the bar of rounds before the first one is done."""
        self._max_rounds = max_rounds
        self.progress(_ROUNDS, 0, max_rounds)

    def on_round(self, row: RoundRow) -> None:
        """One finished round."""
        self.progress(_ROUNDS, row.round, self._max_rounds)
        self._console.print(round_line(row), soft_wrap=True)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self._bars.stop()


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each", style="progress.data.speed")


def round_line(row: RoundRow) -> str:
    """A finished round in words: losses, Var(L_G) against tau, time, and who was left out and why."""
    variance = row.variance_loss_generator
    means = [f"L_G {row.loss_generator:.3f}"] if row.loss_generator is not None else []
    means += row.discriminators_in_words()
    told = [(site, values.get("loss_generator")) for site, values in row.clients.items()]
    clients = " ".join(f"{site}:{loss:.2f}" for site, loss in told if loss is not None)
    parts = [
        f"round {row.round}",
        *(means or ["losses stay at the sites"]),
        *([f"[dim]{clients}[/]"] if clients else []),
        "Var(L_G) too early" if variance is None else f"Var(L_G) {variance:.3g}, tau {row.tau:g}",
        f"{row.seconds:.0f} s",
    ]
    if "dp_epsilon" in row.metrics:
        parts.append(f"epsilon {row.metrics['dp_epsilon']:.3g}, delta {row.metrics['dp_delta']:g} a person")
    parts += [f"[yellow]left out {site}: {escape(reason)}[/]" for site, reason in row.rejected.items()]
    if row.stop:
        parts.append(f"[bold]stopped by {row.stop}[/]")
    return " | ".join(parts)


def rich_table(table: TextTable) -> Table:
    """Any table of an evaluation."""
    view = Table(*map(escape, table.header), title=escape(table.title), title_justify="left")
    for row in table.rows:
        view.add_row(*map(escape, row))
    return view


def say_lines(title: str, lines: list[str], style: str = "") -> None:
    """A bold title and lines below it, of a rich style."""
    console.print(f"[bold]{escape(title)}:[/]")
    for line in lines:
        console.print(f"  {line}", style=style, markup=False, soft_wrap=True)


def say_error(text: str) -> None:
    """What went wrong, as one line on stderr."""
    error_console.print(f"[bold red]error:[/] {escape(' '.join(text.splitlines()))}", soft_wrap=True)


@contextlib.contextmanager
def saying_when_interrupted(text: str) -> Iterator[None]:
    """Ctrl-C is one line on stderr and its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        error_console.print(text, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None


def say_where(places: Mapping[str, object]) -> None:
    """One line for each: what it is in bold, and where it lies."""
    for name, place in places.items():
        console.print(f"[bold]{escape(name)}:[/] {escape(str(place))}", soft_wrap=True)
