"""Measures models on benchmarks: `lexiseg evaluate`.

It prints a table for people or JSON for programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lexiseg import settings
from lexiseg.cli import common, options, scoring
from lexiseg.cli.results import Place

if TYPE_CHECKING:
    from lexiseg.evaluation.counting import Counting
    from lexiseg.evaluation.result import Result
    from lexiseg.evaluation.robustness import Robustness
    from lexiseg.evaluation.setup import Setup


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg evaluate maskclip/mini --on folder --data my-photographs",
        "lexiseg evaluate maskclip/vit-b16 maskclip/rn50 --on voc20,context59 --data ~/datasets --out results --resume",
        "lexiseg evaluate maskclip/mini --on folder --data my-photographs --corrupt all:1,5",
        "torchrun --nproc-per-node 2 -m lexiseg evaluate maskclip/mini --on folder --data my-photographs",
    )
    app.command("evaluate", epilog=epilog)(evaluate)


def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="One or more models or saved folders.")],
    on: options.On,
    data: options.Data,
    protocol: options.Protocol = None,
    split: options.Split = None,
    limit: options.Limit = None,
    corrupt: Annotated[
        str | None,
        typer.Option(
            "--corrupt", help="Corrupt the images first: gaussian_noise:3, all:1,5, maskclip:5 ... (severities 1-5)."
        ),
    ] = None,
    bgr: Annotated[
        bool, typer.Option("--bgr", help="Corrupt with red and blue exchanged, as MaskCLIP's code did.")
    ] = False,
    own_words: Annotated[
        bool, typer.Option("--own-words", help="Also measure with each image's own classes alone.")
    ] = False,
    all_classes: Annotated[
        bool, typer.Option("--all-classes", help="Also ask for classes that do not occur in the split.")
    ] = False,
    boundary: Annotated[bool, typer.Option("--boundary", help="Also measure boundary IoU.")] = False,
    wording: options.Wording = None,
    background: options.Background = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Leave pixels unlabelled whose best posterior is lower, 0-1."),
    ] = None,
    option: options.Option = None,
    allow_skipped: options.AllowSkipped = False,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results; for a single result also a file, NAME.json.")
    ] = Path("lexiseg-results"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a measurement that was interrupted.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Measure again, and replace results that exist.")
    ] = False,
    weights: common.Weights = None,
    preset: common.Preset = None,
    set_: common.Settings = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images that pass the network together.")] = 1,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    json: common.Json = False,
) -> None:
    """Measure models on benchmarks.

    The result is mIoU and more, with intervals, baselines and all settings.
    """
    from lexiseg.data.corruptions import corruptions
    from lexiseg.evaluation.counting import Counting
    from lexiseg.evaluation.setup import Model, Setup

    kinds = [] if corrupt is None else corruptions.parse(corrupt)
    choices = settings.parse(option or ()) | ({"classes": "all"} if all_classes else {})
    changes = settings.parse(set_ or ()) | ({} if threshold is None else {"background_threshold": threshold})
    counting = Counting(
        limit=limit, batch_size=batch_size, own_words=own_words, boundary=boundary, allow_skipped=allow_skipped
    )
    with options.processes() as (main, on_device):
        setups = [
            Setup(
                Model(name, weights, preset, on_device or device, dtype, changes),
                benchmark, data, protocol=protocol, split=split, wording=wording, background=background,
                options=choices,
            )
            for name in models
            for benchmark in options.split_names(on)
        ]  # fmt: skip
        place = Place(out, single=len(setups) == 1 and not kinds, resume=resume, overwrite=overwrite)
        found = _measure(setups, kinds, counting, place, bgr=bgr, main=main)
    if main:
        _print(found, place, json)


def _measure(
    setups: Sequence[Setup],
    kinds: Sequence[tuple[str, int]],
    counting: Counting,
    place: Place,
    *,
    bgr: bool,
    main: bool,
) -> list[Robustness]:
    """main: whether this process prints."""
    from lexiseg.evaluation.choosing import choose
    from lexiseg.evaluation.robustness import robustness
    from lexiseg.evaluation.subject import prepare

    for setup in setups:
        choose(setup)  # a wrong name is said before hours of work
    found = []
    for setup in setups:
        subject = prepare(setup)
        if main:
            scoring.note_protocol(subject.facts)
        with options.bar(f"{subject.predictor.name} on {setup.on}", shown=main) as progress:
            keep = place.keep(setup, subject)
            found.append(robustness(subject, kinds, counting, bgr=bgr, keep=keep, progress=progress))
    return found


def _print(found: Sequence[Robustness], place: Place, json: bool) -> None:
    results = [result for one in found for result in (one.clean, *one.corrupted.values())]
    for result in results:
        for warning in result.warnings:
            common.note(f"{result.model} on {result.benchmark}: {warning}")
    if json:
        scoring.print_documents(results)
        return
    if len(found) > 1:
        scoring.print_grid([one.clean for one in found])
    for one in found:
        if one.corrupted:
            scoring.print_robustness(one)
        elif len(found) == 1:
            scoring.print_result(one.clean)
    _note_speed(results, place)


def _note_speed(results: Sequence[Result], place: Place) -> None:
    for result in results:
        scoring.note_taken(result)
    measured = [result for result in results if result.path is None]
    if measured:
        common.note(f"written: {place.out}")
    for result in measured:
        if line := scoring.speed(result.profile):
            common.note(f"{result.model} on {result.benchmark}: {line}")
