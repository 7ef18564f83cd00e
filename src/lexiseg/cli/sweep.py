"""Measures many settings on one benchmark: `lexiseg sweep`.

Each photograph is embedded as few times as possible.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg import settings
from lexiseg.cli import common, options, scoring

if TYPE_CHECKING:
    from lexiseg.evaluation.sweep import Sweep


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg sweep maskclip/mini --on folder --data my-photographs --set threshold=0.1:0.9:0.1",
        "lexiseg sweep maskclip/vit-b16 --on voc21 --split train --data ~/datasets --set prompts=single,imagenet80",
    )
    app.command("sweep", epilog=epilog)(sweep)


def sweep(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model or a saved folder.")],
    on: Annotated[
        str, typer.Option("--on", metavar="BENCHMARK", help="What to measure on; `lexiseg list benchmarks` names them.")
    ],
    data: options.Data,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUES",
            help="Values of a setting: KEY=a,b,c or KEY=start:stop:step; repeat to combine settings.",
        ),
    ],
    protocol: options.Protocol = None,
    split: options.Split = None,
    limit: options.Limit = None,
    wording: options.Wording = None,
    background: options.Background = None,
    option: options.Option = None,
    allow_skipped: options.AllowSkipped = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the numbers to this JSON file.")] = None,
    weights: common.Weights = None,
    preset: common.Preset = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    json: common.Json = False,
) -> None:
    """Measure a model with every combination of some settings."""
    from lexiseg.evaluation.counting import Counting
    from lexiseg.evaluation.setup import Model, Setup
    from lexiseg.evaluation.sweep import sweep as run_sweep
    from lexiseg.evaluation.sweep import values

    grid = {key: values(text) for key, text in settings.parse(set_).items()}
    setup = Setup(
        Model(model, weights, preset, device, dtype),
        on, data, protocol=protocol, split=split, wording=wording, background=background,
        options=settings.parse(option or ()),
    )  # fmt: skip
    counting = Counting(limit=limit, allow_skipped=allow_skipped)
    with options.bar(f"{model} on {on}") as progress:
        found = run_sweep(setup, grid, counting=counting, progress=progress)
    scoring.note_protocol(found.facts)
    for warning in found.warnings:
        common.note(f"warning: {warning}")
    if out is not None:
        _write(found, out)
    if json:
        common.print_json(asdict(found))
    else:
        _print(found)


def _print(found: Sweep) -> None:
    best, keys = found.best(), list(found.points[0].settings)
    rows = []
    for point in found.points:
        miou, accuracy = point.scores["miou"], point.scores["pixel_accuracy"]
        cells = [scoring.percent(miou.value), scoring.interval(miou), scoring.percent(accuracy.value)]
        rows.append([*map(str, point.settings.values()), *cells, "best" if point is best else ""])
    common.print_table((*keys, "mIoU, %", "95 % interval", "pixel accuracy, %", ""), rows)
    again = "once" if found.embedded == 1 else f"{found.embedded} times"
    common.note(f"{found.images} images, each looked at {again}: {scoring.speed(found.profile)}")


def _write(found: Sweep, out: Path) -> None:
    import json

    from lexiseg import files

    content: dict[str, Any] = asdict(found)
    files.write_text(out, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
