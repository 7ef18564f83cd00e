"""Samples a second of every recipe, beside the loop that one would write: fp32, eager, no worker, no cache.

    python benchmarks/training.py --data ROOT          every recipe's MINI (about a minute for each)
    python benchmarks/training.py --recipes simseg     TOY where a recipe's data is not at hand
    python benchmarks/training.py --set precision=bf16_weights

Both loops read the same samples in the same order and take the same steps of the same optimiser. Ours is the trainer
with the recipe's precision, workers and caches; the naive loop prepares each sample when it is wanted, in the process
that trains. They take turns, a few steps each. Bar: 1.5 times the samples a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import script
import torch
from torch import nn

from lexiseg import catalog, settings
from lexiseg.data.opening import Workers
from lexiseg.errors import LexisegError
from lexiseg.speed import measuring
from lexiseg.training import optimiser, recipe
from lexiseg.training.building import build
from lexiseg.training.distributed import processes
from lexiseg.training.recipe import Recipe
from lexiseg.training.trainer import Trainer, open_data

BAR = 1.5
PER_TURN = 2  # steps


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--recipes", nargs="+", choices=catalog.names("recipes"), default=catalog.names("recipes"))
    parser.add_argument("--data", help="where the recipes' data are")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--toy", action="store_true", help="TOY, even where MINI's data is at hand")
    parser.add_argument("--turns", type=int, default=3, help=f"of {PER_TURN} steps")
    options = script.parse(parser, arguments)
    if options.quick:
        options.toy, options.turns = True, 1
    rows = []
    script.header("recipe", "batch", "precision", "samples/s", "naive samples/s", "ratio", "bar")
    for name in options.recipes:
        for label, chosen in stages(name, options.data, settings.parse(options.changes), toy=options.toy):
            facts = {"recipe": label, "batch": chosen.batch_size, "precision": chosen.precision}
            found = {**facts, **measure(chosen, options.turns)}
            share = found["samples_per_second"] / found["naive_samples_per_second"]
            speeds = (f"{found[key]:.1f}" for key in ("samples_per_second", "naive_samples_per_second"))
            script.row(label, chosen.batch_size, chosen.precision, *speeds, f"{share:.2f}", f"≥ {BAR}")
            rows.append({**found, "ratio": share})
            script.write(options, "samples per second of training", rows)


def stages(name: str, data: str | None, changes: Mapping[str, Any], *, toy: bool) -> Iterator[tuple[str, Recipe]]:
    """The stages of MINI that can be opened here, else those of TOY."""
    module = catalog.get("recipes", name)
    if not toy:
        found = list(labelled(f"{name} MINI", module.MINI, data, changes))
        reason = next((reason for _, chosen in found if (reason := missing(chosen))), None)
        if reason is None:
            yield from found
            return
        print(f"{name}: MINI is not run: {reason}")
    yield from labelled(f"{name} TOY", module.TOY, None, changes)


def labelled(
    label: str, recipes: Recipe | tuple[Recipe, ...], data: str | None, changes: Mapping[str, Any]
) -> Iterator[tuple[str, Recipe]]:
    several = recipes if isinstance(recipes, tuple) else (recipes,)
    for number, each in enumerate(several, start=1):
        place = {}
        if data is not None:
            place = {"data.root": data} if has(each.data, "root") else {"data.places": (data,)}
        yield (label if len(several) == 1 else f"{label}, stage {number}"), recipe.change(each, {**place, **changes})


def missing(chosen: Recipe) -> str | None:
    """Why a recipe cannot be run here."""
    try:
        with processes(chosen) as accelerator:
            open_data(chosen, accelerator)
        build(chosen)
    except LexisegError as error:
        return str(error)
    return None


def measure(chosen: Recipe, turns: int) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        ways = {"ours": stack.enter_context(ours(chosen)), "naive": stack.enter_context(naive(chosen))}
        times = measuring.race(ways, repeats=turns)
    samples = 1e3 * PER_TURN * chosen.batch_size
    speeds = {name: samples / taken["median"] for name, taken in times.items()}
    return {"samples_per_second": speeds["ours"], "naive_samples_per_second": speeds["naive"], "ms": times}


@contextlib.contextmanager
def ours(chosen: Recipe) -> Iterator[Callable[[], None]]:
    """The trainer's own steps, PER_TURN at a time."""
    with processes(chosen) as accelerator:
        source = open_data(chosen, accelerator)
        trainer = Trainer(chosen, build(chosen).objective, source=source, accelerator=accelerator)
        with contextlib.closing(trainer.stream()) as stream:

            def turn() -> None:
                for _ in range(PER_TURN):
                    batch, _ = next(stream)
                    trainer.take_step(batch)

            yield turn


@contextlib.contextmanager
def naive(chosen: Recipe) -> Iterator[Callable[[], None]]:
    """The loop of a tutorial."""
    changes: dict[str, Any] = {}
    if has(chosen.data, "workers"):
        changes["workers"] = Workers()
    if has(chosen.data, "cache"):
        changes["cache"] = None
    plain = replace(chosen, data=replace(chosen.data, **changes), precision="fp32", cache=None, accumulate=1, ema=None)
    objective: Any = build(plain).objective
    optimiser.freeze(objective, plain.groups)
    step = optimiser.build(objective, plain)
    source = plain.data.open(batch_size=plain.batch_size, seed=plain.seed, max_bad_fraction=plain.max_bad_fraction)
    number = 0

    def hook(name: str) -> None:
        if hasattr(objective, name):
            getattr(objective, name)(number)

    with contextlib.closing(source.stream(None, rank=0, world=1)) as stream:

        def turn() -> None:
            nonlocal number
            objective.train()
            for _ in range(PER_TURN):
                hook("before_step")
                batch, _ = next(stream)
                losses = objective(batch)
                torch.stack(list(losses.values())).sum().backward()
                if plain.clip is not None:
                    nn.utils.clip_grad_norm_(objective.parameters(), plain.clip)
                step.step()
                step.zero_grad()
                hook("after_step")
                number += 1

        yield turn


def has(value: Any, name: str) -> bool:
    return name in {field.name for field in fields(value)}


if __name__ == "__main__":
    main()
