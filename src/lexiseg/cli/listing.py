"""Lists what there is to choose from: `lexiseg list`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lexiseg.cli import common, names
from lexiseg.errors import UnknownName

if TYPE_CHECKING:
    from lexiseg.training.recipe import Stage


def register(app: typer.Typer) -> None:
    app.command("list", epilog=common.examples("lexiseg list", "lexiseg list benchmarks --json"))(list_)


def list_(
    what: Annotated[
        str, typer.Argument(metavar="SHELF", help="models, recipes, benchmarks, proposals or prompts.")
    ] = "models",
    json: common.Json = False,
) -> None:
    """List models, recipes, benchmarks, proposers or prompts."""
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
    if what == "recipes":
        return {name: about for file in catalog.names(what) for name, about in _recipes(file).items()}
    if what in ("benchmarks", "proposals"):
        return {name: _first_line(catalog.get(what, name).__doc__) for name in catalog.names(what)}
    if what == "prompts":
        from lexiseg.encoders import prompts

        return {name: f"{len(prompts.Prompts.open(name).sentences)} sentences" for name in prompts.names()}
    raise UnknownName("list", what, ("models", "recipes", "benchmarks", "proposals", "prompts"))


def _recipes(file: str) -> dict[str, str]:
    """A file's own line for its RECIPE, and a line for each of the others, whose names are "FILE/VERSION"."""
    from lexiseg import catalog
    from lexiseg.training.stages import versions

    module = catalog.get("recipes", file)
    others = {f"{file}/{name}": _stages(stages) for name, stages in versions(module).items() if name != "recipe"}
    return {file: _first_line(module.__doc__), **others}


def _stages(stages: Sequence[Stage]) -> str:
    """What is trained, and for how long: "mini_clip_vit/mini, 8,460 steps in 2 stages"."""
    steps = sum(getattr(stage, "steps", 0) for stage in stages)
    return f"{getattr(stages[-1], 'model', '')}, {steps:,} steps" + (
        f" in {len(stages)} stages" if len(stages) > 1 else ""
    )


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]
