"""Every error lexiseg raises for a user's mistake; anything else that escapes is a bug of ours.

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
    """The user can fix this: the message says how."""


class VocabularyError(LexisegError, ValueError):
    """Words or classes that cannot be used."""


class SettingError(LexisegError, ValueError):
    """A setting with the wrong type or value."""


class ImageError(LexisegError, ValueError):
    """A photograph that cannot be read."""


class WeightsError(LexisegError):
    """Weights that are missing, incomplete or unsafe."""


class DataError(LexisegError):
    """A data set that is missing, incomplete or malformed."""


class BadSample(DataError):
    """A sample that cannot be used. `reason` is short and the same for all of its kind: it is what gets counted."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason} ({detail})" if detail else reason)


class OutputError(LexisegError, OSError):
    """A result that cannot be written, or that exists already."""


class CheckpointError(LexisegError):
    """A training run that cannot be saved or resumed."""


class TrainingError(LexisegError):
    """A training run that had to stop."""


class MethodError(LexisegError, TypeError):
    """For a method's author. A `LexisegError` all the same, so that a user gets a sentence that can be reported."""


class ServiceError(LexisegError):
    """What a server answered in place of a result.

    kind: of the problem ("queue-full", "token" ...), or "unreachable"; status: of HTTP, or 0.
    request_id: to find the request in the server's log by.
    """

    def __init__(self, detail: str, *, kind: str = "", status: int = 0, request_id: str = "") -> None:
        self.kind, self.status, self.request_id = kind, status, request_id
        super().__init__(f"{detail} (request {request_id})" if request_id else detail)

    def __reduce__(self) -> tuple[Any, ...]:
        return _service_error, (str(self), self.kind, self.status, self.request_id)


class UnknownName(LexisegError, KeyError):
    """`kind` is what the name should have been: "model", "benchmark", "setting" ...; `known` are the right names."""

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        self.kind, self.given, self.known = kind, given, tuple(known)
        super().__init__(f"no {kind} is called {given!r}; {nearest(str(given), self.known)}")

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.given, self.known)


class MissingDependency(LexisegError, ImportError):
    """`package` is what failed to import; `extra` is the lexiseg extra that installs it."""

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
