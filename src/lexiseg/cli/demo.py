"""`lexiseg demo`: the bundled model on photographs that every installation has."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.cli import common
from lexiseg.errors import DataError

# photographs that scikit-image ships, and what a person would name in them
PHOTOGRAPHS = {
    "chelsea.png": "cat, blanket, wall, person, couch, bird, grass",
    "astronaut.png": "person, flag, wall, window, chair, sky",
    "coffee.png": "cup|coffee cup, saucer, spoon, table, wall, grass",
    "motorcycle_left.png": "motorcycle, floor, wall, shelf, car, tree, sky",
}


def register(app: typer.Typer) -> None:
    app.command("demo", epilog=common.examples("lexiseg demo", "lexiseg demo --out my-demo --json"))(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("lexiseg-demo"),
    model: Annotated[str, typer.Option("--model", help="Model to use.")] = common.DEFAULT_MODEL,
    json: common.Json = False,
) -> None:
    """Label bundled photographs with the embedded model, write overlays and say where they are."""
    start = time.perf_counter()
    predictor = common.load(model, weights=None, preset=None, device="auto", dtype="auto")
    results: list[dict[str, Any]] = []
    for name, words in PHOTOGRAPHS.items():
        result = predictor.segment(photograph(name), words)
        overlay = out / f"{Path(name).stem}-labelled.png"
        result.save(out / name)
        save_picture(result.overlay(), overlay)
        results.append({"photograph": name, "areas": result.areas(), "overlay": str(overlay)})
    seconds = time.perf_counter() - start
    if json:
        common.print_json({"model": model, "seconds": round(seconds, 2), "results": results})
        return
    rows = [
        (found["photograph"] if not place else "", word, f"{100 * area:.1f} %")
        for found in results
        for place, (word, area) in enumerate(sorted(found["areas"].items(), key=lambda item: -item[1]))
    ]
    common.print_table(("photograph", "class", "area"), rows)
    typer.echo(f"\n{len(results)} photographs in {seconds:.1f} s with {model}. Look at them:")
    for found in results:
        typer.echo(f"  {found['overlay']}")
    typer.echo('\nNow yours:  lexiseg segment PHOTO.jpg --words "person, dog, grass, sky"')


def photograph(name: str) -> Path:
    """Where scikit-image keeps one of its photographs."""
    path = Path(str(resources.files("skimage"))) / "data" / name
    if not path.is_file():
        raise DataError(f"scikit-image ships no {name} here; reinstall it: pip install --force-reinstall scikit-image")
    return path


def save_picture(picture: Any, path: Path) -> None:
    """A PIL image, written whole or not at all."""
    from lexiseg import files

    with files.atomic(path) as temporary:
        picture.save(temporary)
