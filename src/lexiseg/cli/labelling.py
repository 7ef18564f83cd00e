"""Labels and writes photographs, in one process or several.

One bad file never stops the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexiseg.cli import outputs
from lexiseg.cli.outputs import Format, Job
from lexiseg.errors import ImageError, LexisegError, OutputError
from lexiseg.formats import origin
from lexiseg.vocabulary import Vocabulary

if TYPE_CHECKING:
    from lexiseg.data.photographs import Photograph
    from lexiseg.inference.predictor import Predictor
    from lexiseg.segmentation import Segmentation

__all__ = ["Answer", "Done", "Failed", "Labelling", "write"]


@dataclass(frozen=True)
class Done:
    """One photograph that has been labelled and written.

    areas: fraction of the picture, by class.
    unlabelled: fraction of the picture that is none of the classes.
    """

    job: Job
    areas: dict[str, float]
    unlabelled: float
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
    """

    model: str
    options: dict[str, Any]
    vocabulary: Vocabulary
    formats: tuple[Format, ...]
    batch_size: int
    max_pixels: int
    request: str

    def __call__(self, jobs: Iterator[Job]) -> Iterator[Answer]:
        """Loads the model; one answer for each photograph, in order. Raises `OutputError` where the disk is full."""
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
            slot.answer = pool.submit(_finish, slot.job, result, how.request)
            yield from finished(2)
        yield from finished(0)


def _failed(job: Job, error: LexisegError) -> Failed:
    return Failed(job, " ".join(str(error).split()))


def _finish(job: Job, result: Segmentation, request: str) -> Answer:
    try:
        write(result, job, outputs.made_with(job.photo, request))
    except OutputError as error:
        if outputs.is_fatal(error):
            raise
        return _failed(job, error)
    return Done(job, result.areas(), result.unlabelled_area, result.warnings)


def write(result: Segmentation, job: Job, made_with: str) -> None:
    """Writes the formats of a job. Raises `OutputError`."""
    for chosen, path in job.outputs.items():
        if chosen is Format.overlay:
            _write_overlay(result, path, made_with)
        elif chosen is Format.coco_rle:
            _write_coco(result, job.photo, path, made_with)
        else:
            result.save(path, grey=chosen is Format.grey_png, made_with=made_with)


def _write_overlay(result: Segmentation, path: Path, made_with: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    from lexiseg import files

    told = PngInfo()
    for key, text in origin.png_texts(made_with).items():
        told.add_text(key, text)
    with files.atomic(path) as temporary:
        # level 2 takes a third of the time of Pillow's own, and a quarter more bytes
        result.overlay().save(temporary, pnginfo=told, compress_level=2)


def _write_coco(result: Segmentation, photo: Path, path: Path, made_with: str) -> None:
    import json

    from lexiseg import files

    content = result.to_coco(photo.name)
    content["info"] |= origin.stamp(made_with)
    files.write_text(path, json.dumps(content))
