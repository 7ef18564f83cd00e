"""Times each stage of the main job on this machine.

`lexiseg bench` prints it beside a plain transformers script.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from lexiseg.benchmarks._classes import classes as class_set
from lexiseg.data.photographs import Photograph
from lexiseg.errors import SettingError
from lexiseg.evaluation.setup import Model
from lexiseg.inference import devices, preprocess
from lexiseg.inference.predictor import Predictor
from lexiseg.speed import measuring, stand_in
from lexiseg.speed.measuring import Summary
from lexiseg.speed.peer import Peer
from lexiseg.vocabulary import Vocabulary

__all__ = [
    "CLASSES",
    "STAGES",
    "WAYS",
    "Case",
    "Operator",
    "Row",
    "bench",
    "jpeg",
    "memory_of",
    "photograph",
    "profile",
    "stages",
    "words",
]

CLASSES = (21, 171, 847)  # of Pascal VOC, COCO-Stuff, ADE20K-full
WAYS = ("lexiseg", "peer fp32", "peer half")
STAGES = ("decode", "resize", "encoder", "head", "decoder", "write")
MOST_CLASSES = 65_535  # what a 16-bit label map can hold

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One size and number of classes.

    size: side of the photograph in pixels; seen: (height, width) of what the network saw.
    ms: of each way, from a photograph in memory to a label map in memory, in milliseconds.
    stages: of lexiseg from a JPEG in memory to a PNG on disk, in milliseconds.
    extra_mb: what each way's process grows by over the weights at its worst moment; None where it was not measured.
    foreign_load_cores: cores kept busy by others just before.
    """

    size: int
    seen: tuple[int, int]
    classes: int
    ms: dict[str, Summary]
    stages: dict[str, Summary]
    extra_mb: dict[str, float | None]
    foreign_load_cores: float | None

    @property
    def faster_than(self) -> dict[str, float]:
        """How many times as long as lexiseg each peer takes."""
        own = self.ms["lexiseg"]["median"]
        return {way: time["median"] / own for way, time in self.ms.items() if way != "lexiseg"}

    @property
    def around(self) -> float:
        """Everything around the encoder, as a fraction of the encoder's own time."""
        times = {name: time["median"] for name, time in self.stages.items()}
        return (sum(times.values()) - times["encoder"]) / times["encoder"]

    @property
    def images_per_second(self) -> float:
        """From JPEG to PNG, one after the other."""
        return 1e3 / sum(time["median"] for time in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        derived = {
            "faster_than": self.faster_than,
            "around_encoder": self.around,
            "images_per_second": self.images_per_second,
        }
        return {**dataclasses.asdict(self), **derived}


@dataclass(frozen=True)
class Operator:
    """An operator of torch: its own time, without those that it calls, over all calls of one job."""

    name: str
    ms: float
    calls: int


@dataclass(frozen=True)
class Case:
    """What is measured, in values that another process can rebuild it from.

    network: the model keeps what the network sees at `size` too, whatever its own settings say.
    """

    model: Model
    size: int
    classes: int
    threads: int
    network: bool = False

    @functools.cached_property
    def image(self) -> Pixels:
        return photograph(self.size)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        return words(self.classes)


def bench(
    model: Model,
    *,
    size: int = 512,
    classes: Sequence[int] = CLASSES,
    repeats: int = 5,
    threads: int | None = None,
    memory: bool = True,
    peers: bool = True,
    network: bool = False,
) -> Iterator[Row]:
    """A row for each number of classes, measured as it is asked for.

    Nothing is read from the network: a model whose weights would have to be downloaded gets random ones of its shape.
    The photograph is real, the words are the first of ADE20K's; a model of random weights gets random words.

    size: side of the photograph in pixels. network: the network sees it at this size, whatever the model's settings.
    repeats: timed jobs of each kind, after one that is not counted.
    threads: of torch, here and in the processes that measure memory; None leaves it as it is.
    memory: measure it too, each way and number of classes in a process of its own.
    peers: measure them too.

    Raises `UnknownName`, `SettingError` and `WeightsError` as `lexiseg.load` does, before anything is measured.
    """
    _check(size=size, repeats=repeats, threads=threads, **{f"classes[{i}]": count for i, count in enumerate(classes)})
    with _threads(threads):
        subject = _open(Case(model, size, 1, torch.get_num_threads(), network))
    return _rows(subject, classes, repeats, memory, peers)


def _rows(subject: _Opened, classes: Sequence[int], repeats: int, memory: bool, peers: bool) -> Iterator[Row]:
    for count in classes:
        case = dataclasses.replace(subject.case, classes=count)
        with _threads(case.threads):
            yield _measure(subject, case, repeats, memory, WAYS if peers else WAYS[:1])


def _measure(subject: _Opened, case: Case, repeats: int, memory: bool, ways: Sequence[str]) -> Row:
    jobs = {way: subject.job(way, case) for way in ways if _fits(way, case)}
    load = measuring.foreign_load()
    times = measuring.race(jobs, repeats=repeats)
    with tempfile.TemporaryDirectory() as folder:
        parts = stages(subject.predictor, jpeg(case.image), case.vocabulary, Path(folder) / "labels.png", repeats)
    extra = {way: measuring.in_new_process(memory_of, case, way) if memory else None for way in jobs}
    seen = preprocess.target_size(case.size, case.size, subject.predictor.inference)
    return Row(case.size, seen, case.classes, times, parts, extra, load)


def stages(predictor: Predictor, photo: bytes, vocabulary: Vocabulary, out: Path, repeats: int) -> dict[str, Summary]:
    """Milliseconds of each of STAGES, from an image file's content to a saved label map; the first job is not counted.

    "resize" is all that happens to pixels before the network and to its result before it is classified (windows).
    """
    jobs = [_staged(predictor, photo, vocabulary, out) for _ in range(1 + repeats)][1:]
    return {name: measuring.summary([job[name] for job in jobs]) for name in STAGES}


def _staged(predictor: Predictor, photo: bytes, vocabulary: Vocabulary, out: Path) -> dict[str, float]:
    predictor.embed_text(vocabulary)  # kept, so that it is not a part of the job
    with _watch(predictor.segmenter, "embed_image", "classify") as inside:
        times = [measuring.clock()]
        image = Photograph.open(photo).pixels()
        times.append(measuring.clock())
        embedded = predictor.embed(image)
        times.append(measuring.clock())
        result = predictor.classify(embedded, vocabulary)
        times.append(measuring.clock())
        result.save(out)
        times.append(measuring.clock())
    decode, embed, classify, write = (1e3 * (after - before) for before, after in itertools.pairwise(times))
    encoder, head = inside["embed_image"], inside["classify"]
    return dict(zip(STAGES, (decode, embed - encoder, encoder, head, classify - head, write), strict=True))


@contextlib.contextmanager
def _watch(segmenter: Any, *methods: str) -> Iterator[dict[str, float]]:
    """Milliseconds spent in each method of this object while the block runs."""
    spent = dict.fromkeys(methods, 0.0)

    def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = measuring.clock()
            result = method(*arguments)
            spent[name] += 1e3 * (measuring.clock() - start)
            return result

        return call

    own = {name: vars(segmenter)[name] for name in methods if name in vars(segmenter)}
    try:
        for name in methods:
            setattr(segmenter, name, watched(name, getattr(segmenter, name)))
        yield spent
    finally:
        for name in methods:
            delattr(segmenter, name)
        for name, method in own.items():
            setattr(segmenter, name, method)


def profile(
    model: Model, *, size: int = 512, classes: int = 171, threads: int | None = None, network: bool = False
) -> list[Operator]:
    """Torch's operators in one job, from a photograph in memory to a label map in memory, the longest first.

    Work outside of torch's operators is not among them: the compiled decoder, and decoding and writing of files.
    """
    _check(size=size, threads=threads, classes=classes)
    with _threads(threads):
        case = Case(model, size, classes, torch.get_num_threads(), network)
        subject = _open(case)
        job = subject.job("lexiseg", case)
        job()
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if subject.predictor.device.type == "cuda":
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=kinds, acc_events=True) as found:
            job()
    operators = [
        Operator(event.key, (event.self_cpu_time_total + event.self_device_time_total) / 1e3, event.count)
        for event in found.key_averages()
    ]
    return sorted(operators, key=lambda operator: -operator.ms)


@dataclass(frozen=True, eq=False)
class _Opened:
    case: Case
    predictor: Predictor

    def job(self, way: str, case: Case) -> Callable[[], Any]:
        """The job done in one of WAYS, its words embedded."""
        classifier, image, device = self.predictor.embed_text(case.vocabulary), case.image, self.predictor.device
        if way == "lexiseg":
            return lambda: self.predictor.segment(image, case.vocabulary)
        half = devices.dtype("auto", device)
        dtype = torch.float32 if way == "peer fp32" else torch.bfloat16 if half == torch.float32 else half
        peer = Peer(self.predictor.segmenter, classifier, self.predictor.inference, dtype=dtype, device=device)
        return lambda: peer.label(image)


def _open(case: Case) -> _Opened:
    changes: dict[str, Any] = {"prompts": "single", "background_threshold": None}
    if case.network:
        changes |= {"size": (case.size, case.size), "short_side": None, "long_side": None}
    return _Opened(case, stand_in.load(case.model, **changes))


def memory_of(case: Case, way: str = "lexiseg") -> float | None:
    """MB that one job takes over the loaded weights. Call it with `measuring.in_new_process`."""
    torch.set_num_threads(case.threads)
    tiny = dataclasses.replace(case, model=Model("maskclip/tiny"), size=64)
    _open(tiny).job(way, tiny)()  # compiles and allocates, which is not a cost of an image
    return measuring.extra_memory(_open(case).job(way, case))


def _fits(way: str, case: Case) -> bool:
    """Whether the peer's logits at full size, and as much again, fit into memory."""
    return way == "lexiseg" or 2 * 4 * case.classes * case.size**2 < measuring.available_memory()


def photograph(size: int) -> Pixels:
    """A real one, of `size` x `size` pixels."""
    from skimage import data

    return np.array(Image.fromarray(data.astronaut()).resize((size, size), Image.Resampling.BICUBIC))


def jpeg(image: Pixels) -> bytes:
    """As a camera would have written it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return file.getvalue()


def words(classes: int) -> Vocabulary:
    """The first of ADE20K's 847 classes; beyond them, numbered ones."""
    names = [known.name for known in class_set("ade847", "first")[:classes]]
    return Vocabulary([*names, *(f"word {place}" for place in range(len(names), classes))])


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise SettingError(f"{name}={number} cannot be measured; give 1 or more")
        if number is not None and name.startswith("classes") and number > MOST_CLASSES:
            raise SettingError(f"{name}={number} does not fit into a label map; give {MOST_CLASSES} at most")
