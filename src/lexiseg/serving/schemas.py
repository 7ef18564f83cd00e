"""Defines what requests and answers look like.

They check the first and describe both.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Classify",
    "Embedding",
    "Health",
    "Models",
    "ProblemBody",
    "Result",
    "ScoreMap",
    "Scores",
    "Segmented",
]

WordText = Annotated[str, Field(max_length=64_000)]
Words = WordText | list[str | list[str]] | dict[str, str | list[str]]
Identifier = Annotated[str, Field(max_length=64)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Asked(_Request):
    id: Identifier = Field(description="What /v1/embed returned.")
    words: Words = Field(
        description="Classes after commas, synonyms after bars: 'road, person|pedestrian'; or a list, or a mapping.",
        examples=["road, person|pedestrian, sky"],
    )
    background: WordText | list[str] | None = Field(None, description="Words for everything else, or 'auto'.")
    prompts: Identifier | None = Field(None, description="A set of prompts, in place of the model's own.")
    refine: Identifier | None = Field(None, description="A refiner, or 'none'; the model's own otherwise.")


class Classify(_Asked):
    """Words for a photograph that was embedded before."""

    threshold: float | None = Field(None, ge=0, le=1, description="Pixels below this posterior stay unlabelled.")
    format: Literal["json", "map", "coco", "png", "npz"] = "json"
    name: Annotated[str, Field(max_length=200)] | None = Field(None, description="What to call the photograph.")


class Scores(_Asked):
    """One class of such words, as a map of its posterior."""

    name: Annotated[str, Field(max_length=200)] = Field(description="The class, or any of its words.")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class Class(_Answer):
    label: int
    name: str
    words: list[str]
    colour: str
    area: float = Field(description="Fraction of the photograph, 0-1.")


class Unlabelled(_Answer):
    label: int
    colour: str
    area: float


class RunLengths(_Answer):
    size: list[int] = Field(description="[height, width]")
    counts: str = Field(description="COCO's compressed run lengths.")


class Segment(_Answer):
    category: str
    category_id: int = Field(description="The label, from 0.")
    segmentation: RunLengths
    area: int = Field(description="Pixels.")
    bbox: list[float] = Field(description="[x, y, width, height]")
    score: float


class ProblemBody(_Answer):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["urn:lexiseg:problem:queue-full"])
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, str]] | None = None


class Result(_Answer):
    """One photograph's label map; `problem` is in its place where the photograph cannot be used."""

    name: str
    size: list[int] | None = Field(None, description="[height, width]")
    classes: list[Class] | None = None
    unlabelled: Unlabelled | None = None
    segments: list[Segment] | None = None
    labels: str | None = Field(None, description="base64 of zlib of the label map, row by row; for format=map.")
    scores: str | None = Field(None, description="base64 of zlib of each pixel's posterior, 0-255; for format=map.")
    dtype: Literal["uint8", "uint16"] | None = Field(None, description="Of `labels`; uint16 is little-endian.")
    warnings: list[str] | None = None
    problem: ProblemBody | None = None


class Milliseconds(_Answer):
    queue: float
    embed: float
    classify: float


class Segmented(_Answer):
    model: str
    request_id: str
    vocabulary: str = Field(description="A hash of classes, words, order and background.")
    settings: dict[str, Any]
    results: list[Result]
    milliseconds: Milliseconds


class Embedding(_Answer):
    id: str
    model: str
    name: str
    size: list[int] = Field(description="[height, width]")
    expires_in: float = Field(description="Seconds.")
    warnings: list[str]
    milliseconds: Milliseconds


class ScoreMap(_Answer):
    name: str
    grid: list[int] = Field(description="[height, width] of the map.")
    scores: str = Field(description="base64 of zlib of the posterior at each place, 0-255.")
    highest: float


class Model(_Answer):
    name: str
    method: str
    about: str
    input: str
    own_background: bool
    prompts: str
    refine: str
    threshold: float | None


class Bounds(_Answer):
    request_bytes: int
    pixels: int
    images: int
    words: int
    letters: int
    seconds: float


class Models(_Answer):
    models: list[Model]
    default: str
    prompts: list[str]
    refine: list[str]
    limits: Bounds
    version: str


class Health(_Answer):
    status: str
