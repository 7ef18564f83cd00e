"""Chooses the sentence that words are put into: `lexiseg prompts`.

It looks at training photographs alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lexiseg import settings
from lexiseg.cli import common, options, scoring

if TYPE_CHECKING:
    from lexiseg.evaluation.prompt_choice import PromptChoice

SHOWN = 10


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg prompts maskclip/vit-b16 --on coco_stuff_156_15 --data ~/datasets --limit 500 --out best.txt",
        'lexiseg segment PHOTO --words "cat, grass" --model maskclip/vit-b16 --prompts best.txt',
    )
    app.command("prompts", epilog=epilog)(prompts)


def prompts(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model or a saved folder.")],
    on: Annotated[str, typer.Option("--on", metavar="BENCHMARK", help="`lexiseg list benchmarks` names them.")],
    data: options.Data,
    among: Annotated[
        str,
        typer.Option("--among", help="Sentences to choose from: imagenet80, vild14 ..., or a file with one a line."),
    ] = "imagenet80",
    split: Annotated[
        str | None, typer.Option("--split", help="Which split.  [default: the one that is trained on]")
    ] = None,
    set_: common.Settings = None,
    protocol: options.Protocol = None,
    limit: options.Limit = None,
    wording: options.Wording = None,
    background: options.Background = None,
    option: options.Option = None,
    allow_skipped: options.AllowSkipped = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the best sentence to this text file.")] = None,
    weights: common.Weights = None,
    preset: common.Preset = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    json: common.Json = False,
) -> None:
    """Choose the best single prompt on training photographs, by their seen classes."""
    from lexiseg.encoders.prompts import Prompts
    from lexiseg.evaluation.counting import Counting
    from lexiseg.evaluation.prompt_choice import choose_prompt
    from lexiseg.evaluation.setup import Model, Setup

    setup = Setup(
        Model(model, weights, preset, device, dtype, settings.parse(set_ or ())),
        on, data, protocol=protocol, split=split, wording=wording, background=background,
        options=settings.parse(option or ()),
    )  # fmt: skip
    counting = Counting(limit=limit, allow_skipped=allow_skipped)
    with options.bar(f"{model} on {on}") as progress:
        found = choose_prompt(setup, among=among, counting=counting, progress=progress)
    scoring.note_protocol(found.facts)
    for warning in found.warnings:
        common.note(f"warning: {warning}")
    if out is not None:
        Prompts((found.best.sentence,)).save(out)
    if json:
        common.print_json({**asdict(found), "best": found.best.sentence})
    else:
        _print(found)


def _print(found: PromptChoice) -> None:
    rows = []
    for candidate in found.candidates[:SHOWN]:
        score = candidate.scores[found.score]
        rows.append([candidate.sentence, scoring.percent(score.value), scoring.interval(score)])
    common.print_table(("prompt", "mIoU, %", "95 % interval"), rows)
    common.note(
        f"{len(found.candidates)} sentences on {found.images} images, each looked at once: "
        f"{scoring.speed(found.profile)}"
    )
