"""Commands about people's consent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.terminal import console, error_console, say_error, say_where
from model.errors import DataError, FedreenactError

if TYPE_CHECKING:
    from data_partition.consent.releases import Release


def consent(
    people: Annotated[
        list[Path], typer.Argument(metavar="PERSON...", help="Folders of people, or pictures and videos of one each.")
    ],
) -> None:
    """Write a record of consent to fill in for each person; of those who have one, say what it allows today.

    Exit code 2 if something of that failed for somebody; everybody else has a record or is told of then.
    """
    from data_partition.consent.record import is_consent_file

    errors: list[str] = []
    for person in (one for one in people if not is_consent_file(one)):  # of VIDEOS/*
        with _noted(errors):
            _write_or_say_consent(person)
    _end_with(errors)


@contextlib.contextmanager
def _noted(errors: list[str]) -> Iterator[None]:
    """What goes wrong for one is added, so that the others get their turn."""
    try:
        yield
    except (FedreenactError, OSError) as error:
        errors.append(str(error))


def _end_with(errors: list[str]) -> None:
    """Say what went wrong, a line each; exit code 2 if anything did."""
    for text in errors:
        say_error(text)
    if errors:
        raise typer.Exit(2)


def _write_or_say_consent(person: Path) -> None:
    from data_partition.consent.kinds import Role
    from data_partition.consent.record import consent_file, read_consent
    from data_partition.consent.template import may_be_of_several, write_template

    path = consent_file(person)
    if not path.is_file():
        say_where({"To fill in": write_template(person)})
        if may_be_of_several(person):
            text = f"if {person} has a video or folder for each of several people, remove that and give {person}/*"
            console.print(escape(text), soft_wrap=True)
        return
    record = read_consent(path)
    for role in Role:
        allowed = record.refusal(role, date.today()) or f"yes, until {record.expires}"
        console.print(f"{escape(record.person)}, {role}: {escape(allowed)}", soft_wrap=True)


def withdraw(
    person: Annotated[str, typer.Argument(help="Name of the shard, by which runs know the person too.")],
    dataset: Annotated[Path, typer.Argument(help="Dataset that the person leaves.")],
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUNS]...", help="Folders of runs to mark, at any depth.")
    ] = None,
) -> None:
    """Take a person who withdrew out of a dataset, and mark every run that learnt the person, and its releases.

    Nothing is drawn with a marked run and none goes on training; evaluate warns. Runs are marked first.
    """
    from data_partition.consent.withdrawal import mark_release, mark_withdrawn, remove_person, runs_that_learnt

    found = [runs_that_learnt(folder, person) for folder in runs or ()]
    learnt = [run for one in found for run in one.learnt]
    releases = [release for one in found for release in one.releases]
    errors: list[str] = []
    for run in learnt:
        with _noted(errors):
            mark_withdrawn(run, person)
            console.print(f"[yellow]learnt {escape(person)}:[/] {escape(str(run))}, marked", soft_wrap=True)
    for release in releases:
        with _noted(errors):
            _say_release(release, person, mark_release(release, person, runs or ()))
    for problem in (line for one in found for line in one.unreadable):
        error_console.print(f"[yellow]not looked at:[/] {escape(problem)}", soft_wrap=True)
    source = remove_person(dataset, person)
    if source is None and not learnt and not releases:
        raise DataError(f"{person}: neither in the dataset {dataset} nor in a run that was named")
    if source is not None:
        console.print(f"{escape(person)} is removed from {escape(str(dataset))}", soft_wrap=True)
    _say_what_is_left(source, has_runs=bool(learnt), has_releases=bool(releases))
    _end_with(errors)


def _say_release(release: Release, person: str, copies: list[Path]) -> None:
    """Where a release has the person, and which of its copies were found."""
    where = ", ".join(f"{copy}, marked" for copy in copies) or f"{release.folder}, no longer there"
    console.print(
        f"[yellow]released {release.released} with {escape(person)} as {release.name_of(person)}:[/] {escape(where)}; "
        f"SHA-256 of its weights {release.weights_sha256}",
        soft_wrap=True,
    )


def _say_what_is_left(source: str | None, *, has_runs: bool, has_releases: bool) -> None:
    """What the command cannot do."""
    if source:
        console.print(
            f"Left to do: the videos in {escape(source)}; `prepare` brings back who is there. Set `revoked` in the "
            "record of consent, or remove the person's folder",
            soft_wrap=True,
        )
    if has_runs:
        console.print("Left to do: train anew, then remove the marked runs and all copies of them", soft_wrap=True)
    if has_releases:
        console.print("Left to do: take down the releases, and ask whoever has a copy to delete it", soft_wrap=True)
