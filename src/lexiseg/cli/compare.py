"""Compares two evaluations, first their settings, then their numbers: `lexiseg compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lexiseg.cli import common, scoring

if TYPE_CHECKING:
    from lexiseg.evaluation.compare import Comparison
    from lexiseg.evaluation.result import Result


def register(app: typer.Typer) -> None:
    app.command(
        "compare", epilog=common.examples("lexiseg compare a.json b.json", "lexiseg compare a.json b.json --json")
    )(compare)


def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="A result of `lexiseg evaluate`.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="The result to compare it with.")],
    json: common.Json = False,
) -> None:
    """Compare two evaluations: settings first, then scores."""
    from lexiseg.evaluation.compare import compare as compare_results
    from lexiseg.evaluation.result import Result

    results = Result.load(first), Result.load(second)
    found = compare_results(*results)
    if json:
        common.print_json(asdict(found))
    else:
        _print(found, results, (first, second))


def _print(found: Comparison, results: tuple[Result, Result], paths: tuple[Path, Path]) -> None:
    for title, rows in (("Settings", found.settings), ("Circumstances", found.circumstances)):
        typer.echo(f"{title} that differ:" if rows else f"{title}: no difference.")
        if rows:
            typer.echo()
            cells = [(key, scoring.value(one), scoring.value(other)) for key, one, other in rows]
            common.print_table((title.lower(), str(paths[0]), str(paths[1])), cells)
        typer.echo()
    if found.reason:
        typer.echo(f"The numbers do not compare: {found.reason}.")
    names = [name for name in results[0].scores if name in results[1].scores]
    common.print_table(
        ("score, %", "A", "B", "A - B", "95 % interval", "A wins"), [_row(name, found, results) for name in names]
    )


def _row(name: str, found: Comparison, results: tuple[Result, Result]) -> tuple[str, ...]:
    values = [scoring.percent(result[name]) for result in results]
    if name not in found.scores:
        return (scoring.score_name(name), *values, "", "", "")
    gap = found.scores[name]
    bounds = f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    return (scoring.score_name(name), *values, f"{100 * gap.value:+.1f}", bounds, f"{100 * gap.wins:.0f} %")
