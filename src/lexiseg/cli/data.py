"""`lexiseg data`: checks the data of benchmarks, packs captions as shards, stores pseudo-masks, prepares a set."""

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
    group = typer.Typer(no_args_is_help=True, help="Check, pack and prepare data.")
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
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK", help="`lexiseg list benchmarks` names them.")],
    data: Annotated[Path, typer.Option("--data", metavar="ROOT", help="Folder that the data lie below.")],
    split: Annotated[
        str | None, typer.Option("--split", help="Which split.  [default: the one that is scored]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only look for the files; open none of them.")] = False,
    json: common.Json = False,
) -> None:
    """Say what of a benchmark's data is there, what it holds, and what is wrong; exits with 1 if it cannot be used."""
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
        typer.Argument(metavar="SOURCE", help="Pictures with captions beside them, a list, or COCO captions."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the shards.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder that the names in SOURCE are relative to.")
    ] = None,
    image_column: Annotated[str | None, typer.Option("--image-column", help="Column of the pictures' names.")] = None,
    caption_column: Annotated[str | None, typer.Option("--caption-column", help="Column of the captions.")] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Pairs in a shard.")] = 10_000,
    short_side: Annotated[
        int | None, typer.Option("--short-side", min=1, help="Make larger pictures this small, in pixels.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read pictures.")] = 2,
    max_bad_fraction: Annotated[
        float, typer.Option("--max-bad-fraction", min=0, max=1, help="Stop when more pairs than this are unusable.")
    ] = 0.05,
    json: common.Json = False,
) -> None:
    """Write photographs with captions as tar shards with a manifest; goes on where it was interrupted."""
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
    name: Annotated[str, typer.Argument(metavar="NAME", help="mini: what the embedded model learns from.")],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder for the packed data.")] = Path("data"),
    from_: Annotated[
        list[Path] | None, typer.Option("--from", help="Folder that downloads were unpacked in; repeat for more.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Sources to take; repeat or separate by commas.  [default: all]")
    ] = None,
    json: common.Json = False,
) -> None:
    """Pack official downloads the way a recipe reads them; without --from say which, whose and on what terms."""
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
