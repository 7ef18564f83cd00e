"""Scores masks that the ground truth names: `lexiseg oracle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg import settings
from lexiseg.cli import common, options, scoring


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg oracle kmeans --on voc21 --data ~/datasets --set features=facebook/dino-vits8",
        "lexiseg oracle pseudo-masks/ --on voc21 --data ~/datasets",
        "lexiseg oracle proposals/ --on coco_stuff171 --data ~/datasets --assign soft",
    )
    app.command("oracle", epilog=epilog)(oracle)


def oracle(
    masks: Annotated[
        str,
        typer.Argument(
            metavar="MASKS",
            help="A proposer, a mask model, a folder with KEY.png, .npz, .json or KEY/, or a COCO file.",
        ),
    ],
    on: Annotated[
        str, typer.Option("--on", metavar="BENCHMARK", help="What to measure on; `lexiseg list benchmarks` names them.")
    ],
    data: options.Data,
    assign: Annotated[
        str, typer.Option("--assign", help="How a mask gets its class: hard (the largest overlap) or soft (by IoU).")
    ] = "hard",
    split: options.Split = None,
    limit: options.Limit = None,
    option: options.Option = None,
    boundary: Annotated[bool, typer.Option("--boundary", help="Also measure boundary IoU.")] = False,
    allow_skipped: options.AllowSkipped = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the result to this JSON file.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a measurement that was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a result that exists.")] = False,
    set_: common.Settings = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    json: common.Json = False,
) -> None:
    """Score masks without words, each named by the ground truth."""
    from lexiseg.evaluation.counting import Counting, Keep
    from lexiseg.evaluation.oracle import oracle as run_oracle
    from lexiseg.evaluation.setup import Model, Setup

    model = Model(masks, device=device, dtype=dtype, changes=settings.parse(set_ or ()))
    setup = Setup(model, on, data, split=split, options=settings.parse(option or ()))
    counting = Counting(limit=limit, boundary=boundary, allow_skipped=allow_skipped)
    keep = Keep(out, resume, overwrite)
    with options.bar(f"oracle on {on}") as progress:
        result = run_oracle(setup, assign=assign, counting=counting, keep=keep, progress=progress)
    scoring.note_taken(result)
    if json:
        scoring.print_documents([result])
    else:
        scoring.print_result(result)
