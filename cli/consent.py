"""Commands about people's consent."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.terminal import console, say_where


def consent(
    people: Annotated[
        list[Path], typer.Argument(metavar="PERSON...", help="Folders of people, or pictures and videos of one each.")
    ],
) -> None:
    """Write a record of consent to fill in for each person; of those who have one, say what it allows today."""
    from data_partition.consent.kinds import Role
    from data_partition.consent.record import consent_file, is_consent_file, read_consent
    from data_partition.consent.template import write_template

    for person in (one for one in people if not is_consent_file(one)):  # of VIDEOS/*
        path = consent_file(person)
        if not path.is_file():
            say_where({"To fill in": write_template(person)})
            continue
        record = read_consent(path)
        for role in Role:
            allowed = record.refusal(role, date.today()) or f"yes, until {record.expires}"
            console.print(f"{escape(record.person)}, {role}: {escape(allowed)}", soft_wrap=True)
