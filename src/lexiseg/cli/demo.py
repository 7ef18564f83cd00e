"""Labels photographs that every installation has: `lexiseg demo`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.cli import common
from lexiseg.cli.labelling import write
from lexiseg.cli.outputs import Format, Job, check_place, settle
from lexiseg.data.bundled import PHOTOGRAPHS, photograph

__all__ = ["PHOTOGRAPHS", "demo", "photograph", "register"]

FORMATS = (Format.png, Format.overlay)


def register(app: typer.Typer) -> None:
    app.command("demo", epilog=common.examples("lexiseg demo", "lexiseg demo --out my-demo --json"))(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("lexiseg-demo"),
    model: Annotated[str, typer.Option("--model", help="Model to use.")] = common.DEFAULT_MODEL,
    json: common.Json = False,
) -> None:
    """Label bundled photographs with the embedded model, write overlays and say where they are."""
    start = time.perf_counter()
    jobs = {name: Job(photograph(name), out / Path(name).stem, FORMATS) for name in PHOTOGRAPHS}
    settle(list(jobs.values()), "demo", overwrite=True)  # refuses to take the place of the user's files
    check_place(jobs.values())
    predictor = common.load(model, weights=None, preset=None, device="auto", dtype="auto")
    results: list[dict[str, Any]] = []
    for name, words in PHOTOGRAPHS.items():
        result = predictor.segment(jobs[name].photo, words)
        write(result, jobs[name], made_with="demo")
        overlay = str(jobs[name].outputs[Format.overlay])
        for warning in result.warnings:
            common.note(f"note: {warning}")
        results.append(
            {
                "photograph": name,
                "areas": result.areas(),
                "unlabelled_area": result.unlabelled_area,
                "overlay": overlay,
                "warnings": list(result.warnings),
            }
        )
    seconds = time.perf_counter() - start
    if json:
        common.print_json({"model": model, "seconds": round(seconds, 2), "results": results})
        return
    common.print_table(("photograph", "class", "area"), _rows(results))
    typer.echo(f"\n{len(results)} photographs in {seconds:.1f} s with {model}. Look at them:")
    for found in results:
        typer.echo(f"  {found['overlay']}")
    typer.echo('\nNow yours:  lexiseg segment PHOTO.jpg --words "person, dog, grass, sky"')


def _rows(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for found in results:
        shares = sorted(found["areas"].items(), key=lambda item: -item[1])
        shares += [("unlabelled", found["unlabelled_area"])] if found["unlabelled_area"] else []
        for place, (word, area) in enumerate(shares):
            yield (found["photograph"] if not place else "", word, f"{100 * area:.1f} %")
