"""Measures how fast and lean the main job is: `lexiseg bench`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg import settings
from lexiseg.cli import common
from lexiseg.errors import SettingError

if TYPE_CHECKING:
    from lexiseg.speed.bench import Operator, Row
    from lexiseg.speed.measuring import Summary

OPERATORS = 15  # that --profile prints


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg bench",
        "lexiseg bench maskclip/vit-b16 --classes 171 --threads 2 --out speed.json",
        "lexiseg bench simseg/vit-b16 --size 288 --profile",
        "lexiseg bench maskclip/mini --set long_side=512 --no-memory --json",
    )
    app.command("bench", epilog=epilog)(bench)


def bench(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model or a saved folder.", show_default=True)
    ] = common.DEFAULT_MODEL,
    size: Annotated[int, typer.Option("--size", help="Side of the photograph in pixels.")] = 512,
    classes: Annotated[
        str, typer.Option("--classes", help="Numbers of classes to ask for, with commas.")
    ] = "21,171,847",
    images: Annotated[int, typer.Option("--images", help="How often each job is timed.")] = 5,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads for torch.  [default: one per core]")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure memory too, in new processes.")] = True,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also print which operators of torch take the time of one job.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the numbers to this JSON file.")] = None,
    weights: common.Weights = None,
    preset: common.Preset = None,
    set_: common.Settings = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    json: common.Json = False,
) -> None:
    """Measure the speed of the main job, stage by stage.

    Beside it stands the same job with transformers, F.interpolate and argmax.

    Nothing is downloaded: a model whose weights are not here is measured with random ones.
    """
    # before the libraries are imported that read these once: no network, no log lines of the profiler's
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    counts = _counts(classes)
    from lexiseg.evaluation.setup import Model
    from lexiseg.speed import bench as benches
    from lexiseg.speed import measuring

    subject = Model(model, weights, preset, device, dtype, settings.parse(set_ or ()))
    rows = []
    for row in benches.bench(subject, size=size, classes=counts, repeats=images, threads=threads, memory=memory):
        common.note(f"{row.classes} classes: {row.ms['lexiseg']['median']:.0f} ms")
        rows.append(row)
    operators = benches.profile(subject, size=size, classes=counts[-1], threads=threads) if profile else []
    document = {
        "what": "the main job, from photograph to label map",
        "model": model,
        **measuring.circumstances(),
        "rows": [row.to_json() for row in rows],
        "operators": [vars(operator) for operator in operators],
    }
    if out is not None:
        _write(document, out)
    if json:
        common.print_json(document)
    else:
        _print(rows, operators, document)


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(f"--classes {text!r} is no list of numbers; write for example --classes 21,171") from error


def _write(document: dict[str, Any], out: Path) -> None:
    import json

    from lexiseg import files

    files.write_text(out, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _print(rows: list[Row], operators: list[Operator], document: dict[str, Any]) -> None:
    _print_ways(rows)
    typer.echo("")
    _print_stages(rows)
    if operators:
        typer.echo("")
        _print_operators(operators)
    typer.echo("")
    for line in _circumstances(rows, document):
        typer.echo(line)


def _print_ways(rows: list[Row]) -> None:
    """Photograph in memory to label map in memory."""
    ways = list(dict.fromkeys(way for row in rows for way in row.ms))
    peers = ways[1:]
    header = ("classes", *(f"{way}, ms" for way in ways), *(f"x {peer}" for peer in peers), "memory, MB")
    cells = []
    for row in rows:
        times = [_spread(row.ms.get(way)) for way in ways]
        ratios = [f"{row.faster_than[peer]:.1f}" if peer in row.faster_than else "-" for peer in peers]
        memory = " / ".join("-" if (extra := row.extra_mb.get(way)) is None else f"{extra:.0f}" for way in ways)
        cells.append((str(row.classes), *times, *ratios, memory))
    common.print_table(header, cells)


def _print_stages(rows: list[Row]) -> None:
    """JPEG in memory to PNG on disk."""
    names = list(rows[0].stages)
    cells = [
        (
            str(row.classes),
            *(f"{row.stages[name]['median']:.1f}" for name in names),
            f"{sum(time['median'] for time in row.stages.values()):.1f}",
            f"{100 * row.around:.1f} %",
            f"{row.images_per_second:.2f}",
        )
        for row in rows
    ]
    common.print_table(("classes", *(f"{name}, ms" for name in names), "all", "around the encoder", "images/s"), cells)


def _print_operators(operators: list[Operator]) -> None:
    whole = sum(operator.ms for operator in operators)
    common.print_table(
        ("operator", "own ms", "share", "calls"),
        [
            (each.name, f"{each.ms:.2f}", f"{100 * each.ms / whole:.1f} %", str(each.calls))
            for each in operators[:OPERATORS]
        ],
    )


def _circumstances(rows: list[Row], document: dict[str, Any]) -> list[str]:
    machine, versions = document["machine"], document["versions"]
    side = " x ".join(str(side) for side in rows[0].seen)
    busy = [row.foreign_load_cores for row in rows if row.foreign_load_cores is not None]
    lines = [
        f"{document['model']}, a photograph of {rows[0].size}², seen by the network at {side}; "
        f"median [min-90th percentile] of {rows[0].ms['lexiseg']['runs']}",
        f"{machine['processor']}, {machine['cores']} cores, {machine['gpus'] or 'no GPU'}; "
        f"torch {versions['torch']}, transformers {versions['transformers']}, commit {document['commit'] or 'unknown'}",
        "memory: what each process grows by, lexiseg / peers; around the encoder: all other stages by the encoder's",
    ]
    if max(busy, default=0.0) > 0.1:
        lines.append(
            f"not clean: others kept up to {max(busy):.1f} cores busy meanwhile; measure again when it is quiet"
        )
    return lines


def _spread(time: Summary | None) -> str:
    return "-" if time is None else f"{time['median']:.0f} [{time['min']:.0f}-{time['p90']:.0f}]"
