"""Translates messages: options of commands in place of Python's arguments.

The library's messages name arguments: "raise max_pixels", "give weights=FILE". What a person at the command line has is
`--max-megapixels` and `--weights FILE`. The options are those of the command that runs, found by their own names, so
that no message and no command needs a line here unless the two call a thing differently (ALIASES).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["in_options", "running"]

ALIASES = {
    "max_pixels": "max_megapixels",
    "background_threshold": "threshold",
    "repeats": "images",
}  # argument -> option's own name
ELSEWHERE = {"weights": ("--weights", "")}  # options of other commands, of which a command may speak
SETTINGS = ("allow_pickle", "tokenizer")  # what messages advise to set and not every command has an option for

Options = dict[str, tuple[str, str]]  # argument -> option for a value or for true, option for false

_running: ContextVar[Options | None] = ContextVar("options", default=None)


@contextmanager
def running(command: Any, arguments: Sequence[str]) -> Iterator[None]:
    """Names the options of the command that `arguments` begin with, until the block ends."""
    token = _running.set(_options(_chosen(command, arguments)))
    try:
        yield
    finally:
        _running.reset(token)


def in_options(text: str) -> str:
    """The text with the running command's options in place of arguments.

    `weights=FILE` becomes `--weights FILE`, `allow_pickle=True` becomes `--allow-pickle`, and `batch_size` alone
    becomes `--batch-size`. A word without "_" or "=" is plain English and stays.
    """
    known = _running.get() or {}
    if not known:
        return text
    names = "|".join(sorted(known, key=len, reverse=True))
    # not inside a quotation, a path or another name, and not what is an option already
    pattern = rf"(?<![\w./=\-'\"])(?<!--set )({names})(?:=('[^']*'|\"[^\"]*\"|[\w/:-]+(?:\.\w+)*)?|(?![\w=.]*=)\b)"
    return re.sub(pattern, lambda match: _said(match, known), text)


def _said(match: re.Match[str], known: Options) -> str:
    name, value = match[1], match[2] or ""
    value = value if " " in value else value.strip("'\"")
    if "=" not in match[0] and "_" not in name:
        return match[0]
    option, off = known[name]
    if off and value.lower() in ("true", "false"):
        return option if value.lower() == "true" else off
    if option.startswith("--set "):
        return f"{option}={value.lower() if value in ('True', 'False') else value}"
    return f"{option} {value}".rstrip()


def _chosen(command: Any, arguments: Sequence[str]) -> Any:
    """The command, or the command of a group, that the first words name."""
    for word in arguments:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
        elif not word.startswith("-"):
            break
    return command


def _options(command: Any) -> Options:
    found: Options = dict(ELSEWHERE)
    for parameter in getattr(command, "params", ()):
        on = next((name for name in parameter.opts if name.startswith("--")), None)
        if on is not None:
            off = next(iter(parameter.secondary_opts), on if getattr(parameter, "is_flag", False) else "")
            found[parameter.name] = (on, off)
    if "set_" in found:
        found |= {name: (f"--set {name}", "") for name in SETTINGS if name not in found}
    return found | {name: found[own] for name, own in ALIASES.items() if own in found}
