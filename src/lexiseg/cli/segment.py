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
    for name, jobs in todo.items():
        if not jobs:
            continue
        predictor = common.load(
            name, weights=weights, preset=preset, device=device, dtype=dtype,
            templates=templates, refine=refine, background_threshold=threshold, **changes,
        )  # fmt: skip
        _label(predictor, jobs, vocabulary, formats, batch_size, round(max_megapixels * MEGA), outcome, quiet=json)
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


def _label(
    predictor: Predictor,
    jobs: Sequence[Job],
    vocabulary: Vocabulary,
    formats: Sequence[Format],
    batch_size: int,
    max_pixels: int,
    outcome: Outcome,
    *,
    quiet: bool,
) -> None:
    """Results are written while the model looks at the next photographs, which it reads ahead itself."""
    with common.progress("labelling", len(jobs)) as bar, ThreadPoolExecutor(1) as pool:
        opened: deque[Job] = deque()  # in the order in which the predictor answers
        writes: deque[tuple[Job, Segmentation, Future[None]]] = deque()

        def sources() -> Iterator[Photograph]:
            from lexiseg.data.photographs import Photograph

            for job in jobs:
                try:
                    source = Photograph.open(job.photo, max_pixels=max_pixels)
                except ImageError as error:
                    _fail(job, error, outcome, bar)
                else:
                    opened.append(job)
                    yield source

        def finish(most: int) -> None:
            while len(writes) > most:
                job, result, write = writes.popleft()
                try:
                    write.result()
                except OutputError as error:
                    _fail(job, error, outcome, bar)
                else:
                    _record(job, result, formats, outcome, bar, quiet=quiet)

        results = predictor.segment_many(
            sources(),
            vocabulary,
            batch_size=batch_size,
            scores=bool({Format.npz, Format.coco_rle} & set(formats)),
            keep_image=Format.overlay in formats,
            skip=lambda _, error: _fail(opened.popleft(), error, outcome, bar),
        )
        for result in results:
            job = opened.popleft()
            writes.append((job, result, pool.submit(_write, job, result, formats)))
            finish(most=2)
        finish(most=0)


def _fail(job: Job, error: LexisegError, outcome: Outcome, bar: Progress | None) -> None:
    text = " ".join(str(error).split())
    outcome.failed.append({"photo": str(job.photo), "error": text})
    _advance(bar)
    common.note(f"failed: {text if str(job.photo) in text else f'{job.photo}: {text}'}")


def _advance(bar: Progress | None) -> None:
    if bar is not None:
        bar.advance(bar.task_ids[0])


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


def _record(
    job: Job, result: Segmentation, formats: Sequence[Format], outcome: Outcome, bar: Progress | None, *, quiet: bool
) -> None:
    areas = result.areas()
    outputs = [str(path) for path in job.outputs(formats)]
    outcome.done.append({"photo": str(job.photo), "outputs": outputs, "areas": areas})
    _advance(bar)
    if bar is None and not quiet:
        shares = ", ".join(f"{name} {areas[name]:.0%}" for name in result.found[:5])
        typer.echo(f"{job.photo} -> {outputs[0]}  {shares}")


def _summarise(outcome: Outcome, skipped: int, out: Path, json: bool) -> None:
    if json:
        common.print_json({"results": outcome.done, "failed": outcome.failed, "skipped": skipped})
    else:
        parts = [f"{len(outcome.done)} labelled in {out}"]
        parts += [f"{skipped} skipped, their results exist"] if skipped else []
        common.note(", ".join(parts))
    if outcome.failed:
        total = len(outcome.failed) + len(outcome.done)
        raise ImageError(
            f"{len(outcome.failed)} of {total} photographs failed; each is named above, the others are done"
        )
