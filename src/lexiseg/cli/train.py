"""Trains a recipe, after checks: `lexiseg train`.

The recipe is named, and --set changes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg import settings
from lexiseg.cli import common
from lexiseg.errors import SettingError, UnknownName

if TYPE_CHECKING:
    from lexiseg.training.contracts import Evaluate
    from lexiseg.training.recipe import Labelling, Stage


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg train simseg --toy --out runs/first",
        "lexiseg train simseg --mini --data photos/ --set optimiser.rate=1e-4 --out runs/a --resume",
        "lexiseg train simseg --dry-run",
    )
    app.command("train", epilog=epilog)(train)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="What to train; `lexiseg list recipes` names them.")],
    mini: Annotated[bool, typer.Option("--mini", help="Take the version for this project's photographs.")] = False,
    toy: Annotated[bool, typer.Option("--toy", help="Take the version that runs in seconds, on drawn scenes.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the recipe, such as optimiser.rate=1e-4; repeat for more.",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder or list with the recipe's data.")] = None,
    benchmark_data: Annotated[
        Path | None,
        typer.Option("--benchmark-data", help="Folder with the recipe's benchmarks, to measure while training."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.  [default: runs/RECIPE]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Resume although the recipe has changed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, and say what training would cost.")
    ] = False,
    json: common.Json = False,
) -> None:
    """Train a model from a recipe; an interrupted run can be resumed."""
    stages = find(recipe, mini=mini, toy=toy)
    stages = _changed(_placed(stages, data), settings.parse(set_ or ()))
    out = out or Path("runs") / recipe.replace("/", "-")
    if dry_run:
        _dry_run(stages, out, json)
        return
    from lexiseg.training.train import train as run_training

    evaluate = None if benchmark_data is None else _measure(stages, benchmark_data)
    run = run_training(stages, out, resume=resume, allow_changes=allow_changes, evaluate=evaluate, label=_label)
    if json:
        common.print_json(dataclasses.asdict(run))
    elif run.finished:
        typer.echo(f"{run.model}")
        common.note(f"done; try it: lexiseg segment PHOTO --words '...' --model {run.model}")
    else:
        common.note(f"stopped after step {run.step}, saved; go on with --resume")
    if not run.finished:
        raise typer.Exit(_exit_code(run.stopped_by))


def find(name: str, *, mini: bool, toy: bool) -> tuple[Stage, ...]:
    """The stages of a recipe: "simseg" is RECIPE of recipes/simseg.py, "simseg/released" is RELEASED."""
    from lexiseg import catalog
    from lexiseg.training import stages

    if mini and toy:
        raise SettingError("--mini and --toy are two versions of a recipe; give one of them")
    file, _, version = name.partition("/")
    versions = stages.versions(catalog.get("recipes", file))
    version = version or ("mini" if mini else "toy" if toy else "recipe")
    if version not in versions:
        raise UnknownName("recipe", f"{file}/{version}", [f"{file}/{known}" for known in versions])
    return versions[version]


def _changed(stages: tuple[Stage, ...], changes: Mapping[str, Any]) -> tuple[Stage, ...]:
    from lexiseg.training import stages as module

    return module.change(stages, changes)


def _placed(stages: tuple[Stage, ...], data: Path | None) -> tuple[Stage, ...]:
    """The stages with --data as a setting: most data have one root, image-text pairs have places."""
    from lexiseg.training.recipe import change

    if data is None:
        return stages
    places = [_place(stage, data) for stage in stages]
    if not any(places):
        raise SettingError(f"this recipe makes its own data, so --data {data} is of no use; leave it out")
    return tuple(change(stage, place) for stage, place in zip(stages, places, strict=True))


def _place(stage: Stage, data: Path) -> dict[str, Any]:
    """Most data say where they are themselves; those that are made of others say it inside."""
    names = sorted(settings.names(stage.data), key=lambda name: name.count("."))
    for last, value in (("root", str(data)), ("places", (str(data),))):
        for name in names:
            if name.rpartition(".")[2] == last:
                return {f"data.{name}": value}
    return {}


def _label(stage: Labelling, folder: Path, **place: Any) -> dict[str, int]:
    """Writes the label maps of a stage, with a bar where there is a terminal."""
    from lexiseg.evaluation.pseudo_labels import label

    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(common.progress(f"labelling for {stage.name}", total)))
            if bars[0] is not None:
                bars[0].update(0, completed=done)

        made = label(stage, folder, progress=show, **place)
    common.note(f"stage {stage.name}: {made['labelled']} photographs labelled, {made['skipped']} cannot be read")
    return made


def _exit_code(stopped_by: str | None) -> int:
    """128 and the number of the signal, as a shell has it; what stopped another process is taken for SIGTERM."""
    return 128 + signal.Signals[stopped_by or "SIGTERM"]


def _measure(stages: tuple[Stage, ...], data: Path) -> Evaluate:
    from lexiseg import catalog
    from lexiseg.evaluation.while_training import WhileTraining
    from lexiseg.training.recipe import Recipe

    stage = stages[-1]
    if not isinstance(stage, Recipe) or not stage.benchmarks:
        raise SettingError("the recipe names no benchmarks; add for example --set benchmarks=voc21")
    _, variant = catalog.resolve(stage.model)
    return WhileTraining(stage.benchmarks, data, variant.inference)


def _dry_run(stages: tuple[Stage, ...], out: Path, json: bool) -> None:
    from lexiseg.training.dry_run import dry_run

    report = dry_run(stages, out)
    if json:
        common.print_json(dataclasses.asdict(report))
        return
    for line in report.lines():
        typer.echo(line)
