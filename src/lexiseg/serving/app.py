"""Routes requests to the service.

What is asked, in which form, and what comes back is here; the work is the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lexiseg import __version__
from lexiseg.data.photographs import Photograph
from lexiseg.serving import answers, description, forms, metrics, schemas
from lexiseg.serving.forms import Asked, Form
from lexiseg.serving.guard import Guard, Record
from lexiseg.serving.problems import Problem, of_error, of_http, response
from lexiseg.serving.problems import body as problem_body
from lexiseg.serving.service import Answer, Service, deadline_of
from lexiseg.serving.site import Asset, site

__all__ = ["create_app"]

FORMATS = ("json", "map", "coco", "png", "npz", "overlay")
QUESTION = ("words", "background", "threshold", "prompts", "refine")
SEGMENT_FIELDS = (*QUESTION, "model", "format")

_logger = logging.getLogger(__name__)

Value = TypeVar("Value")


def create_app(service: Service, *, token: str | None = None, hosts: Iterable[str] | None = ()) -> FastAPI:
    """The whole server as one ASGI application. token, hosts: see `Guard`."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.get_running_loop().run_in_executor(None, service.stop)

    # no interactive documentation: it would come from a network of somebody else's
    app = FastAPI(
        title="lexiseg", version=__version__, openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None,
        lifespan=lifespan, redirect_slashes=False,
    )  # fmt: skip
    _add_api(app, service)
    _add_health(app, service)
    _add_page(app, site())
    app.add_exception_handler(HTTPException, _failed)
    app.openapi = lambda: description.openapi(app, service, token=token is not None)  # type: ignore[method-assign]
    app.add_middleware(Guard, service=service, token=token, hosts=None if hosts is None else tuple(hosts))
    return app


def _add_api(app: FastAPI, service: Service) -> None:
    limits = service.limits

    @app.post("/v1/segment", openapi_extra=description.of("segment"))
    async def segment(request: Request) -> Response:
        """Label photographs with words."""
        form = await forms.multipart(request, limits, SEGMENT_FIELDS, most=limits.images)
        deadline = deadline_of(limits)
        model, asked = service.model(form.fields.get("model")), _asked(service, form.fields)
        wanted = _format(form)
        _record(request).facts |= {"model": model, "images": len(form.images), "classes": len(asked.vocabulary)}
        found = await _attended(request, deadline, _segment(service, request, form, model, asked, wanted, deadline))
        first = found[0]
        if wanted in answers.FILES and isinstance(first, Answer):
            return _file(first.content, wanted, form.images[0][0])
        return await _labelled(request, service, model, form, found)

    @app.post("/v1/embed", openapi_extra=description.of("embed"))
    async def embed(request: Request) -> Response:
        """Look at a photograph, to be asked about it later."""
        form = await forms.multipart(request, limits, ("model",), most=1)
        deadline, model = deadline_of(limits), service.model(form.fields.get("model"))
        ((name, data),) = form.images

        async def work() -> dict[str, Any]:
            (photo,) = await _opened(service, request, [(name, data)])
            if isinstance(photo, Exception):
                raise photo
            async with service.room.of(_pixels([photo])):
                key, done = await service.embed(photo, model, deadline)
            return {
                "id": key,
                "model": model,
                "name": name,
                "size": list(photo.size),
                "expires_in": limits.cache_seconds,
                "warnings": list(done.embedded.notes),
                "milliseconds": _milliseconds([done]),
            }

        _record(request).facts |= {"model": model}
        return _json(await _attended(request, deadline, work()))

    @app.post("/v1/classify", openapi_extra=description.of("classify"))
    async def classify(request: Request) -> Response:
        """Label a photograph that was embedded before."""
        body = await forms.json_body(request, limits, schemas.Classify)
        deadline, asked, kept = deadline_of(limits), _asked(service, body.model_dump()), service.kept(body.id)
        _record(request).facts |= {"model": kept.model, "classes": len(asked.vocabulary)}
        name = forms.file_name(body.name or kept.embedded.name)

        async def work() -> Answer:
            async with service.room.of(kept.embedded.size[0] * kept.embedded.size[1]):
                return await service.classify(kept, asked, body.format, name, deadline)

        found = await _attended(request, deadline, work())
        if body.format in answers.FILES:
            return _file(found.content, body.format, name)
        return await _labelled(request, service, kept.model, Form(((name, b""),), {}), [found])

    @app.post("/v1/scores", openapi_extra=description.of("scores"))
    async def scores(request: Request) -> Response:
        """Map the posterior of one class of a photograph that was embedded before."""
        body = await forms.json_body(request, limits, schemas.Scores)
        deadline, asked, kept = deadline_of(limits), _asked(service, body.model_dump()), service.kept(body.id)
        _record(request).facts |= {"model": kept.model, "classes": len(asked.vocabulary)}
        return _json(await _attended(request, deadline, service.scores(kept, asked, body.name, deadline)))

    @app.delete("/v1/embed/{id}", status_code=204, openapi_extra=description.of("forget"))
    async def forget(id: str) -> Response:
        """Forget an embedding; it is no error if it is gone already."""
        service.embeddings.remove(id)
        return Response(status_code=204)

    @app.get("/v1/models", openapi_extra=description.of("models"))
    async def models() -> Response:
        """List what is served, and the limits."""
        return _json(service.about())


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/health", openapi_extra=description.of("health"))
    async def health() -> Response:
        """Say that the process is alive."""
        return _json({"status": "ok"})

    @app.get("/ready", openapi_extra=description.of("ready"))
    async def ready() -> Response:
        """Say whether new work is accepted."""
        if service.draining:
            raise Problem("draining", "the server finishes what it has accepted")
        return _json({"status": "ready"})

    @app.get("/metrics", openapi_extra=description.of("metrics"))
    async def measured() -> Response:
        """Count what was done, for Prometheus."""
        service.embeddings.sweep()
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


def _add_page(app: FastAPI, assets: Mapping[str, Asset]) -> None:
    async def asset(request: Request) -> Response:
        found = assets.get(request.url.path)
        if found is None:
            raise Problem("not-found", "the page has no such file")
        if request.headers.get("if-none-match") == f'"{found.digest}"':
            return Response(status_code=304, headers={"etag": f'"{found.digest}"'})
        return Response(found.content, media_type=found.media_type, headers={"etag": f'"{found.digest}"'})

    app.add_api_route("/", asset, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/static/{name:path}", asset, methods=["GET", "HEAD"], include_in_schema=False)


async def _segment(
    service: Service, request: Request, form: Form, model: str, asked: Asked, wanted: str, deadline: float
) -> list[Answer | Problem]:
    """What became of each photograph. Raises the first problem where none could be labelled."""
    photos = await _opened(service, request, form.images)

    async def one(photo: Photograph | Exception) -> Answer | Problem:
        try:
            if isinstance(photo, Exception):
                raise photo
            return await service.segment(photo, model, asked, wanted, deadline)
        except Exception as error:
            if (problem := of_error(error)) is None:
                if len(photos) == 1:
                    raise
                _logger.exception("a photograph of request %s failed", _record(request).id)
                problem = Problem("internal", "the photograph could not be labelled; report it with the request's id")
            return problem

    async with service.room.of(_pixels(photos)):
        found = await asyncio.gather(*map(one, photos))
    if all(isinstance(each, Problem) for each in found):
        first = found[0]
        assert isinstance(first, Problem)
        raise first
    return found


async def _opened(
    service: Service, request: Request, images: Iterable[tuple[str, bytes]]
) -> list[Photograph | Exception]:
    """The header of each photograph, or what is wrong with it."""

    def attempt(name: str, data: bytes) -> Photograph | Exception:
        try:
            return service.open(name, data)
        except Exception as error:
            if of_error(error) is None:
                raise
            return error

    opened = [attempt(name, data) for name, data in images]  # no pixel is unpacked: it takes microseconds
    _record(request).facts["pixels"] = _pixels(opened)
    return opened


def _pixels(photos: Iterable[Photograph | Exception]) -> int:
    return sum(photo.size[0] * photo.size[1] for photo in photos if isinstance(photo, Photograph))


async def _attended(request: Request, deadline: float, work: Coroutine[Any, Any, Value]) -> Value:
    """The work's result, unless the client leaves or the time is up; then the work is cancelled."""
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait(
            {working, watching}, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
        )
        if working.done():
            return working.result()
        if watching.done():
            raise ClientDisconnect
        raise Problem("timeout", "the answer was not ready in time; send fewer or smaller photographs, or ask later")
    except Problem:
        raise
    except Exception as error:
        if (problem := of_error(error)) is not None:
            raise problem from error
        raise
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _asked(service: Service, given: Mapping[str, Any]) -> Asked:
    question = {key: given.get(key) for key in QUESTION}
    try:
        return forms.asked(service.limits, **question, known_prompts=service.prompts, refiners=service.refiners)
    except Exception as error:
        if (problem := of_error(error)) is not None:
            raise problem from error
        raise


def _format(form: Form) -> str:
    wanted = form.fields.get("format", "json")
    if wanted not in FORMATS:
        raise Problem.about("format", f"choose from {', '.join(FORMATS)}")
    if wanted in answers.FILES and len(form.images) > 1:
        raise Problem.about("format", f"{wanted} is a file of one photograph; send one, or ask for json or map")
    return wanted


async def _labelled(
    request: Request, service: Service, model: str, form: Form, found: Iterable[Answer | Problem]
) -> Response:
    """The JSON of one or several photographs."""
    pairs = list(zip(form.images, found, strict=True))
    done = [each for _, each in pairs if isinstance(each, Answer)]
    own = _record(request).id
    content = {
        "model": model,
        "request_id": own,
        "vocabulary": done[0].vocabulary,
        "settings": done[0].settings,
        "results": [
            each.content if isinstance(each, Answer) else {"name": name, "problem": problem_body(each, own)}
            for (name, _), each in pairs
        ],
        "milliseconds": _milliseconds(done),
    }
    return Response(await service.in_pool(answers.to_bytes, content), media_type="application/json")


def _milliseconds(done: Iterable[Any]) -> dict[str, float]:
    """The longest of each, since photographs of one request are worked on together."""
    times = [(one.queued, one.embedding, one.answering) for one in done]
    return {
        name: round(1000 * max(column), 1)
        for name, column in zip(("queue", "embed", "classify"), zip(*times, strict=True), strict=True)
    }


def _file(content: bytes, wanted: str, name: str) -> Response:
    media_type, suffix = answers.FILES[wanted]
    stem = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_ ") else "_" for letter in
                   name.rpartition(".")[0] or name)[:80]  # fmt: skip
    disposition = f'attachment; filename="{stem}{suffix}"'
    return Response(content, media_type=media_type, headers={"content-disposition": disposition})


def _json(content: Any) -> Response:
    return Response(answers.to_bytes(content), media_type="application/json")


def _record(request: Request) -> Record:
    record: Record = request.state.record
    return record


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem, record = of_http(error), _record(request)
    record.problem = problem.kind
    answer = response(problem, record.id)
    if problem.status_code in (400, 408, 413):  # the rest of the request may not have been read
        answer.headers["connection"] = "close"
    return answer
