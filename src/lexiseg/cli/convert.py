"""Converts a downloaded checkpoint, name by name: `lexiseg convert`.

The result is a folder that every command reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg import files, settings
from lexiseg.cli import common
from lexiseg.errors import OutputError, WeightsError


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg convert simseg.vit-b.pth --to simseg/vit-b16 --allow-pickle --out models/simseg",
        "lexiseg convert RN50.pt --to maskclip/rn50 --out models/maskclip-rn50",
        'lexiseg segment photo.jpg --words "cat, dog" --model models/simseg',
    )
    app.command("convert", epilog=epilog)(convert)


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint, as its authors published it.")],
    to: Annotated[str, typer.Option("--to", metavar="METHOD/VARIANT", help="The model that the checkpoint is for.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write, new or empty.")],
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read a pickled file; only if you trust its source.")
    ] = False,
    set_: common.Settings = None,
    json: common.Json = False,
) -> None:
    """Turn a published checkpoint into a folder.

    The folder holds safetensors, tokenizer and settings, and every command takes it as a model.
    """
    from lexiseg import catalog

    files.local(file, WeightsError)
    if not file.exists():
        raise WeightsError(f"there is nothing at {file}; give the checkpoint's path")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is there already; choose another folder")
    changes: dict[str, Any] = {"allow_pickle": True} if allow_pickle else {}
    module, variant = catalog.resolve(to, weights=file, **(changes | settings.parse(set_ or ())))
    method = module.__name__.rpartition(".")[2]
    segmenter = module.load(variant)
    facts = {"variant": catalog.variant_of(to), "converted_from": file.name}
    catalog.save(segmenter, out, method=method, inference=variant.inference, source=file, **facts)
    if json:
        parameters = sum(parameter.numel() for parameter in segmenter.parameters())
        common.print_json({"model": str(out), "method": method, "parameters": parameters})
        return
    typer.echo(f"{out}")
    common.note(f"done; try it: lexiseg segment PHOTO --words '...' --model {out}")
