"""Shares options, tables, JSON and progress among commands.

An option means the same wherever it occurs.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg.cli import names
from lexiseg.errors import VocabularyError
from lexiseg.vocabulary import Vocabulary

if TYPE_CHECKING:
    from rich.progress import Progress

    from lexiseg.inference.predictor import Predictor

__all__ = [
    "DEFAULT_MODEL",
    "Background",
    "Device",
    "Dtype",
    "Json",
    "MaxMegapixels",
    "Preset",
    "Prompts",
    "Refine",
    "Settings",
    "Weights",
    "examples",
    "hint",
    "load",
    "note",
    "print_json",
    "print_table",
    "progress",
    "say",
    "understood",
    "vocabulary",
]

DEFAULT_MODEL = "maskclip/mini"
FEWEST_MEGAPIXELS, MOST_MEGAPIXELS = 0.001, 100_000

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")]
Weights = Annotated[
    str | None, typer.Option("--weights", help="Weights in place of the model's own: a hub id, folder or file.")
]
Preset = Annotated[str | None, typer.Option("--preset", help="Whose settings to use: paper, released or lexiseg.")]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        help="Sentences around each word: single, imagenet80, maskclip85, vild14, a sentence with {}, a file of "
        "them, or of learned prompts.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the model by its name; repeat for more."),
]
Device = Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:1 ...")]
Dtype = Annotated[str, typer.Option("--dtype", help="Precision: auto, fp32, bf16 or fp16.")]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        help='Words for everything else, whose pixels stay unlabelled: "sky, wall", or auto for a published list.',
    ),
]
Refine = Annotated[str | None, typer.Option("--refine", help="Sharpen the borders with a refiner: crf or pamr.")]


def _megapixels(value: float) -> float:
    if not FEWEST_MEGAPIXELS <= value <= MOST_MEGAPIXELS:  # NaN too
        raise typer.BadParameter(f"give a number from {FEWEST_MEGAPIXELS} to {MOST_MEGAPIXELS:,}, got {value:g}")
    return value


MaxMegapixels = Annotated[
    float,
    typer.Option(
        "--max-megapixels", help="Refuse photographs with more pixels, without decoding them.", callback=_megapixels
    ),
]


def examples(*commands: str) -> str:
    """The last lines of a --help."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def vocabulary(words: str | None, words_file: Path | None, background: str | None) -> Vocabulary:
    """The words of --words or --words-file, exactly one of which must be given; says what was understood."""
    if (words is None) == (words_file is None):
        given = "both were given" if words is not None else "neither was given"
        raise VocabularyError(f'name what to look for with --words "road, car" or --words-file FILE; {given}')
    chosen = Vocabulary(words) if words is not None else Vocabulary.from_file(words_file or "")
    chosen = chosen if background is None else chosen.with_background(background)
    note(understood(chosen))
    return chosen


def understood(words: Vocabulary) -> str:
    """A vocabulary in one line: "2 classes: road, person (person|pedestrian); background: sky"."""
    classes = [
        name if own == (name,) else f"{name} ({'|'.join(own)})"
        for name, own in zip(words.names, words.words, strict=True)
    ]
    line = f"{len(classes)} {'class' if len(classes) == 1 else 'classes'}: {_few(classes, 12)}"
    return line if not words.background else f"{line}; background: {_few(words.background, 30)}"


def _few(words: Sequence[str], most: int) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def load(model: str, *, weights: str | None, preset: str | None, device: str, dtype: str, **changes: Any) -> Predictor:
    """The predictor of a model; settings that are None keep the method's own. The mini model says how to do better."""
    import lexiseg

    changes = {key: value for key, value in changes.items() if value is not None}
    predictor = lexiseg.load(model, weights=weights, preset=preset, device=device, dtype=dtype, **changes)
    hint(model, weights)
    return predictor


def hint(model: str, weights: str | None) -> None:
    """The mini model says how to do better."""
    if model == DEFAULT_MODEL and weights is None:
        note(
            "maskclip/mini is small and knows few things; for full quality add --model maskclip/vit-b16 (600 MB, once)"
        )


def note(text: str, *, beside: Progress | None = None) -> None:
    """One line for the person, in the command's own options, on stderr; above the progress bar where there is one."""
    text = names.in_options(text)
    if beside is None:
        typer.echo(text, err=True)
    else:
        beside.console.print(text, markup=False, highlight=False, soft_wrap=True)


def say(text: str, *, beside: Progress | None = None) -> None:
    """One line of the result, on stdout; above the progress bar where both are on one terminal."""
    if beside is not None and sys.stdout.isatty():
        note(text, beside=beside)
    else:
        typer.echo(text)


def print_json(content: Any) -> None:
    """One JSON document on stdout, in ASCII where the console's encoding lacks a letter."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content, indent=2, default=str)
    typer.echo(text)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table on stdout: the first column left, the others right where they are numbers."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for place, line in enumerate(lines):
        cells = [
            cell.rjust(width) if column and _is_number(cell) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
        if not place:
            typer.echo("  ".join("-" * width for width in widths))


def _is_number(cell: str) -> bool:
    return cell.strip(" %+-.,[]eEnax0123456789/") == ""


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Progress | None]:
    """A bar with rate and time left on stderr where that is a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _rate_column(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        bar.add_task(description, total=total)
        yield bar


def _rate_column() -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    return RateColumn()
