"""Labels a folder of photographs: `lexiseg segment`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg import files, settings
from lexiseg.cli import common, outputs
from lexiseg.cli.labelling import Answer, Dividing, Failed, Labelling, keys_of
from lexiseg.cli.outputs import Format, Job, Photographs, Plan
from lexiseg.errors import ImageError, OutputError, SettingError

if TYPE_CHECKING:
    from rich.progress import Progress

    from lexiseg.weights import Weights

DEFAULT_OUT = Path("labelled")
DEFAULT_PROPOSER = "superpixels"
MEGA = 1_000_000


Work = Labelling | Dividing


@dataclass
class Outcome:
    """What has been done so far, for the summary and the JSON.

    verb: what is done with a photograph.
    warnings: each once.
    repeated: of a note on a photograph, how many more photographs have it.
    """

    verb: str
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
        "lexiseg segment photos/ --regions --model selective_search --set most=50",
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
    regions: Annotated[
        bool,
        typer.Option(
            "--regions",
            help="Show masks without words: those of a mask model, or of a proposer (`lexiseg list proposals`).  "
            "[default model: superpixels]",
        ),
    ] = False,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks", help="Folder with your own masks for each photograph, in place of the model's; or a COCO file."
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
    formats = tuple(dict.fromkeys(format_ or (Format.png, Format.overlay)))
    models = tuple(dict.fromkeys(model or (DEFAULT_PROPOSER if regions else common.DEFAULT_MODEL,)))
    # --short-side replaces a model's own rule for the long side
    sizes = _given(window=window, short_side=short_side, long_side=None if short_side is None else "none")
    flags = _given(weights=weights, preset=preset) | sizes
    rules = _given(prompts=prompts, refine=refine, background_threshold=threshold)
    changes = settings.parse(set_ or ())
    pixels = round(max_megapixels * MEGA)
    work: Mapping[str, Work]
    if regions:
        _refuse_with_regions(_given(words=words, words_file=words_file, background=background, masks=masks) | rules)
        place = {"device": device, "dtype": dtype}
        work = {name: _dividing(name, flags, changes, place, formats, pixels) for name in models}
    else:
        vocabulary = common.vocabulary(words, words_file, background)
        options = {"weights": weights, "preset": preset, "device": device, "dtype": dtype} | flags | changes | rules
        more = {"vocabulary": vocabulary.to_json(), "masks": None if masks is None else str(masks.absolute())}
        requests = {name: _request(name, options, more) for name in models}
        work = {
            name: Labelling(name, options, vocabulary, formats, batch_size, pixels, request, masks)
            for name, request in requests.items()
        }
    folder, plans, found = _plans(photos, out, work, overwrite=overwrite)
    outcome = Outcome("shown as regions" if regions else "labelled")
    for name, plan in plans.items():
        outcome.kept += plan.kept
        outcome.edited += plan.edited
        if plan.todo:
            _run(work[name], plan.todo, processes, outcome, quiet=json)
    _summarise(outcome, found, folder, json)


def _refuse_with_regions(given: Mapping[str, Any]) -> None:
    """Raises `SettingError` for options that say something of words."""
    for name in ("words", "words_file", "background", "masks", "prompts", "refine", "background_threshold"):
        if name in given:
            raise SettingError(f"--regions shows masks without words, so {name}= says nothing; leave one of them out")


def _dividing(
    model: str,
    flags: Mapping[str, Any],
    changes: Mapping[str, Any],
    place: Mapping[str, Any],
    formats: tuple[Format, ...],
    pixels: int,
) -> Dividing:
    """Raises for a model, a proposer or a setting that does not exist, and for a model without masks.

    flags: options of models alone. changes: settings. place: device and dtype.
    """
    from lexiseg import __version__, catalog

    if model not in catalog.names("proposals"):
        options = {**place, **flags, **changes}
        return Dividing(model, options, formats, pixels, _request(model, options, {"regions": True}))
    if flags:
        raise SettingError(f"{model} is a proposer and takes no {next(iter(flags))}=; change its settings with --set")
    config = settings.change(catalog.get("proposals", model).Config(), changes)
    request = files.digest({"lexiseg": __version__, "proposer": model, "config": settings.to_json(config)})
    return Dividing(model, dict(changes), formats, pixels, request)


def _request(model: str, options: Mapping[str, Any], more: Mapping[str, Any]) -> str:
    """A hash of all that decides a result beside the photograph; raises for a model or setting that does not exist.

    more: what is asked for. Raises `SettingError` for regions or masks with a model that cannot have them.
    """
    from lexiseg import __version__, catalog
    from lexiseg.encoders.prompts import Prompts

    if model in catalog.names("proposals"):
        raise SettingError(f"{model} is a proposer and knows no words; give a model, or --regions to see its masks")
    given = {key: value for key, value in options.items() if key not in ("device", "dtype")}
    module, variant = catalog.resolve(model, **given)
    traits = module.traits(variant.config)
    if more.get("regions") and not traits.regions:
        proposers = ", ".join(catalog.names("proposals"))
        raise SettingError(f"{model} labels places, not masks; give a model with masks, or one of {proposers}")
    if more.get("masks") and not traits.accepts_masks:
        raise SettingError(f"{model} does not take masks; give a model that does, or leave out --masks")
    facts = {
        "lexiseg": __version__,
        "model": model,
        "config": settings.to_json(variant.config),
        "inference": settings.to_json(variant.inference),
        "prompts": Prompts.open(variant.inference.prompts).digest,  # a file may change under one name
        "weights": _weights_facts(variant.weights),
        "dtype": options["dtype"],
        **_given(**more),
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
    photos: Sequence[str], out: Path | None, work: Mapping[str, Work], *, overwrite: bool
) -> tuple[Path, dict[str, Plan], Photographs]:
    """Where results go, what is to be done for each model, and what was found.

    Nothing has been written before all of it is known.
    """
    folder = out or DEFAULT_OUT
    found = outputs.find(photos)

    def settled(folder: Path) -> dict[str, Plan]:
        plans = {}
        for name, each in work.items():
            own = folder / _folder(name) if len(work) > 1 else folder
            kind, masks = (".regions", None) if isinstance(each, Dividing) else ("", _beside(each.masks))
            jobs = outputs.plan(found.places, own, each.formats, kind, masks)
            plans[name] = outputs.settle(jobs, each.request, overwrite=overwrite)
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


def _beside(masks: Path | None) -> Callable[[Path], Iterable[Path]] | None:
    """The files of a photograph's masks, by its name; raises `DataError` for a folder that is not there."""
    from lexiseg.proposals._folder import MaskFolder

    if masks is None:
        return None
    folder = MaskFolder.open(masks)
    return lambda name: folder.beside(*keys_of(name))


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _folder(model: str) -> str:
    return model.strip("./").replace("/", "-")


def _run(work: Work, jobs: Sequence[Job], processes: int, outcome: Outcome, *, quiet: bool) -> None:
    from lexiseg.inference.workers import affordable, in_order

    common.hint(work.model, work.options.get("weights"))
    with common.progress("labelling", len(jobs)) as bar:
        for answer in in_order(work, jobs, processes=affordable(processes, len(jobs))):
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
    outcome.done.append({"photo": photo, "outputs": written, **answer.facts})
    for warning in answer.warnings:
        outcome.warn(warning, photo, bar)
    if not quiet:
        common.say(f"{photo} -> {written[0]}  {answer.told}", beside=bar)


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
        parts = [f"{len(outcome.done)} {outcome.verb} in {out}"]
        parts += [f"{outcome.kept} skipped, their results exist"] if outcome.kept else []
        parts += [f"{len(edited)} kept as another program edited them ({edited[0]})"] if edited else []
        parts += [f"left out: {by_reason(found.left_out)}"] if found.left_out else []
        common.note(", ".join(parts))
    if outcome.failed:
        total = len(outcome.failed) + len(outcome.done)
        raise ImageError(
            f"{len(outcome.failed)} of {total} photographs failed; each is named above, the others are done"
        )
