"""Defines the errors that lexiseg raises for a user's mistakes.

Anything else that escapes is a bug of ours.

    LexisegError
    ├── VocabularyError          words or classes that cannot be used
    ├── UnknownName              a model, recipe, benchmark, set of prompts or setting that does not exist
    ├── SettingError             a setting with the wrong type or value
    ├── ImageError               a photograph that cannot be read
    ├── WeightsError             weights that are missing, incomplete or unsafe
    ├── DataError                a data set that is missing, incomplete or malformed
    │   └── BadSample            one sample that cannot be used, and why
    ├── OutputError              a result that cannot be written or already exists
    ├── CheckpointError          a training run that cannot be saved or resumed
    ├── TrainingError            a training run that had to stop
    ├── MethodError              a method that returns what its contract does not allow
    ├── ServiceError             a server that does not answer, or not as it was asked
    └── MissingDependency        an optional package is not installed

Each message says what was wrong, what was given and what to do. The command line prints it in one line and exits
with 1; a library user catches `LexisegError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "BadSample",
    "CheckpointError",
    "DataError",
    "ImageError",
    "LexisegError",
    "MethodError",
    "MissingDependency",
    "OutputError",
    "ServiceError",
    "SettingError",
    "TrainingError",
    "UnknownName",
    "VocabularyError",
    "WeightsError",
    "first_line",
    "nearest",
]


class LexisegError(Exception):
    """The user can fix this: the message says how.

    >>> import lexiseg
    >>> try:
    ...     lexiseg.load("maskclip/mini", long_side=-1)
    ... except lexiseg.LexisegError as error:
    ...     print(error)
    long_side must be 1 or more (pixels), got -1
    """


class VocabularyError(LexisegError, ValueError):
    """Words or classes that cannot be used.

    >>> import lexiseg
    >>> lexiseg.Vocabulary(["road", "car", "road"])
    Traceback (most recent call last):
    lexiseg.errors.VocabularyError: the class 'road' is given twice; remove one of them
    """


class SettingError(LexisegError, ValueError):
    """A setting with the wrong type or value.

    >>> import lexiseg
    >>> lexiseg.load("maskclip/mini", window=0)
    Traceback (most recent call last):
    lexiseg.errors.SettingError: window must be 1 or more (pixels), got 0
    """


class ImageError(LexisegError, ValueError):
    """A photograph that cannot be read.

    >>> import lexiseg
    >>> model = lexiseg.load("maskclip/mini")
    >>> model.segment("holiday.jpg", "person, sea, sky")
    Traceback (most recent call last):
    lexiseg.errors.ImageError: there is no holiday.jpg; check the spelling
    """


class WeightsError(LexisegError):
    """Weights that are missing, incomplete or unsafe.

    >>> import lexiseg
    >>> from pathlib import Path
    >>> Path("runs").mkdir()
    >>> lexiseg.load("runs")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexiseg.errors.WeightsError: runs has no lexiseg.json, so nothing says which method its weights are for; ...
    """


class DataError(LexisegError):
    """A data set that is missing, incomplete or malformed.

    >>> import lexiseg
    >>> lexiseg.evaluate("maskclip/mini", "voc21")
    Traceback (most recent call last):
    lexiseg.errors.DataError: no data folder was given for voc21; give data=FOLDER
    """


class BadSample(DataError):
    """A sample that cannot be used. `reason` is short and the same for all of its kind: it is what gets counted.

    >>> import lexiseg
    >>> error = lexiseg.BadSample("the photograph cannot be read", "cat-17.jpg ends too early")
    >>> error.reason
    'the photograph cannot be read'
    >>> print(error)
    the photograph cannot be read (cat-17.jpg ends too early)
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason} ({detail})" if detail else reason)


class OutputError(LexisegError, OSError):
    """A result that cannot be written, or that exists already.

    >>> import lexiseg
    >>> from skimage import data
    >>> result = lexiseg.load("maskclip/mini").segment(data.chelsea(), "cat, blanket")
    >>> result.save("cat.jpg")
    Traceback (most recent call last):
    lexiseg.errors.OutputError: a segmentation is saved as .png or .npz, not '.jpg'; rename cat.jpg
    """


class CheckpointError(LexisegError):
    """A training run that cannot be saved or resumed.

    >>> import lexiseg
    >>> from dataclasses import replace
    >>> from lexiseg.recipes.mini_clip import TOY
    >>> run = lexiseg.train(replace(TOY, steps=1), "runs/toy")
    >>> lexiseg.train(replace(TOY, steps=1, batch_size=8), "runs/toy", resume=True)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexiseg.errors.CheckpointError: the recipe is not the one that runs/toy was begun with (...
    """


class TrainingError(LexisegError):
    """A training run that had to stop.

    >>> import lexiseg
    >>> from dataclasses import replace
    >>> from lexiseg.recipes.mini_clip import TOY
    >>> wild = replace(TOY, optimiser=replace(TOY.optimiser, rate=1e38), max_nonfinite=0)
    >>> lexiseg.train(wild, "runs/wild")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexiseg.errors.TrainingError: the loss or gradient was not finite at 1 of the steps so far, ...
    """


class MethodError(LexisegError, TypeError):
    """For a method's author. A `LexisegError` all the same, so that a user gets a sentence that can be reported.

    >>> import lexiseg, torch
    >>> from skimage import data
    >>> model = lexiseg.load("maskclip/tiny")
    >>> model.segmenter.classify = lambda embedding, classifier: torch.zeros(1, 2, 8, 8)  # a bare tensor
    >>> model.segment(data.chelsea(), "cat, blanket")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexiseg.errors.MethodError: ... returned a Tensor; return DenseLogits or MaskScores
    """


class ServiceError(LexisegError):
    """What a server answered in place of a result.

    kind: of the problem ("queue-full", "token" ...), or "unreachable"; status: of HTTP, or 0.
    request_id: to find the request in the server's log by.

    >>> import lexiseg
    >>> error = lexiseg.ServiceError("the queue is full", kind="queue-full", status=503)
    >>> error.kind, error.status
    ('queue-full', 503)
    """

    def __init__(self, detail: str, *, kind: str = "", status: int = 0, request_id: str = "") -> None:
        self.kind, self.status, self.request_id = kind, status, request_id
        super().__init__(f"{detail} (request {request_id})" if request_id else detail)

    def __reduce__(self) -> tuple[Any, ...]:
        return _service_error, (str(self), self.kind, self.status, self.request_id)


class UnknownName(LexisegError, KeyError):
    """`kind` is what the name should have been: "model", "benchmark", "setting" ...; `known` are the right names.

    >>> import lexiseg
    >>> try:
    ...     lexiseg.load("maskclip/mini", shortside=320)
    ... except lexiseg.UnknownName as error:
    ...     print(error.kind, error.given, "short_side" in error.known)
    setting shortside True
    """

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        self.kind, self.given, self.known = kind, given, tuple(known)
        super().__init__(f"no {kind} is called {given!r}; {nearest(str(given), self.known)}")

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.given, self.known)


class MissingDependency(LexisegError, ImportError):
    """`package` is what failed to import; `extra` is the lexiseg extra that installs it.

    >>> import lexiseg
    >>> print(lexiseg.MissingDependency("datasets", "data", "reading a data set of the Hugging Face hub"))
    reading a data set of the Hugging Face hub needs datasets, which is not installed; run: pip install 'lexiseg[data]'
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package, self.extra, self.purpose = package, extra, purpose
        super().__init__(f"{purpose} needs {package}, which is not installed; run: pip install 'lexiseg[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingDependency], tuple[str, str, str]]:
        return type(self), (self.package, self.extra, self.purpose)


def _service_error(text: str, kind: str, status: int, request_id: str) -> ServiceError:
    """The same error on the other side of a process's border."""
    made = ServiceError(text, kind=kind, status=status)
    made.request_id = request_id
    return made


def first_line(error: Exception) -> str:
    """What an error of another library says, short enough for a message of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(given: str, known: Iterable[str], *, most: int = 8) -> str:
    """Returns "did you mean 'x'?" when something is close, else the first `most` choices."""
    choices = list(known)
    close = difflib.get_close_matches(given, choices, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(name) for name in close)}?"
    if not choices:
        return "there are none to choose from"
    more = f" and {len(choices) - most} more" if len(choices) > most else ""
    return f"choose from {', '.join(choices[:most])}{more}"
