"""Declares options that several measuring commands share, and their progress bar."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lexiseg.cli import common

if TYPE_CHECKING:
    from lexiseg.evaluation.counting import Progress

On = Annotated[
    list[str],
    typer.Option(
        "--on",
        metavar="BENCHMARK",
        help="What to measure on; several with commas. `lexiseg list benchmarks` names them.",
    ),
]
Data = Annotated[Path, typer.Option("--data", metavar="ROOT", help="Folder with the data of the benchmarks.")]
Protocol = Annotated[
    str | None,
    typer.Option("--protocol", help="Whose way to measure: released, paper, lexiseg ...  [default: the method's own]"),
]
Split = Annotated[str | None, typer.Option("--split", help="Split of the data.  [default: the one that papers report]")]
Wording = Annotated[
    str | None, typer.Option("--wording", help='Whose words to use for the classes; "names" takes the bare names.')
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Choose among what the benchmark offers; repeat for more."),
]
Background = Annotated[
    str | None,
    typer.Option("--background", help="Words for everything else, or the name of a list, if the benchmark scores it."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Measure on this many images only, spread over the split.")
]
AllowSkipped = Annotated[bool, typer.Option("--allow-skipped", help="Leave out images that cannot be read, and go on.")]


def split_names(on: Sequence[str]) -> list[str]:
    """The benchmarks of --on, each once."""
    return list(dict.fromkeys(name.strip() for part in on for name in part.split(",") if name.strip()))


@contextlib.contextmanager
def processes() -> Iterator[tuple[bool, str | None]]:
    """Joins the processes that torchrun or `accelerate launch` started, if they did: whether this is the one that
    prints, and which of several GPUs is its own."""
    from lexiseg.evaluation.group import group

    with group(int(os.environ.get("WORLD_SIZE", "1"))) as here:
        yield here.main, _own_gpu(here.world)


def _own_gpu(world: int) -> str | None:
    import torch

    if world == 1 or torch.cuda.device_count() < 2:
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


@contextlib.contextmanager
def bar(description: str, *, shown: bool = True) -> Iterator[Progress | None]:
    """A bar that learns as it goes how many images there are."""
    if not shown:
        yield None
        return
    with common.progress(description, 0) as rich:
        if rich is None:
            yield None
            return

        def report(done: int, images: int) -> None:
            rich.update(rich.task_ids[0], completed=done, total=images)

        yield report
