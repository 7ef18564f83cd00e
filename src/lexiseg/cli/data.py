"""Checks, packs and prepares data: `lexiseg data`.

It checks the data of benchmarks, packs captions as shards, stores pseudo-masks and prepares the miniature set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lexiseg.cli import common
from lexiseg.cli.options import bar, split_names

if TYPE_CHECKING:
    from lexiseg.data.mini.sources import Source


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg data check voc21 --data ~/datasets",
        "lexiseg data pack photos/ shards/",
        "lexiseg data prepare mini",
    )
    group = typer.Typer(no_args_is_help=True, epilog=epilog, help="Check, pack and prepare data.")
    group.command(
        "check",
        epilog=common.examples(
            "lexiseg data check folder --data my-photographs", "lexiseg data check voc21 --data ~/datasets --quick"
        ),
    )(check)
    epilog = common.examples(
        "lexiseg data pack photos/ shards/ --short-side 224",
        "lexiseg data pack captions.tsv shards/ --images photos/ --shard-size 5000",
    )
    group.command("pack", epilog=epilog)(pack)
    epilog = common.examples(
        "lexiseg data masks shards/ masks/ --set features=facebook/dino-vits8",
        "lexiseg data masks photos/ masks/ --proposer spectral",
    )
    group.command("masks", epilog=epilog)(masks)
    epilog = common.examples(
        "lexiseg data prepare mini",
        "lexiseg data prepare mini --root data --from downloads/",
        "lexiseg data prepare mini --root data --from downloads/ --from /mnt/coco --only coco,msrc",
    )
    group.command("prepare", epilog=epilog)(prepare)
    app.add_typer(group, name="data")


def check(
    benchmark: Annotated[
        str, typer.Argument(metavar="BENCHMARK", help="Whose data to check; `lexiseg list benchmarks` names them.")
    ],
    data: Annotated[Path, typer.Option("--data", metavar="ROOT", help="Folder with the data of the benchmark.")],
    split: Annotated[
        str | None, typer.Option("--split", help="Split of the data.  [default: the one that is scored]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only look whether the files exist.")] = False,
    json: common.Json = False,
) -> None:
    """Check the data of a benchmark.

    Says what is there, what it holds and what is wrong. The exit code is 1 if the data cannot be used.
    """
    from lexiseg.benchmarks._check import check as look

    with bar(f"reading {benchmark}") as progress:
        report = look(benchmark, data, split=split, read=not quick, progress=progress)
    if json:
        common.print_json(report.to_json())
    else:
        typer.echo(str(report))
    if not report.complete:
        raise typer.Exit(1)


def pack(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder of pictures with captions beside them, a CSV or TSV list, or COCO captions."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the shards.")],
    images: Annotated[Path | None, typer.Option("--images", help="Folder with the pictures that SOURCE names.")] = None,
    image_column: Annotated[
        str | None, typer.Option("--image-column", help="Column with the pictures' names, in a list.")
    ] = None,
    caption_column: Annotated[
        str | None, typer.Option("--caption-column", help="Column with the captions, in a list.")
    ] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Pairs in a shard.")] = 10_000,
    short_side: Annotated[
        int | None,
        typer.Option("--short-side", min=1, help="Shrink larger pictures to a short side of this many pixels."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read pictures.")] = 2,
    max_bad_fraction: Annotated[
        float,
        typer.Option("--max-bad-fraction", min=0, max=1, help="Stop if a larger fraction of the pairs cannot be used."),
    ] = 0.05,
    json: common.Json = False,
) -> None:
    """Pack photographs with captions as tar shards.

    A manifest lists the shards. A run that was interrupted goes on with the same command.
    """
    from lexiseg.data.pairs.pack import pack as pack_pairs

    with bar("packing") as progress:
        manifest = pack_pairs(
            source, out, shard_size=shard_size, images=images, image_column=_column(image_column),
            caption_column=_column(caption_column), short_side=short_side, workers=workers,
            max_bad_fraction=max_bad_fraction, progress=progress,
        )  # fmt: skip
    if json:
        common.print_json(manifest)
        return
    skipped = sum(manifest["skipped"].values())
    typer.echo(f"{manifest['samples']:,} pairs in {len(manifest['shards'])} shards in {out}, {skipped:,} skipped")


def masks(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Shards, pictures with captions beside them, or a list.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the masks.")],
    proposer: Annotated[str, typer.Option("--proposer", help="kmeans or spectral.")] = "kmeans",
    set_: common.Settings = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder that the names in SOURCE are relative to.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures at a time.")] = 32,
    device: common.Device = "auto",
    json: common.Json = False,
) -> None:
    """Store the pseudo-masks of image-text pairs, which S-Seg learns from; goes on where it was interrupted."""
    from lexiseg import catalog, settings
    from lexiseg.data.pairs.readers import open_pairs
    from lexiseg.errors import UnknownName
    from lexiseg.inference import devices
    from lexiseg.proposals._storing import store

    if proposer not in ("kmeans", "spectral"):
        raise UnknownName("proposer of parts", proposer, ["kmeans", "spectral"])
    module, on = catalog.get("proposals", proposer), devices.device(device)
    config = settings.change(module.Config(), settings.parse(set_ or ()))
    made = module.load(config)
    facts = {"proposer": proposer, "settings": settings.to_json(config)}
    pairs = open_pairs(source, images=images)
    with bar("storing masks") as progress:
        counts = store(
            made.to(on) if hasattr(made, "to") else made,
            pairs,
            out,
            facts=facts,
            batch_size=batch_size,
            device=on,
            progress=progress,
        )
    if json:
        common.print_json(counts)
        return
    typer.echo(f"{counts['made']:,} masks made in {out}, {counts['skipped']:,} pictures skipped")


def prepare(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What to prepare; mini, which the embedded model learns from.")
    ],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder for the packed data.")] = Path("data"),
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="DIR", help="Folder in which downloads were unpacked; repeat for more."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Sources to take; repeat or separate by commas.  [default: all]"),
    ] = None,
    json: common.Json = False,
) -> None:
    """Pack official downloads for a recipe.

    Without --from it says which downloads are needed, whose they are and on what terms.
    """
    from lexiseg.data.mini.prepare import prepare_mini
    from lexiseg.data.mini.sources import SOURCES
    from lexiseg.errors import UnknownName

    if name != "mini":
        raise UnknownName("set of data that can be prepared", name, ["mini"])
    if not from_:
        _print_sources(SOURCES, json)
        return
    with bar(f"preparing {name}") as progress:
        prepared = prepare_mini(root, from_, only=split_names(only or ()), progress=progress)
    if json:
        common.print_json({"root": str(root), "made": prepared.made, "kept": prepared.kept})
        return
    kept = f", {len(prepared.kept)} were there" if prepared.kept else ""
    typer.echo(f"{len(prepared.made)} files made in {root}{kept}")


def _print_sources(sources: Sequence[Source], json: bool) -> None:
    if json:
        common.print_json([asdict(source) for source in sources])
        return
    for source in sources:
        typer.echo(f"{source.name}: {source.owner}")
        typer.echo(f"  terms     {source.terms}")
        typer.echo(f"  becomes   {source.gives}")
        typer.echo(f"  must hold {', '.join(source.needs)}\n")
    typer.echo("docs/data.md says more. Then: lexiseg data prepare mini --root DIR --from DOWNLOADS")


def _column(given: str | None) -> str | int | None:
    """A column by its name, or by its number where the file has no header."""
    return int(given) if given is not None and given.isdecimal() else given
