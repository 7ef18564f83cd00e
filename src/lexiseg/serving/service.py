"""Answers requests with the models it was made with.

It reads photographs, has them worked on, and keeps embeddings.

    request -> opened -> room for its pixels -> decoded (threads) -> worker of the model -> answer (threads)

The models are a mapping that is made at the start. A name in a request is looked up there and nowhere else: it never
reaches the file system, the hub or `importlib`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from lexiseg import __version__, catalog
from lexiseg.data.photographs import Photograph
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.prompts import names as prompt_names
from lexiseg.inference.predictor import Embedded, Predictor
from lexiseg.segmentation import Segmentation
from lexiseg.segmenter import Inference
from lexiseg.serving import answers
from lexiseg.serving.cache import Embeddings, Kept
from lexiseg.serving.forms import Asked
from lexiseg.serving.limits import Limits
from lexiseg.serving.metrics import Metrics
from lexiseg.serving.problems import Problem
from lexiseg.serving.workers import Done, Job, Worker

__all__ = ["Answer", "Room", "Service", "deadline_of", "warm"]

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Answer:
    """A label map, or the bytes of a file or JSON values made of it, and the seconds it took.

    settings: of the model and the question, without places on the server.
    """

    content: Any
    vocabulary: str
    settings: Mapping[str, Any]
    queued: float
    embedding: float
    answering: float


class Room:
    """Pixels that may be in memory at once, given out in the order they are asked for; for one event loop."""

    def __init__(self, pixels: int) -> None:
        self.all = self.free = pixels
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, pixels: int) -> AsyncIterator[None]:
        """Waits for room. Raises `Problem` for more than there will ever be."""
        if pixels > self.all:
            raise Problem("too-many-pixels", f"{pixels:,} pixels in one request are more than {self.all:,}; send fewer")
        if self._waiting or pixels > self.free:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((pixels, turn))
            try:
                await turn
            except asyncio.CancelledError:
                self._give(pixels if turn.done() and not turn.cancelled() else 0)
                raise
        else:
            self.free -= pixels
        try:
            yield
        finally:
            self._give(pixels)

    def _give(self, pixels: int) -> None:
        self.free += pixels
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.cancelled():
                if wanted > self.free:
                    return
                self.free -= wanted
                turn.set_result(None)
            self._waiting.popleft()


class Service:
    """predictors: what is served, by the names that requests may use; the first is the default.

    It takes the predictors over: each belongs to a thread from `start` on, and answers with its name here.
    """

    def __init__(self, predictors: Mapping[str, Predictor], limits: Limits | None = None) -> None:
        assert predictors, "a server needs a model"
        self.limits = limits = limits or Limits()
        self.predictors = dict(predictors)
        for name, predictor in self.predictors.items():
            predictor.name = name
        self.default = next(iter(self.predictors))
        self.refiners = tuple(catalog.names("refine"))
        self.prompts = prompt_names()
        self.embeddings = Embeddings(limits.cache_bytes, limits.cache_seconds)
        self.metrics = Metrics(
            cached=lambda: self.embeddings.bytes,
            waiting=lambda: sum(map(len, self.workers.values())),
            admitted=lambda: self.admitted,
        )
        self.room = Room(limits.pixels_at_once)
        self.admitted = 0
        self.draining = False
        self.workers = {
            name: Worker(name, predictor, self.metrics, most=limits.batch, more=lambda: self.admitted)
            for name, predictor in self.predictors.items()
        }
        # decoding and encoding: beside the workers' own computing
        self._pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1), "lexiseg-serve")

    def start(self) -> None:
        for worker in self.workers.values():
            worker.start()

    def stop(self) -> None:
        """Finishes what was accepted and forgets every photograph."""
        self.draining = True
        for worker in self.workers.values():
            worker.close(self.limits.seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.embeddings.clear()

    def model(self, name: str | None) -> str:
        """The name of a model that is served. Raises `Problem` for any other."""
        if name is None:
            return self.default
        if name not in self.predictors:
            raise Problem("unknown-model", f"{name[:80]!r} is not served here; there are {', '.join(self.predictors)}")
        return name

    def kept(self, key: str) -> Kept:
        """An embedding by its id. Raises `Problem` where it is gone."""
        if (found := self.embeddings.get(key)) is None:
            raise Problem("unknown-embedding", "it has expired, or another server has it; embed the photograph again")
        return found

    def about(self) -> dict[str, Any]:
        """What is served, and the limits."""
        limits = dataclasses.asdict(self.limits)
        shown = ("request_bytes", "pixels", "images", "words", "letters", "seconds")
        return {
            "models": [_about(name, predictor) for name, predictor in self.predictors.items()],
            "default": self.default,
            "prompts": list(self.prompts),
            "refine": ["none", *self.refiners],
            "limits": {name: limits[name] for name in shown},
            "version": __version__,
        }

    def open(self, name: str, data: bytes) -> Photograph:
        """Reads the header. Raises `ImageError`."""
        return Photograph.open(data, max_pixels=self.limits.pixels, name=name)

    async def segment(self, photo: Photograph, model: str, asked: Asked, form: str, deadline: float) -> Answer:
        """A photograph with room for its pixels, labelled; raises what reading and answering raise."""
        done = await self._look(photo, model, self._ask(asked), deadline, keep_image=form == "overlay")
        return await self._answered(done, photo.name, form)

    async def embed(self, photo: Photograph, model: str, deadline: float) -> tuple[str, Done]:
        """The id of an embedding that is kept from now on."""
        done = await self._look(photo, model, None, deadline, keep_image=False)
        return self.embeddings.put(model, done.embedded), done

    async def classify(self, kept: Kept, asked: Asked, form: str, name: str | None, deadline: float) -> Answer:
        done = await self._work(kept.model, Job(kept.embedded, self._ask(asked), deadline))
        return await self._answered(done, name or kept.embedded.name, form)

    async def scores(self, kept: Kept, asked: Asked, name: str, deadline: float) -> dict[str, Any]:
        """The map of one class's posterior."""

        def ask(predictor: Predictor, embedded: Embedded) -> Any:
            question = self._question(predictor, asked)
            return question.posterior(embedded, name, long_side=self.limits.map_pixels)

        done = await self._work(kept.model, Job(kept.embedded, ask, deadline))
        return await self.in_pool(answers.score_map, done.answer, name)

    async def _look(
        self, photo: Photograph, model: str, ask: Callable[[Predictor, Embedded], Any] | None, deadline: float,
        *, keep_image: bool,
    ) -> Done:  # fmt: skip
        picture = await self.in_pool(functools.partial(self.predictors[model].read, photo, keep_image=keep_image))
        return await self._work(model, Job(picture, ask, deadline))

    async def _work(self, model: str, job: Job) -> Done:
        return await asyncio.wrap_future(self.workers[model].submit(job))

    async def in_pool(self, function: Callable[..., Value], *given: Any) -> Value:
        """Calls a function beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *given)

    def _ask(self, asked: Asked) -> Callable[[Predictor, Embedded], Segmentation]:
        return lambda predictor, embedded: self._question(predictor, asked).answer(embedded)

    @staticmethod
    def _question(predictor: Predictor, asked: Asked) -> Any:
        prompts = None if asked.prompts is None else Prompts.open(asked.prompts)
        return predictor.ask(asked.vocabulary, threshold=asked.threshold, prompts=prompts, refine=asked.refine)

    async def _answered(self, done: Done, name: str, form: str) -> Answer:
        found: Segmentation = done.answer
        clean = answers.redacted(found)
        content: Any
        if form in answers.FILES:
            content = await self.in_pool(answers.file, found if form == "overlay" else clean, name, form)
        else:
            content = await self.in_pool(answers.result, clean, name, form)
        digest = clean.vocabulary.digest
        return Answer(content, digest, clean.settings, done.queued, done.embedding, done.answering)


def warm(predictor: Predictor) -> None:
    """One photograph and one question, so that the first visitor does not wait for what is compiled and loaded late."""
    import numpy as np

    (embedded,) = predictor.embed_many([predictor.read(np.full((96, 128, 3), 127, np.uint8), keep_image=False)])
    question = predictor.ask("grass, sky")
    question.answer(embedded)
    question.posterior(embedded, "sky", long_side=64)


def _about(name: str, predictor: Predictor) -> dict[str, Any]:
    inference = predictor.inference
    known = inference.prompts in prompt_names()
    return {
        "name": name,
        "method": type(predictor.segmenter).__module__.rpartition(".")[2],
        "about": str(predictor.about.get("about", "")),
        "input": _input(inference),
        "own_background": predictor.segmenter.traits.background == "own",
        "prompts": inference.prompts if known else answers.PRIVATE,
        "refine": inference.refine or "none",
        "threshold": inference.background_threshold,
    }


def _input(inference: Inference) -> str:
    if inference.size is not None:
        return f"{inference.size[0]} x {inference.size[1]}"
    sides = [f"{side} side {value}" for side, value in (("short", inference.short_side), ("long", inference.long_side))
             if value is not None]  # fmt: skip
    return ", ".join(sides) or "its own size"


def deadline_of(limits: Limits) -> float:
    """When an answer that is begun now is too late, on the clock of `time.monotonic`."""
    return time.monotonic() + limits.seconds
