"""What all scripts of this folder share: their options, their Markdown tables, their JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from lexiseg import files
from lexiseg.speed import measuring
from lexiseg.speed.measuring import Summary


def parser(doc: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: one per core)")
    made.add_argument("--out", type=Path, help="write the numbers to this JSON file, with machine and commit")
    made.add_argument("--quick", action="store_true", help="tiny cases: does the script run?")
    return made


def parse(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    options = made.parse_args(arguments)
    torch.set_num_threads(options.threads)
    return options


def write(options: argparse.Namespace, what: str, rows: Sequence[dict[str, Any]]) -> None:
    """The rows so far, if they are wanted; call it after each case, since the last ones may take minutes."""
    if options.out is not None:
        document = {"what": what, **measuring.circumstances(), "rows": list(rows)}
        files.write_text(options.out, json.dumps(document, indent=2) + "\n")


def header(*cells: str) -> None:
    row(*cells)
    row(*("---" for _ in cells))


def row(*cells: object) -> None:
    """A line of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def time(taken: Summary | None) -> str:
    """Milliseconds: median (minimum - 90th percentile)."""
    if taken is None:
        return "–"
    digits = 0 if taken["median"] >= 100 else 1 if taken["median"] >= 10 else 2
    return f"{taken['median']:.{digits}f} ({taken['min']:.{digits}f}-{taken['p90']:.{digits}f})"


def ratio(slower: Summary | None, faster: Summary) -> str:
    return "–" if slower is None else f"{slower['median'] / faster['median']:.1f}"


def memory(megabytes: Iterable[float | None]) -> str:
    return " / ".join("–" if each is None else f"{each:.0f}" for each in megabytes)
