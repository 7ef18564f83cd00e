"""`lexiseg evaluate`: models on benchmarks, as a table for people and as JSON with everything that decides a number."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg import settings
from lexiseg.cli import common, scoring
from lexiseg.errors import SettingError

if TYPE_CHECKING:
    from lexiseg.evaluation.counting import Keep, Progress
    from lexiseg.evaluation.pipeline import Corruption
    from lexiseg.evaluation.result import Result
    from lexiseg.evaluation.robustness import Robustness
    from lexiseg.evaluation.subject import Subject

On = Annotated[
    list[str],
    typer.Option("--on", metavar="BENCHMARK", help="`lexiseg list benchmarks`; repeat or separate by commas."),
]
Data = Annotated[Path, typer.Option("--data", metavar="ROOT", help="Folder that the data lie below.")]
Protocol = Annotated[
    str | None,
    typer.Option("--protocol", help="released, paper, lexiseg ...: whose settings.  [default: the method's own]"),
]
Split = Annotated[str | None, typer.Option("--split", help="Which split.  [default: the one that is reported]")]
Wording = Annotated[
    str | None, typer.Option("--wording", help='How classes are called; "names" for each name without synonyms.')
]
Option = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="A choice of the benchmark; repeat for more.")
]
Background = Annotated[
    str | None,
    typer.Option("--background", help="Words for everything else, or the name of a list, where it is scored."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Look at this many images, spread over the split.")]
AllowSkipped = Annotated[bool, typer.Option("--allow-skipped", help="Leave out images that cannot be read.")]


def register(app: typer.Typer) -> None:
    from lexiseg.cli import compare, oracle, sweep

    epilog = common.examples(
        "lexiseg evaluate maskclip/mini --on folder --data my-photographs",
        "lexiseg evaluate maskclip/vit-b16 maskclip/rn50 --on voc20,context59 --data ~/datasets --out results --resume",
        "lexiseg evaluate maskclip/mini --on folder --data my-photographs --corrupt all:1,5",
        "torchrun --nproc-per-node 2 -m lexiseg evaluate maskclip/mini --on folder --data my-photographs",
    )
    app.command("evaluate", epilog=epilog)(evaluate)
    for module in (compare, sweep, oracle):
        module.register(app)


def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models or saved folders.")],
    on: On,
    data: Data,
    protocol: Protocol = None,
    split: Split = None,
    limit: Limit = None,
    corrupt: Annotated[
        str | None,
        typer.Option("--corrupt", help="Corruptions and severities: gaussian_noise:3, all:1,5, maskclip:5 ..."),
    ] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="Corrupt with channels reversed, as MaskCLIP's code did.")] = False,
    own_words: Annotated[
        bool, typer.Option("--own-words", help="Also ask each image about the classes in it alone.")
    ] = False,
    all_classes: Annotated[
        bool, typer.Option("--all-classes", help="Ask for classes that do not occur in the split, too.")
    ] = False,
    boundary: Annotated[bool, typer.Option("--boundary", help="Also measure boundary IoU.")] = False,
    wording: Wording = None,
    background: Background = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="Leave pixels unlabelled below this posterior.")
    ] = None,
    option: Option = None,
    allow_skipped: AllowSkipped = False,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results, or for a single one a file that ends with .json.")
    ] = Path("lexiseg-results"),
    resume: Annotated[bool, typer.Option("--resume", help="Keep what is finished, go on with what is not.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    weights: common.Weights = None,
    preset: common.Preset = None,
    set_: common.Settings = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in one forward.")] = 1,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    json: common.Json = False,
) -> None:
    """Measure models on benchmarks: mIoU and more, with intervals, baselines and all settings."""
    from lexiseg.data import corruptions
    from lexiseg.evaluation.counting import Counting
    from lexiseg.evaluation.robustness import robustness
    from lexiseg.evaluation.subject import Model, prepare

    kinds = [] if corrupt is None else corruptions.parse(corrupt)
    benchmarks = split_names(on)
    place = _Place(out, single=len(models) * len(benchmarks) == 1 and not kinds, resume=resume, overwrite=overwrite)
    choices = settings.parse(option or ()) | ({"classes": "all"} if all_classes else {})
    changes = settings.parse(set_ or ()) | ({} if threshold is None else {"background_threshold": threshold})
    counting = Counting(
        limit=limit, batch_size=batch_size, own_words=own_words, boundary=boundary, allow_skipped=allow_skipped
    )
    found: list[Robustness] = []
    with processes() as (main, on_device):
        for name in models:
            for benchmark in benchmarks:
                model = Model(name, weights, preset, on_device or device, dtype, changes)
                subject = prepare(
                    model, benchmark, data, wanted=protocol, split=split, wording=wording, background=background,
                    options=choices,
                )  # fmt: skip
                with bar(f"{name} on {benchmark}", shown=main) as progress:
                    keep = place.of(subject)
                    found.append(robustness(subject, kinds, counting, bgr=bgr, keep=keep, progress=progress))
    if main:
        _print(found, place, json)


def split_names(on: Sequence[str]) -> list[str]:
    """The benchmarks of --on, each once."""
    return list(dict.fromkeys(name.strip() for part in on for name in part.split(",") if name.strip()))


@contextlib.contextmanager
def processes() -> Iterator[tuple[bool, str | None]]:
    """Joins the processes that torchrun or `accelerate launch` started, if they did: whether this is the one that
    prints, and which of several GPUs is its own."""
    from lexiseg.evaluation.processes import group

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


class _Place:
    """Where results go: a file for a single one, else a folder with a file for each."""

    def __init__(self, out: Path, *, single: bool, resume: bool, overwrite: bool) -> None:
        self.out, self.resume, self.overwrite = out, resume, overwrite
        self.is_file = out.suffix == ".json"
        if self.is_file and not single:
            raise SettingError(f"--out {out} is one file and there are several results; name a folder")

    def of(self, subject: Subject) -> Any:
        def keep(corruption: Corruption | None) -> Keep:
            from lexiseg.evaluation.counting import Keep

            return Keep(self.path(subject, corruption), self.resume, self.overwrite)

        return keep

    def path(self, subject: Subject, corruption: Corruption | None) -> Path:
        """MODEL-on-BENCHMARK.json, with split, protocol and corruption where they are not the usual ones."""
        if self.is_file:
            return self.out
        benchmark = subject.opened.benchmark
        parts = [subject.predictor.name.strip("./").replace("/", "-"), "on", benchmark.name]
        parts += [subject.opened.split] if subject.opened.split != benchmark.test else []
        parts += [subject.protocol.name] if subject.protocol.name != "lexiseg" else []
        parts += [corruption.kind, str(corruption.severity)] if corruption is not None else []
        return self.out / ("-".join(parts) + ".json")


def _print(found: Sequence[Robustness], place: _Place, json: bool) -> None:
    results = [result for one in found for result in (one.clean, *one.corrupted.values())]
    for result in results:
        for warning in result.warnings:
            common.note(f"{result.model} on {result.benchmark}: {warning}")
    if json:
        scoring.print_documents(results)
        return
    if len(found) > 1:
        scoring.print_grid([one.clean for one in found])
    for one in found:
        if one.corrupted:
            scoring.print_robustness(one)
        elif len(found) == 1:
            scoring.print_result(one.clean)
    _note_speed(results, place)


def _note_speed(results: Sequence[Result], place: _Place) -> None:
    common.note(f"written: {place.out}")
    for result in results:
        if line := scoring.speed(result.profile):
            common.note(f"{result.model} on {result.benchmark}: {line}")
