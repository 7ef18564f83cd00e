"""Labels a folder of photographs: `lexiseg segment`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg import files, settings
from lexiseg.cli import common, outputs
from lexiseg.cli.labelling import Answer, Done, Failed, Labelling
from lexiseg.cli.outputs import Format, Job, Photographs, Plan
from lexiseg.errors import ImageError, OutputError
from lexiseg.vocabulary import Vocabulary

if TYPE_CHECKING:
    from rich.progress import Progress

    from lexiseg.weights import Weights

DEFAULT_OUT = Path("labelled")
MEGA = 1_000_000


@dataclass
class Outcome:
    """What has been done so far, for the summary and the JSON.

    warnings: each once.
    repeated: of a note on a photograph, how many more photographs have it.
    """

    done: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: int = 0
    edited: tuple[Path, ...] = ()
    repeated: Counter[str] = field(default_factory=Counter)

    def warn(self, warning: str, photo: str, bar: Progress | None) -> None:
        """Prints a warning the first time; one on a photograph, which begins with its name, the first of its kind."""
        if warning in self.warnings:
            return
        self.warnings.append(warning)
        kind = warning.removeprefix(f"{photo}: ")
        if kind in self.repeated:
            self.repeated[kind] += 1
            return
        common.note(f"note: {warning}", beside=bar)
        if kind != warning:
            self.repeated[kind] = 0


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        'lexiseg segment street.jpg --words "road, car, person|pedestrian, sky"',
        'lexiseg segment street.jpg --words "car, bicycle" --background auto',
        'lexiseg segment photos/ --words-file classes.txt --background "sky, wall" --out labelled --skip-existing',
        'lexiseg segment *.jpg --words "cat, dog" --model maskclip/vit-b16 --refine pamr --format coco-rle',
    )
    app.command("segment", epilog=epilog)(segment)


def segment(
    photos: Annotated[
        list[str],
        typer.Argument(metavar="PHOTO", help="Photographs, folders of them, or patterns such as photos/*.jpg."),
    ],
    words: Annotated[
        str | None,
        typer.Option(
            "--words", help='Your classes, separated by commas, and synonyms by bars: "road, person|pedestrian".'
        ),
    ] = None,
    words_file: Annotated[
        Path | None,
        typer.Option(
            "--words-file", help="File with your classes: text (a class a line, or commas), JSON, YAML or CSV."
        ),
    ] = None,
    background: common.Background = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Model or saved folder; repeat to compare several.  [default: maskclip/mini]",
        ),
    ] = None,
    weights: common.Weights = None,
    preset: common.Preset = None,
    prompts: common.Prompts = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the results.  [default: labelled, or labelled-2 ... if that exists]"),
    ] = None,
    set_: common.Settings = None,
    format_: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="|".join(Format),
            help="What to write for each photograph; repeat for more.  [default: png, overlay]",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", help="Look through a window of this many pixels that slides over the photograph."),
    ] = None,
    short_side: Annotated[
        int | None,
        typer.Option("--short-side", help="Resize the photograph for the model to a short side of this many pixels."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Leave pixels unlabelled whose best posterior is lower, 0-1."),
    ] = None,
    refine: common.Refine = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Photographs that pass the network together.")
    ] = 1,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Processes that share the photographs and the cores.")
    ] = 1,
    max_megapixels: common.MaxMegapixels = 100,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite/--skip-existing",
            help="Make existing results again, or keep those that were made in the same way.",
        ),
    ] = False,
    json: common.Json = False,
) -> None:
    """Label every pixel of photographs with your words."""
    vocabulary = common.vocabulary(words, words_file, background)
    formats = tuple(dict.fromkeys(format_ or (Format.png, Format.overlay)))
    models = tuple(dict.fromkeys(model or (common.DEFAULT_MODEL,)))
    # --short-side replaces a model's own rule for the long side
    sizes = _given(window=window, short_side=short_side, long_side=None if short_side is None else "none")
    changes = sizes | settings.parse(set_ or ())
    options = {"weights": weights, "preset": preset, "device": device, "dtype": dtype}
    options |= changes | _given(prompts=prompts, refine=refine, background_threshold=threshold)
    requests = {name: _request(name, options, vocabulary) for name in models}
    folder, plans, found = _plans(photos, out, formats, requests, overwrite=overwrite)
    outcome = Outcome()
    for name, plan in plans.items():
        outcome.kept += plan.kept
        outcome.edited += plan.edited
        if plan.todo:
            labelling = Labelling(
                name, options, vocabulary, formats, batch_size, round(max_megapixels * MEGA), requests[name]
            )
            _run(labelling, plan.todo, processes, outcome, quiet=json)
    _summarise(outcome, found, folder, json)


def _request(model: str, options: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    """A hash of all that decides a result beside the photograph; raises for a model or setting that does not exist."""
    from lexiseg import __version__, catalog
    from lexiseg.encoders.prompts import Prompts

    given = {key: value for key, value in options.items() if key not in ("device", "dtype")}
    _, variant = catalog.resolve(model, **given)
    facts = {
        "lexiseg": __version__,
        "model": model,
        "config": settings.to_json(variant.config),
        "inference": settings.to_json(variant.inference),
        "prompts": Prompts.open(variant.inference.prompts).digest,  # a file may change under one name
        "weights": _weights_facts(variant.weights),
        "dtype": options["dtype"],
        "vocabulary": vocabulary.to_json(),
    }
    return files.digest(facts)


def _weights_facts(weights: Weights | None) -> Any:
    """The name of weights, with the sizes and times of local files, which may be trained again under one name."""
    if weights is None or weights.kind == "asset" or not weights.is_here:
        return weights and str(weights)
    place = Path(weights.name).expanduser()
    found = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.is_file())
    return [str(weights), *([path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in found)]


def _plans(
    photos: Sequence[str], out: Path | None, formats: Sequence[Format], requests: Mapping[str, str], *, overwrite: bool
) -> tuple[Path, dict[str, Plan], Photographs]:
    """Where results go, what is to be done for each model, and what was found.

    Nothing has been written before all of it is known.
    """
    folder = out or DEFAULT_OUT
    found = outputs.find(photos)

    def settled(folder: Path) -> dict[str, Plan]:
        plans = {}
        for name, request in requests.items():
            jobs = outputs.plan(found.places, folder / _folder(name) if len(requests) > 1 else folder, formats)
            plans[name] = outputs.settle(jobs, request, overwrite=overwrite)
        return plans

    try:
        plans = settled(folder)
    except OutputError as taken:
        if out is not None or overwrite or not folder.exists():
            raise
        folder = outputs.free_folder(folder)
        plans = settled(folder)
        common.note(f"{DEFAULT_OUT} holds other results ({taken}); writing to {folder}")
    outputs.check_place(job for plan in plans.values() for job in plan.todo)
    return folder, plans, found


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _folder(model: str) -> str:
    return model.strip("./").replace("/", "-")


def _run(labelling: Labelling, jobs: Sequence[Job], processes: int, outcome: Outcome, *, quiet: bool) -> None:
    from lexiseg.inference.workers import affordable, in_order

    common.hint(labelling.model, labelling.options["weights"])
    with common.progress("labelling", len(jobs)) as bar:
        for answer in in_order(labelling, jobs, processes=affordable(processes, len(jobs))):
            _report(answer, outcome, bar, quiet=quiet)


def _report(answer: Answer, outcome: Outcome, bar: Progress | None, *, quiet: bool) -> None:
    photo = str(answer.job.photo)
    if bar is not None:
        bar.advance(bar.task_ids[0])
    if isinstance(answer, Failed):
        outcome.failed.append({"photo": photo, "error": answer.error})
        common.note(f"failed: {answer.error if photo in answer.error else f'{photo}: {answer.error}'}", beside=bar)
        return
    written = [str(path) for path in answer.job.outputs.values()]
    outcome.done.append(
        {"photo": photo, "outputs": written, "areas": answer.areas, "unlabelled_area": answer.unlabelled}
    )
    for warning in answer.warnings:
        outcome.warn(warning, photo, bar)
    if not quiet:
        common.say(f"{photo} -> {written[0]}  {_shares(answer)}", beside=bar)


def _shares(answer: Done) -> str:
    """The five largest classes and what is unlabelled, as percentages of the picture."""
    found = sorted((name for name, area in answer.areas.items() if area), key=lambda name: -answer.areas[name])
    shares = [f"{name} {answer.areas[name]:.0%}" for name in found[:5]]
    if answer.unlabelled:
        shares.append(f"unlabelled {answer.unlabelled:.0%}")
    return ", ".join(shares)


def _summarise(outcome: Outcome, found: Photographs, out: Path, json: bool) -> None:
    from lexiseg.data.finding import by_reason

    edited = [str(path) for path in outcome.edited]
    if json:
        common.print_json(
            {
                "results": outcome.done,
                "failed": outcome.failed,
                "skipped": outcome.kept,
                "edited": edited,
                "left_out": [{"path": str(one.path), "reason": one.reason} for one in found.left_out],
                "warnings": outcome.warnings,
            }
        )
    else:
        for kind, more in outcome.repeated.items():
            if more:
                common.note(f"note: {more} more photographs: {kind}")
        parts = [f"{len(outcome.done)} labelled in {out}"]
        parts += [f"{outcome.kept} skipped, their results exist"] if outcome.kept else []
        parts += [f"{len(edited)} kept as another program edited them ({edited[0]})"] if edited else []
        parts += [f"left out: {by_reason(found.left_out)}"] if found.left_out else []
        common.note(", ".join(parts))
    if outcome.failed:
        total = len(outcome.failed) + len(outcome.done)
        raise ImageError(
            f"{len(outcome.failed)} of {total} photographs failed; each is named above, the others are done"
        )
