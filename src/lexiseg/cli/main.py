"""Runs commands, each a thin layer over one public function.

Exit codes: 0 done, 1 a `LexisegError` (one line on stderr says what was wrong, what was given and what to do), 2 bad
usage, 130 interrupted. Data goes to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from typer.main import get_command

from lexiseg import __version__
from lexiseg.cli import (
    bench,
    common,
    compare,
    convert,
    data,
    demo,
    doctor,
    evaluate,
    listing,
    names,
    oracle,
    prompts,
    segment,
    serve,
    sweep,
    train,
)
from lexiseg.cli.common import examples
from lexiseg.cli.streams import lasting
from lexiseg.errors import LexisegError

__all__ = ["app", "main"]

app = typer.Typer(
    name="lexiseg",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=examples("lexiseg demo", 'lexiseg segment photos/ --words "road, car, person|pedestrian" --out labelled'),
    help="Name what you look for in plain words; every pixel of your photographs is labelled with those words.",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"lexiseg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


COMMANDS = (
    demo,
    segment,
    serve,
    evaluate,
    compare,
    sweep,
    prompts,
    oracle,
    train,
    convert,
    data,
    bench,
    listing,
    doctor,
)
for module in COMMANDS:
    module.register(app)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    # Waiting threads that spin make a busy machine three times slower (docs/performance.md). OpenMP reads this once,
    # when torch is imported, so it must be set before; a user's own choice stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with lasting():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    command = get_command(app)
    with names.running(command, given):
        try:
            command(given, prog_name="lexiseg")
        except SystemExit as stop:  # typer's own way to end, after bad usage too
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except LexisegError as error:
            common.note(f"error: {' '.join(str(error).split())}")
            return 1
    return 0


def run() -> None:
    """The entry point of the `lexiseg` script."""
    sys.exit(main())
