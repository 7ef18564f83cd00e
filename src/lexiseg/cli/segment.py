"""`lexiseg segment`: a folder of photographs in, label maps out, one bad file never stopping the others."""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg import settings
from lexiseg.cli import common
from lexiseg.errors import ImageError, LexisegError, OutputError
from lexiseg.vocabulary import Vocabulary

if TYPE_CHECKING:
    from rich.progress import Progress

    from lexiseg.data.photographs import Photograph
    from lexiseg.inference.predictor import Predictor
    from lexiseg.segmentation import Segmentation


class Format(enum.StrEnum):
    png = "png"
    overlay = "overlay"
    npz = "npz"
    coco_rle = "coco-rle"


SUFFIXES = {
    Format.png: ".png",  # and the .json beside it
    Format.overlay: ".overlay.png",
    Format.npz: ".npz",
    Format.coco_rle: ".coco.json",
}
MEGA = 1_000_000


@dataclass(frozen=True)
class Job:
    """One photograph and where its results go: `stem` is the path of the results without a suffix."""

    photo: Path
    stem: Path

    def outputs(self, formats: Sequence[Format]) -> list[Path]:
        return [self.stem.with_name(self.stem.name + SUFFIXES[chosen]) for chosen in formats]


@dataclass
class Outcome:
    """What has been done so far, for the summary and the JSON."""

    done: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # each once, whatever the number of photographs


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        'lexiseg segment street.jpg --words "road, car, person|pedestrian, sky"',
        'lexiseg segment photos/ --words-file classes.txt --background "sky, wall" --out labelled --skip-existing',
        'lexiseg segment *.jpg --words "cat, dog" --model maskclip/vit-b16 --set key_smoothing=true --format coco-rle',
    )
    app.command("segment", epilog=epilog)(segment)


def segment(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Files, folders or globs.")],
    words: Annotated[
        str | None,
        typer.Option("--words", help='Classes after commas, synonyms after bars: "road, person|pedestrian".'),
    ] = None,
    words_file: Annotated[Path | None, typer.Option("--words-file", help="Text file, a class a line, or JSON.")] = None,
    background: common.Background = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Model or folder; repeat to compare.  [default: maskclip/mini]")
    ] = None,
    weights: common.Weights = None,
    preset: common.Preset = None,
    templates: common.Templates = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("labelled"),
    set_: common.Settings = None,
    format_: Annotated[
        list[Format] | None, typer.Option("--format", help="What to write; repeat for more.  [default: png, overlay]")
    ] = None,
    window: Annotated[int | None, typer.Option("--window", help="Slide a window of this many pixels.")] = None,
    short_side: Annotated[
        int | None, typer.Option("--short-side", help="Pixels of the short side for the model.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Leave pixels unlabelled below this posterior, 0-1."),
    ] = None,
    refine: common.Refine = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Photographs in one forward.")] = 1,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Processes that share the photographs, and the cores.")
    ] = 1,
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", min=0.001, help="Refuse larger photographs before decoding them.")
    ] = 100,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite/--skip-existing", help="What to do with results that exist.")
    ] = None,
    json: common.Json = False,
) -> None:
    """Label every pixel of photographs with your words."""
    vocabulary = common.vocabulary(words, words_file, background)
    formats = tuple(dict.fromkeys(format_ or (Format.png, Format.overlay)))
    models = tuple(dict.fromkeys(model or (common.DEFAULT_MODEL,)))
    # --short-side replaces a model's own rule for the long side
    sizes = _given(window=window, short_side=short_side, long_side=None if short_side is None else "none")
    changes = sizes | settings.parse(set_ or ())
    plans = {name: plan(photos, out / _folder(name) if len(models) > 1 else out) for name in models}
    todo = {name: _choose(jobs, formats, overwrite) for name, jobs in plans.items()}
    outcome = Outcome()
    options = {"weights": weights, "preset": preset, "device": device, "dtype": dtype}
    options |= changes | _given(templates=templates, refine=refine, background_threshold=threshold)
    for name, jobs in todo.items():
        if jobs:
            labelling = Labelling(name, options, vocabulary, formats, batch_size, round(max_megapixels * MEGA))
            _run(labelling, jobs, processes, outcome, quiet=json)
    skipped = sum(map(len, plans.values())) - sum(map(len, todo.values()))
    _summarise(outcome, skipped, out, json)


def plan(photos: Sequence[str], out: Path) -> list[Job]:
    """A job for each photograph; a folder's inner structure is kept, names that would collide keep their suffix."""
    from lexiseg.data import photographs

    found: list[tuple[Path, Path]] = []
    for given in photos:
        root = Path(given) if Path(given).is_dir() else None
        found += [(photo, photo.relative_to(root) if root else Path(photo.name)) for photo in photographs.find([given])]
    found = list(dict(found).items())
    stems = Counter(relative.with_suffix("") for _, relative in found)
    jobs = [Job(photo, out / (rel.with_suffix("") if stems[rel.with_suffix("")] == 1 else rel)) for photo, rel in found]
    clash = [stem for stem, count in Counter(job.stem for job in jobs).items() if count > 1]
    if clash:
        raise OutputError(f"{clash[0].name} is the name of several photographs; label their folders one at a time")
    return jobs


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _folder(model: str) -> str:
    return model.strip("./").replace("/", "-")


def _choose(jobs: list[Job], formats: Sequence[Format], overwrite: bool | None) -> list[Job]:
    """The jobs to do: all, or those whose results are missing; refuses to guess where some exist."""
    if overwrite:
        return jobs
    existing = [path for job in jobs for path in job.outputs(formats) if path.exists()]
    if existing and overwrite is None:
        raise OutputError(f"{existing[0]} exists already ({len(existing)} such); add --skip-existing or --overwrite")
    return [job for job in jobs if not all(path.exists() for path in job.outputs(formats))]


def _run(labelling: Labelling, jobs: list[Job], processes: int, outcome: Outcome, *, quiet: bool) -> None:
    from lexiseg.inference.workers import affordable, in_order

    common.hint(labelling.model, labelling.options["weights"])
    with common.progress("labelling", len(jobs)) as bar:
        for answer in in_order(labelling, jobs, processes=affordable(processes, len(jobs))):
            _report(answer, outcome, bar, quiet=quiet)


@dataclass(frozen=True)
class Done:
    """One photograph that has been labelled and written. areas: fractions of the picture, by class."""

    job: Job
    outputs: tuple[str, ...]
    areas: dict[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    job: Job
    error: str


Answer = Done | Failed


@dataclass(frozen=True)
class Labelling:
    """All that a process needs to know to label photographs. options: those of `lexiseg.load`."""

    model: str
    options: dict[str, Any]
    vocabulary: Vocabulary
    formats: tuple[Format, ...]
    batch_size: int
    max_pixels: int

    def __call__(self, jobs: Iterator[Job]) -> Iterator[Answer]:
        """Loads the model; one answer for each photograph, in order."""
        import lexiseg

        return _label(lexiseg.load(self.model, **self.options), jobs, self)


@dataclass
class _Slot:
    """A photograph on its way; the answer is there as soon as it is, or as soon as its results are written."""

    job: Job
    answer: Answer | Future[Answer] | None = None


def _label(predictor: Predictor, jobs: Iterator[Job], how: Labelling) -> Iterator[Answer]:
    """Results are written while the model looks at the next photographs, which it reads ahead itself."""
    slots: deque[_Slot] = deque()
    opened: deque[_Slot] = deque()  # in the order in which the predictor answers

    def sources() -> Iterator[Photograph]:
        from lexiseg.data.photographs import Photograph

        for job in jobs:
            slots.append(_Slot(job))
            try:
                source = Photograph.open(job.photo, max_pixels=how.max_pixels)
            except ImageError as error:
                slots[-1].answer = _failed(job, error)
            else:
                opened.append(slots[-1])
                yield source

    def skip(_: Any, error: LexisegError) -> None:
        slot = opened.popleft()
        slot.answer = _failed(slot.job, error)

    def finished(most_waiting: int) -> Iterator[Answer]:
        while slots and (answer := slots[0].answer) is not None:
            if isinstance(answer, Future):
                waiting = sum(isinstance(slot.answer, Future) for slot in slots)
                if waiting <= most_waiting and not answer.done():
                    return
                answer = answer.result()
            slots.popleft()
            yield answer

    with ThreadPoolExecutor(1) as pool:
        results = predictor.segment_many(
            sources(),
            how.vocabulary,
            batch_size=how.batch_size,
            scores=bool({Format.npz, Format.coco_rle} & set(how.formats)),
            keep_image=Format.overlay in how.formats,
            skip=skip,
        )
        for result in results:
            slot = opened.popleft()
            slot.answer = pool.submit(_finish, slot.job, result, how.formats)
            yield from finished(2)
        yield from finished(0)


def _failed(job: Job, error: LexisegError) -> Failed:
    return Failed(job, " ".join(str(error).split()))


def _finish(job: Job, result: Segmentation, formats: Sequence[Format]) -> Answer:
    try:
        _write(job, result, formats)
    except OutputError as error:
        return _failed(job, error)
    outputs = tuple(str(path) for path in job.outputs(formats))
    return Done(job, outputs, result.areas(), result.warnings)


def _report(answer: Answer, outcome: Outcome, bar: Progress | None, *, quiet: bool) -> None:
    photo = str(answer.job.photo)
    if bar is not None:
        bar.advance(bar.task_ids[0])
    if isinstance(answer, Failed):
        outcome.failed.append({"photo": photo, "error": answer.error})
        common.note(f"failed: {answer.error if photo in answer.error else f'{photo}: {answer.error}'}")
        return
    outcome.done.append({"photo": photo, "outputs": list(answer.outputs), "areas": answer.areas})
    for warning in answer.warnings:
        if warning not in outcome.warnings:
            outcome.warnings.append(warning)
            common.note(f"note: {warning}")
    if bar is None and not quiet:
        found = sorted((name for name, area in answer.areas.items() if area), key=lambda name: -answer.areas[name])
        shares = ", ".join(f"{name} {answer.areas[name]:.0%}" for name in found[:5])
        typer.echo(f"{photo} -> {answer.outputs[0]}  {shares}")


def _write(job: Job, result: Segmentation, formats: Sequence[Format]) -> None:
    from lexiseg import files

    for chosen, path in zip(formats, job.outputs(formats), strict=True):
        if chosen is Format.overlay:
            with files.atomic(path) as temporary:
                result.overlay().save(temporary)
        elif chosen is Format.coco_rle:
            import json

            files.write_text(path, json.dumps(result.to_coco_rle()))
        else:
            result.save(path)


def _summarise(outcome: Outcome, skipped: int, out: Path, json: bool) -> None:
    if json:
        common.print_json(
            {"results": outcome.done, "failed": outcome.failed, "skipped": skipped, "warnings": outcome.warnings}
        )
    else:
        parts = [f"{len(outcome.done)} labelled in {out}"]
        parts += [f"{skipped} skipped, their results exist"] if skipped else []
        common.note(", ".join(parts))
    if outcome.failed:
        total = len(outcome.failed) + len(outcome.done)
        raise ImageError(
            f"{len(outcome.failed)} of {total} photographs failed; each is named above, the others are done"
        )
