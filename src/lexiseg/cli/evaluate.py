"""`lexiseg evaluate`: models on benchmarks, as a table for people and as JSON with everything that decides a number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexiseg import settings
from lexiseg.cli import common, options, scoring
from lexiseg.errors import SettingError

if TYPE_CHECKING:
    from lexiseg.evaluation.counting import Keep
    from lexiseg.evaluation.pipeline import Corruption
    from lexiseg.evaluation.result import Result
    from lexiseg.evaluation.robustness import Robustness
    from lexiseg.evaluation.subject import Subject


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg evaluate maskclip/mini --on folder --data my-photographs",
        "lexiseg evaluate maskclip/vit-b16 maskclip/rn50 --on voc20,context59 --data ~/datasets --out results --resume",
        "lexiseg evaluate maskclip/mini --on folder --data my-photographs --corrupt all:1,5",
        "torchrun --nproc-per-node 2 -m lexiseg evaluate maskclip/mini --on folder --data my-photographs",
    )
    app.command("evaluate", epilog=epilog)(evaluate)


def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models or saved folders.")],
    on: options.On,
    data: options.Data,
    protocol: options.Protocol = None,
    split: options.Split = None,
    limit: options.Limit = None,
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
    wording: options.Wording = None,
    background: options.Background = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="Leave pixels unlabelled below this posterior.")
    ] = None,
    option: options.Option = None,
    allow_skipped: options.AllowSkipped = False,
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
    from lexiseg.data.corruptions import corruptions
    from lexiseg.evaluation.counting import Counting
    from lexiseg.evaluation.robustness import robustness
    from lexiseg.evaluation.subject import Model, prepare

    kinds = [] if corrupt is None else corruptions.parse(corrupt)
    benchmarks = options.split_names(on)
    place = _Place(out, single=len(models) * len(benchmarks) == 1 and not kinds, resume=resume, overwrite=overwrite)
    choices = settings.parse(option or ()) | ({"classes": "all"} if all_classes else {})
    changes = settings.parse(set_ or ()) | ({} if threshold is None else {"background_threshold": threshold})
    counting = Counting(
        limit=limit, batch_size=batch_size, own_words=own_words, boundary=boundary, allow_skipped=allow_skipped
    )
    found: list[Robustness] = []
    with options.processes() as (main, on_device):
        for name in models:
            for benchmark in benchmarks:
                model = Model(name, weights, preset, on_device or device, dtype, changes)
                subject = prepare(
                    model, benchmark, data, wanted=protocol, split=split, wording=wording, background=background,
                    options=choices,
                )  # fmt: skip
                with options.bar(f"{name} on {benchmark}", shown=main) as progress:
                    keep = place.of(subject)
                    found.append(robustness(subject, kinds, counting, bgr=bgr, keep=keep, progress=progress))
    if main:
        _print(found, place, json)


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
