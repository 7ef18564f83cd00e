"""Describes the service as OpenAPI 3.1.

It is made from the schemas that requests are checked with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from lexiseg.serving import answers, schemas
from lexiseg.serving.problems import MEDIA_TYPE, TITLES

if TYPE_CHECKING:
    from fastapi import FastAPI

    from lexiseg.serving.service import Service

__all__ = ["of", "openapi"]

WHERE = "#/components/schemas/"
BODY = ("malformed", "host", "token", "slow-request", "too-large", "media-type", "invalid")
WORK = ("internal", "queue-full", "timeout")
FILES = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type, _ in answers.FILES.values()}
IMAGE = {"type": "string", "format": "binary", "description": "A photograph: JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF."}
TEXT = {"type": "string"}
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "words": {**TEXT, "description": "Classes after commas, synonyms after bars; or a JSON list or mapping.",
              "examples": ["road, person|pedestrian, sky"]},
    "background": {**TEXT, "description": "Words for everything else, or 'auto'."},
    "threshold": {"type": "number", "minimum": 0, "maximum": 1,
                  "description": "Pixels below this posterior stay unlabelled."},
    "model": {**TEXT, "description": "One of /v1/models."},
    "prompts": {**TEXT, "description": "A set of prompts, in place of the model's own."},
    "refine": {**TEXT, "description": "A refiner, or 'none'."},
    "format": {**TEXT, "enum": ["json", "map", "coco", "png", "npz", "overlay"], "default": "json",
               "description": "map: every pixel in JSON. Files are of one photograph."},
}  # fmt: skip

_ROUTES: dict[str, dict[str, Any]] = {}


def of(route: str) -> dict[str, Any]:
    """What OpenAPI says of a route beside its path and headline."""
    return _ROUTES[route]


def openapi(app: FastAPI, service: Service, *, token: bool) -> dict[str, Any]:
    """The whole description; made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=_ABOUT)
        models: list[type[BaseModel]] = [getattr(schemas, name) for name in schemas.__all__]
        _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=WHERE + "{model}")
        parts = made.setdefault("components", {})
        parts["schemas"] = definitions["$defs"]
        _limit(made, service)
        for methods in made["paths"].values():
            for method in methods.values():
                if "HTTPValidationError" in str(method["responses"].get("422")):  # FastAPI's own, which is never sent
                    del method["responses"]["422"]
        if token:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, methods in made["paths"].items():
                for method in methods.values():
                    method["security"] = [] if path in ("/health", "/ready") else [{"token": []}]
        app.openapi_schema = made
    return app.openapi_schema


def _limit(made: Mapping[str, Any], service: Service) -> None:
    """The numbers and names of this server."""
    form = made["paths"]["/v1/segment"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    form["properties"]["image"]["maxItems"] = service.limits.images
    form["properties"]["model"]["enum"] = list(service.predictors)
    form["properties"]["prompts"]["enum"] = list(service.prompts)
    form["properties"]["refine"]["enum"] = ["none", *service.refiners]
    embed = made["paths"]["/v1/embed"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    embed["properties"]["model"]["enum"] = list(service.predictors)


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": WHERE + model.__name__}}}


def _problems(*kinds: str) -> dict[str, Any]:
    by_status: dict[str, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(str(TITLES[kind][0]), []).append(kind)
    content = {MEDIA_TYPE: {"schema": {"$ref": WHERE + "ProblemBody"}}}
    return {
        status: {"description": ", ".join(found), "content": content} for status, found in sorted(by_status.items())
    }


def _answer(content: Mapping[str, Any], about: str = "Done") -> dict[str, Any]:
    return {"200": {"description": about, "content": dict(content)}}


def _form(**properties: Any) -> dict[str, Any]:
    required = [name for name in ("image", "words") if name in properties]
    schema = {"type": "object", "properties": properties, "required": required}
    # a photograph's field holds bytes, the others text
    encoding = {"image": {"contentType": "image/*"}}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema, "encoding": encoding}}}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": _ref(model)}


# a COCO data set is JSON too
_LABELLED = {
    "application/json": {
        "schema": {
            "anyOf": [
                {"$ref": f"{WHERE}Segmented"},
                {"type": "object", "required": ["images", "annotations", "categories"]},
            ]
        }
    }
}
_ABOUT = "Open-vocabulary semantic segmentation: name what you look for, and every pixel is labelled with your words."
_LINKS = {
    name: {"operationId": name, "requestBody": {"id": "$response.body#/id", "words": "road, sky", **more}}
    for name, more in (("classify", {}), ("scores", {"name": "sky"}))
}
_ROUTES |= {
    "segment": {
        "operationId": "segment",
        "requestBody": _form(image={"type": "array", "items": IMAGE, "minItems": 1}, **FIELDS),
        "responses": _answer({**FILES, **_LABELLED})
        | _problems(*BODY, "unknown-model", "image", "too-many-pixels", "words", "setting", *WORK),
    },
    "embed": {
        "operationId": "embed",
        "requestBody": _form(image=IMAGE, model=FIELDS["model"]),
        "responses": {"200": {"description": "Done", "content": _ref(schemas.Embedding), "links": _LINKS}}
        | _problems(*BODY, "unknown-model", "image", "too-many-pixels", *WORK),
    },
    "classify": {
        "operationId": "classify",
        "requestBody": _body(schemas.Classify),
        "responses": _answer({**FILES, **_LABELLED}) | _problems(*BODY, "unknown-embedding", "words", "setting", *WORK),
    },
    "scores": {
        "operationId": "scores",
        "requestBody": _body(schemas.Scores),
        "responses": _answer(_ref(schemas.ScoreMap)) | _problems(*BODY, "unknown-embedding", "words", "setting", *WORK),
    },
    "forget": {
        "operationId": "forget",
        "responses": {"204": {"description": "It is gone"}} | _problems("host", "token"),
    },
    "models": {
        "operationId": "models",
        "responses": _answer(_ref(schemas.Models)) | _problems("host", "token"),
    },
    "health": {"operationId": "health", "responses": _answer(_ref(schemas.Health)) | _problems("host")},
    "ready": {"operationId": "ready", "responses": _answer(_ref(schemas.Health)) | _problems("host", "draining")},
    "metrics": {
        "operationId": "metrics",
        "responses": _answer({"text/plain": {"schema": TEXT}}) | _problems("host", "token"),
    },
}
