"""The commands together, and what becomes of their errors."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import NoReturn, cast

import click
import typer
import typer.main
from rich.markup import escape

from cli import consent, data, federate, marks, publish, train, use
from cli.terminal import error_console, say_error
from model.errors import FedreenactError
from server.termination import EXIT_CODE, TerminatedError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated face reenactment with generative landmark guidance.",
)
for _command in (
    data.prepare,
    data.synth,
    data.doctor,
    consent.consent,
    consent.withdraw,
    train.train,
    federate.submit,
    federate.register,
    federate.unregister,
    federate.deployment,
    use.reenact,
    use.serve,
    marks.verify,
    marks.key,
    use.evaluate,
    use.report,
    use.audit,
    publish.card,
    publish.release,
    publish.export,
    use.gap,
    train.experiment,
    train.demo,
    federate.egress,
    federate.approve,
    federate.status,
    federate.exporter,
    train.weights,
    train.settings,
):
    app.command()(_command)


@cache
def group() -> click.Group:
    """All commands as one; typer reads their signatures anew at each call of `app`."""
    return cast(click.Group, typer.main.get_command(app))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error a user can cause becomes one line on stderr and exit code 2, SIGTERM one and 143."""
    os.umask(0o077)  # faces, and what is trained on them, are for the user who made them
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding does not have
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        raise SystemExit(group().main(args=arguments, prog_name="fedreenact", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except TerminatedError as error:
        error_console.print(f"{escape(str(error))}; what is finished is kept, --resume goes on", soft_wrap=True)
        raise SystemExit(EXIT_CODE) from None
    except click.ClickException as error:
        _fail(error.format_message())
    except UnicodeEncodeError as error:
        _fail(f"{error.object!a}: a name that is not UTF-8 cannot be used here; rename the file or folder")
    except (FedreenactError, OSError) as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    say_error(text)
    raise SystemExit(2) from None


if __name__ == "__main__":
    main()
