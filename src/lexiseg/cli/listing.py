"""`lexiseg list`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from lexiseg.cli import common, names
from lexiseg.errors import UnknownName


def register(app: typer.Typer) -> None:
    app.command("list", epilog=common.examples("lexiseg list", "lexiseg list benchmarks --json"))(list_)


def list_(
    what: Annotated[str, typer.Argument(help="models, recipes, benchmarks, proposals or templates.")] = "models",
    json: common.Json = False,
) -> None:
    """List the models, recipes, benchmarks, proposers or prompt templates, a line each."""
    found = _entries(what)
    if json:
        common.print_json({what: found})
        return
    rows = [(name, names.in_options(about)) for name, about in found.items()]
    common.print_table((what, ""), rows or [("(none yet)", "")])


def _entries(what: str) -> dict[str, str]:
    """name -> one line."""
    from lexiseg import catalog

    if what == "models":
        return {name: variant.about for name, variant in catalog.models().items()}
    if what in ("recipes", "benchmarks", "proposals"):
        return {name: _first_line(catalog.get(what, name).__doc__) for name in catalog.names(what)}
    if what == "templates":
        from lexiseg.encoders import templates

        return {name: f"{len(templates.templates(name))} sentences" for name in templates.names()}
    raise UnknownName("list", what, ("models", "recipes", "benchmarks", "proposals", "templates"))


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]
