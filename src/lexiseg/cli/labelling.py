"""Labels photographs, or draws their regions, and writes them.

One bad file never stops the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lexiseg.cli import outputs
from lexiseg.cli.outputs import Format, Job
from lexiseg.errors import ImageError, LexisegError, OutputError
from lexiseg.formats import origin
from lexiseg.vocabulary import Vocabulary

if TYPE_CHECKING:
    from PIL import Image

    from lexiseg.data.photographs import ImageSource, Photograph
    from lexiseg.inference.given_masks import Masks
    from lexiseg.inference.predictor import Predictor
    from lexiseg.inference.regions import Proposing, Regions
    from lexiseg.segmentation import Segmentation

__all__ = ["Answer", "Dividing", "Done", "Failed", "Labelling", "keys_of", "write"]


class Result(Protocol):
    """What both kinds of results can do."""

    def overlay(self) -> Image.Image: ...

    def to_coco(self, file_name: str) -> dict[str, Any]: ...

    def save(self, path: Path, *, grey: bool, made_with: str) -> None: ...


@dataclass(frozen=True)
class Done:
    """One photograph whose results have been written.

    facts: what `--json` tells of it. told: the same in a line.
    """

    job: Job
    facts: dict[str, Any]
    told: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    job: Job
    error: str


Answer = Done | Failed


@dataclass(frozen=True)
class Labelling:
    """All that a process needs to know to label photographs.

    options: those of `lexiseg.load`.
    request: a hash of words, model and settings.
    masks: where masks are stored that take the place of the model's own.
    """

    model: str
    options: dict[str, Any]
    vocabulary: Vocabulary
    formats: tuple[Format, ...]
    batch_size: int
    max_pixels: int
    request: str
    masks: Path | None = None

    def __call__(self, jobs: Iterator[Job]) -> Iterator[Answer]:
        """Loads the model; one answer for each photograph, in order. Raises `OutputError` where the disk is full."""
        import lexiseg

        return _label(lexiseg.load(self.model, **self.options), jobs, self)


@dataclass(frozen=True)
class Dividing:
    """All that a process needs to know to draw the regions of photographs.

    model: of a mask method, or a proposer; options: those of `lexiseg.load`, or the proposer's settings.
    """

    model: str
    options: dict[str, Any]
    formats: tuple[Format, ...]
    max_pixels: int
    request: str

    def __call__(self, jobs: Iterator[Job]) -> Iterator[Answer]:
        """As `Labelling` does it."""
        from lexiseg.data.photographs import Photograph

        source = self._source()
        for job in jobs:
            try:
                photo = Photograph.open(job.photo, max_pixels=self.max_pixels)
                regions = source.regions(photo, keep_image=Format.overlay in self.formats)
            except ImageError as error:
                yield _failed(job, error)
            else:
                yield _finish(job, regions, self.request, _tell_count)

    def _source(self) -> Predictor | Proposing:
        import lexiseg
        from lexiseg import catalog
        from lexiseg.inference.regions import Proposing

        if self.model in catalog.names("proposals"):
            return Proposing.load(self.model, self.options)
        return lexiseg.load(self.model, **self.options)


def keys_of(name: Path) -> tuple[str, str]:
    """The names by which the masks of a photograph may be stored: without its suffix, or with it."""
    return name.with_suffix("").as_posix(), name.as_posix()


@dataclass
class _Slot:
    """A photograph on its way; the answer is there as soon as it is, or as soon as its results are written."""

    job: Job
    answer: Answer | Future[Answer] | None = None


def _label(predictor: Predictor, jobs: Iterator[Job], how: Labelling) -> Iterator[Answer]:
    """Results are written while the model looks at the next photographs, which it reads ahead itself."""
    slots: deque[_Slot] = deque()
    opened: deque[_Slot] = deque()  # in the order in which the predictor answers
    names: dict[str, Path] = {}

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
                names[source.name] = job.name
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
            masks=None if how.masks is None else _stored(how.masks, names),
        )
        for result in results:
            slot = opened.popleft()
            slot.answer = pool.submit(_finish, slot.job, result, how.request, _tell_areas)
            yield from finished(2)
        yield from finished(0)


def _stored(place: Path, names: Mapping[str, Path]) -> Callable[[ImageSource], Masks]:
    from lexiseg.data.photographs import Photograph
    from lexiseg.proposals._folder import MaskFolder

    folder = MaskFolder.open(place)

    def masks(image: ImageSource) -> Masks:
        photo = Photograph.open(image)
        return folder.of(*keys_of(names[photo.name])).read(photo.size)

    return masks


def _failed(job: Job, error: LexisegError) -> Failed:
    return Failed(job, " ".join(str(error).split()))


def _finish(job: Job, result: Any, request: str, tell: Callable[[Any], tuple[dict[str, Any], str]]) -> Answer:
    try:
        write(result, job, outputs.made_with(job, request))
    except OutputError as error:
        if outputs.is_fatal(error):
            raise
        return _failed(job, error)
    return Done(job, *tell(result), result.warnings)


def _tell_areas(result: Segmentation) -> tuple[dict[str, Any], str]:
    """The areas of all classes; the five largest and what is unlabelled in a line, as percentages of the picture."""
    areas, unlabelled = result.areas(), result.unlabelled_area
    shares = [f"{name} {areas[name]:.0%}" for name in result.found[:5]] + _unlabelled(unlabelled)
    return {"areas": areas, "unlabelled_area": unlabelled}, ", ".join(shares)


def _tell_count(result: Regions) -> tuple[dict[str, Any], str]:
    """How many regions there are, and what is in none."""
    count, unlabelled = len(result), result.unlabelled_area
    told = [f"{count} region{'s' * (count != 1)}", *_unlabelled(unlabelled)]
    return {"regions": count, "unlabelled_area": unlabelled}, ", ".join(told)


def _unlabelled(area: float) -> list[str]:
    return [f"unlabelled {area:.0%}"] if area else []


def write(result: Result, job: Job, made_with: str) -> None:
    """Writes the formats of a job. Raises `OutputError`."""
    for chosen, path in job.outputs.items():
        if chosen is Format.overlay:
            _write_overlay(result, path, made_with)
        elif chosen is Format.coco_rle:
            _write_coco(result, job.photo, path, made_with)
        else:
            result.save(path, grey=chosen is Format.grey_png, made_with=made_with)


def _write_overlay(result: Result, path: Path, made_with: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    from lexiseg import files

    told = PngInfo()
    for key, text in origin.png_texts(made_with).items():
        told.add_text(key, text)
    with files.atomic(path) as temporary:
        # level 2 takes a third of the time of Pillow's own, and a quarter more bytes
        result.overlay().save(temporary, pnginfo=told, compress_level=2)


def _write_coco(result: Result, photo: Path, path: Path, made_with: str) -> None:
    import json

    from lexiseg import files

    content = result.to_coco(photo.name)
    content["info"] |= origin.stamp(made_with)
    files.write_text(path, json.dumps(content))
