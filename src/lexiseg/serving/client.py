"""Asks a lexiseg server from Python.

Photographs and words go out, the same `Segmentation` comes back.

    from lexiseg.serving.client import Client
    with Client("http://127.0.0.1:8000") as server:
        result = server.segment("street.jpg", "road, car, person|pedestrian")

Needs httpx and neither torch nor a model. A busy server is asked again when it says, and a photograph whose embedding
has expired there is embedded again. Errors are those of the library: `ImageError`, `VocabularyError`, `SettingError`,
`UnknownName`; `ServiceError` for the rest.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from lexiseg.errors import (
    ImageError,
    LexisegError,
    MissingDependency,
    ServiceError,
    SettingError,
    UnknownName,
    VocabularyError,
)
from lexiseg.segmentation import Segmentation, label_dtype
from lexiseg.vocabulary import Vocabulary, Words

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncClient", "Client", "Seen"]

RETRIES = 5  # of a busy server
MOST_WAIT = 30.0  # seconds between two tries
TIMEOUT = 60.0  # seconds
TOGETHER = 8  # photographs in one request, as many as a server takes by default


@dataclass(frozen=True)
class Seen:
    """A photograph that the server has embedded.

    size: (height, width). photograph: its name and bytes, to embed it again when the server has forgotten it.
    """

    id: str
    model: str
    size: tuple[int, int]
    photograph: tuple[str, bytes]


@dataclass(frozen=True)
class _Question:
    """Words and options, as both ways of asking send them."""

    vocabulary: Vocabulary
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls, words: Words, background: Any, threshold: float | None, prompts: str | None, refine: str | None
    ) -> Self:
        vocabulary = Vocabulary.of(words)
        if background is not None:
            vocabulary = vocabulary.with_background(background)
        given = {"threshold": threshold, "prompts": prompts, "refine": refine}
        return cls(vocabulary, {key: value for key, value in given.items() if value is not None})

    @property
    def body(self) -> dict[str, Any]:
        vocabulary = self.vocabulary
        classes = {name: list(words) for name, words in zip(vocabulary.names, vocabulary.words, strict=True)}
        background = {"background": list(vocabulary.background)} if vocabulary.background else {}
        return {"words": classes, **background, **self.options}

    @property
    def fields(self) -> dict[str, str]:
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.body.items()}


class _Base:
    """What both clients share: everything but waiting."""

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}

    def _wait(self, answer: httpx.Response, attempt: int) -> float | None:
        """Seconds until a busy server is to be asked again; None for any other answer."""
        if answer.status_code != 503 or attempt >= RETRIES:
            return None
        given = answer.headers.get("retry-after", "")
        return min(MOST_WAIT, float(given) if given.isdecimal() else 1.0) * (1 + attempt / 2)


class Client(_Base):
    """url: of the server. token: what it asks for. timeout: seconds for an answer, waiting for a busy server aside.

    Raises `MissingDependency` without the extra `client`.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", *, token: str | None = None, timeout: float = TIMEOUT):
        super().__init__(url, token, timeout)
        self._http = _httpx().Client(base_url=self.url, headers=self._headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def segment(
        self,
        image: Any,
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        model: str | None = None,
        prompts: str | None = None,
        refine: str | None = None,
    ) -> Segmentation:
        """A photograph labelled with words, as `Predictor.segment` does it, without the scores of pixels.

        image: a path, bytes, a binary file, a Pillow image or an array [H, W, 3].
        model: one of `models`; None is the server's default.
        prompts, refine: names, in place of the model's own.
        """
        (result,) = self.segment_many(
            [image], words, background=background, threshold=threshold, model=model, prompts=prompts, refine=refine
        )
        return result

    def segment_many(
        self,
        images: Iterable[Any],
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        model: str | None = None,
        prompts: str | None = None,
        refine: str | None = None,
    ) -> list[Segmentation]:
        """The same for many photographs, several in a request. Raises for the first that cannot be labelled."""
        question = _Question.of(words, background, threshold, prompts, refine)
        found: list[Segmentation] = []
        for some in _together(images):
            answer = self._post("/v1/segment", files=_files(some), data=question.fields | _model(model))
            found += _segmentations(answer.json(), question.vocabulary)
        return found

    def embed(self, image: Any, *, model: str | None = None) -> Seen:
        """Has the server look at a photograph once, for any number of `classify` calls."""
        name, data = _photograph(image)
        answer = self._post("/v1/embed", files=_files([(name, data)]), data=_model(model))
        return _seen(answer.json(), (name, data))

    def classify(
        self,
        seen: Seen,
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        prompts: str | None = None,
        refine: str | None = None,
    ) -> Segmentation:
        """What `segment` returns, of what `embed` has returned; scores of pixels come with it, in steps of 1/255."""
        question = _Question.of(words, background, threshold, prompts, refine)
        body = {**question.body, "format": "map"}
        try:
            answer = self._post("/v1/classify", json={"id": seen.id, **body})
        except ServiceError as error:
            if error.kind != "unknown-embedding":
                raise
            again = self.embed(seen.photograph, model=seen.model)
            answer = self._post("/v1/classify", json={"id": again.id, **body})
        (result,) = _segmentations(answer.json(), question.vocabulary)
        return result

    def forget(self, seen: Seen) -> None:
        """Has the server forget a photograph now."""
        _checked(self._http.delete(f"/v1/embed/{seen.id}"))

    def models(self) -> dict[str, Any]:
        """What the server serves, and its limits."""
        content: dict[str, Any] = _checked(self._get("/v1/models")).json()
        return content

    def _get(self, path: str) -> httpx.Response:
        try:
            answer: httpx.Response = self._http.get(path)
            return answer
        except _httpx().TransportError as error:
            raise _unreachable(self.url, error) from error

    def _post(self, path: str, **content: Any) -> httpx.Response:
        attempt = 0
        while True:
            try:
                answer = self._http.post(path, **content)
            except _httpx().TransportError as error:
                raise _unreachable(self.url, error) from error
            if (seconds := self._wait(answer, attempt)) is None:
                return _checked(answer)
            time.sleep(seconds)
            attempt += 1


class AsyncClient(_Base):
    """The same as `Client`, with methods that are awaited."""

    def __init__(self, url: str = "http://127.0.0.1:8000", *, token: str | None = None, timeout: float = TIMEOUT):
        super().__init__(url, token, timeout)
        self._http = _httpx().AsyncClient(base_url=self.url, headers=self._headers, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def segment(
        self,
        image: Any,
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        model: str | None = None,
        prompts: str | None = None,
        refine: str | None = None,
    ) -> Segmentation:
        """See `Client.segment`."""
        (result,) = await self.segment_many(
            [image], words, background=background, threshold=threshold, model=model, prompts=prompts, refine=refine
        )
        return result

    async def segment_many(
        self,
        images: Iterable[Any],
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        model: str | None = None,
        prompts: str | None = None,
        refine: str | None = None,
    ) -> list[Segmentation]:
        """See `Client.segment_many`."""
        question = _Question.of(words, background, threshold, prompts, refine)
        found: list[Segmentation] = []
        for some in _together(images):
            answer = await self._post("/v1/segment", files=_files(some), data=question.fields | _model(model))
            found += _segmentations(answer.json(), question.vocabulary)
        return found

    async def embed(self, image: Any, *, model: str | None = None) -> Seen:
        """See `Client.embed`."""
        name, data = _photograph(image)
        answer = await self._post("/v1/embed", files=_files([(name, data)]), data=_model(model))
        return _seen(answer.json(), (name, data))

    async def classify(
        self,
        seen: Seen,
        words: Words,
        *,
        background: str | Sequence[str] | None = None,
        threshold: float | None = None,
        prompts: str | None = None,
        refine: str | None = None,
    ) -> Segmentation:
        """See `Client.classify`."""
        question = _Question.of(words, background, threshold, prompts, refine)
        body = {**question.body, "format": "map"}
        try:
            answer = await self._post("/v1/classify", json={"id": seen.id, **body})
        except ServiceError as error:
            if error.kind != "unknown-embedding":
                raise
            again = await self.embed(seen.photograph, model=seen.model)
            answer = await self._post("/v1/classify", json={"id": again.id, **body})
        (result,) = _segmentations(answer.json(), question.vocabulary)
        return result

    async def forget(self, seen: Seen) -> None:
        """See `Client.forget`."""
        _checked(await self._http.delete(f"/v1/embed/{seen.id}"))

    async def models(self) -> dict[str, Any]:
        """See `Client.models`."""
        try:
            answer = await self._http.get("/v1/models")
        except _httpx().TransportError as error:
            raise _unreachable(self.url, error) from error
        content: dict[str, Any] = _checked(answer).json()
        return content

    async def _post(self, path: str, **content: Any) -> httpx.Response:
        attempt = 0
        while True:
            try:
                answer = await self._http.post(path, **content)
            except _httpx().TransportError as error:
                raise _unreachable(self.url, error) from error
            if (seconds := self._wait(answer, attempt)) is None:
                return _checked(answer)
            await asyncio.sleep(seconds)
            attempt += 1


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingDependency("httpx", "client", "the client") from error
    return httpx


def _photograph(image: Any) -> tuple[str, bytes]:
    """The name and the bytes of a photograph; what is not a file yet becomes a PNG."""
    if isinstance(image, tuple):
        name, data = image
        return str(name), bytes(data)
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        try:
            return path.name, path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}; check the name") from error
    if isinstance(image, (bytes, bytearray, memoryview)):
        return "image", bytes(image)
    if hasattr(image, "read"):
        return Path(str(getattr(image, "name", "image"))).name, image.read()
    from PIL import Image

    try:
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        content = io.BytesIO()
        picture.save(content, "PNG", compress_level=1)
    except (AttributeError, TypeError, ValueError, OSError) as error:
        kind = type(image).__name__
        raise ImageError(
            f"an image cannot be this {kind} ({error}); give a path, bytes or an array [H, W, 3]"
        ) from error
    return "image.png", content.getvalue()


def _together(images: Iterable[Any]) -> Iterable[list[tuple[str, bytes]]]:
    """Photographs in groups that fit into a request each."""
    some: list[tuple[str, bytes]] = []
    size = 0
    for image in images:
        photograph = _photograph(image)
        if some and (len(some) == TOGETHER or size + len(photograph[1]) > 16_000_000):
            yield some
            some, size = [], 0
        some.append(photograph)
        size += len(photograph[1])
    if some:
        yield some


def _files(photographs: Iterable[tuple[str, bytes]]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", photograph) for photograph in photographs]


def _model(name: str | None) -> dict[str, str]:
    return {} if name is None else {"model": name}


def _seen(content: Mapping[str, Any], photograph: tuple[str, bytes]) -> Seen:
    height, width = content["size"]
    return Seen(content["id"], content["model"], (height, width), photograph)


def _segmentations(content: Mapping[str, Any], vocabulary: Vocabulary) -> list[Segmentation]:
    return [_segmentation(one, content, vocabulary) for one in content["results"]]


def _segmentation(one: Mapping[str, Any], content: Mapping[str, Any], vocabulary: Vocabulary) -> Segmentation:
    if (problem := one.get("problem")) is not None:
        raise _error(problem)
    size, dtype = tuple(one["size"]), label_dtype(len(vocabulary))
    scores = None
    if one.get("labels") is not None:
        stored = np.frombuffer(_unpacked(one["labels"]), np.dtype(one["dtype"]).newbyteorder("<"))
        labels = stored.reshape(size).astype(dtype)
        if one.get("scores") is not None:
            levels = np.frombuffer(_unpacked(one["scores"]), np.uint8).reshape(size)
            scores = (levels.astype(np.float32) / 255).astype(np.float16)
    else:
        labels = np.full(size, np.iinfo(dtype).max, dtype)
        for segment in one["segments"]:
            labels[_mask(segment["segmentation"])] = segment["category_id"]
    return Segmentation(labels, scores, vocabulary, content["model"], dict(content["settings"]), tuple(one["warnings"]))


def _mask(run_lengths: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    from pycocotools import mask

    return np.asarray(mask.decode(dict(run_lengths)), bool)


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict) or "type" not in problem:
        problem = {"type": "", "detail": answer.reason_phrase, "request_id": ""}
    raise _error({"status": answer.status_code, **problem})


def _error(problem: Mapping[str, Any]) -> LexisegError:
    """A problem as the error that the library raises for the same mistake."""
    kind, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    match kind:
        case "image" | "too-many-pixels":
            return ImageError(detail)
        case "words":
            return VocabularyError(detail)
        case "setting" | "invalid":
            return SettingError(detail)
        case "unknown-model":
            name, _, known = detail.partition(" is not served here; there are ")
            return UnknownName("model", name.strip("'"), known.split(", "))
    return ServiceError(detail, kind=kind, status=int(problem["status"]), request_id=str(problem["request_id"]))


def _unreachable(url: str, error: Exception) -> ServiceError:
    detail = f"no answer from {url} ({error or type(error).__name__}); is the server started?"
    return ServiceError(detail, kind="unreachable", status=0, request_id="")
