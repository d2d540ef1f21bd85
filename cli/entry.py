"""The commands together, and what becomes of their errors."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import typer
from rich.markup import escape

from cli import data, federate, train, use
from cli.terminal import error_console
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
    train.train,
    federate.submit,
    federate.register,
    federate.deployment,
    use.reenact,
    use.evaluate,
    use.report,
    use.audit,
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error a user can cause becomes one line on stderr and exit code 2, SIGTERM one and 143."""
    os.umask(0o077)  # faces, and what is trained on them, are for the user who made them
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        app(args=arguments, prog_name="fedreenact")
    except TerminatedError as error:
        error_console.print(f"{escape(str(error))}; what is finished is kept, --resume goes on", soft_wrap=True)
        raise SystemExit(EXIT_CODE) from None
    except (FedreenactError, OSError) as error:
        error_console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
