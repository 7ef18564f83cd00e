"""Prints evaluations: tables that read like those of the papers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from lexiseg.cli import common

if TYPE_CHECKING:
    from lexiseg.evaluation.pipeline import Profile
    from lexiseg.evaluation.result import ClassScore, OwnWords, Result
    from lexiseg.evaluation.robustness import Robustness
    from lexiseg.metrics.bootstrap import Interval

NAMES = {"miou": "mIoU", "hiou": "hIoU", "boundary_miou": "boundary IoU"}


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def interval(score: Interval) -> str:
    return f"[{percent(score.low)}, {percent(score.high)}]"


def score_name(name: str) -> str:
    """miou_unseen_thing -> mIoU, unseen thing"""
    for key, shown in NAMES.items():
        if name == key or name.startswith(f"{key}_"):
            rest = name[len(key) + 1 :].replace("_", " ")
            return f"{shown}, {rest}" if rest else shown
    return name.replace("_iou", " IoU").replace("pixel_accuracy_", "pixel accuracy, ").replace("_", " ")


def print_result(result: Result) -> None:
    """All scores of one evaluation, what nothing at all would score, and every class."""
    benchmark, protocol = result.facts["benchmark"], result.facts["protocol"]
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    typer.echo(
        f"{result.model} on {result.benchmark} ({benchmark['split']}): {result.images} images{skipped}, "
        f"{benchmark['classes']} classes, protocol {protocol['name']}"
    )
    if line := background(result.facts):
        typer.echo(line)
    typer.echo()
    _print_scores(result.scores, result.baselines)
    if result.own_words is not None:
        _print_own_words(result.own_words)
    typer.echo()
    total = sum(entry.pixels for entry in result.classes.values())
    rows = [
        (name, percent(entry.iou), percent(entry.accuracy), percent(entry.pixels / total), _mark(entry))
        for name, entry in result.classes.items()
    ]
    common.print_table(("class", "IoU", "accuracy", "% of pixels", ""), rows)


def background(facts: Mapping[str, Any]) -> str:
    """What is labelled as the background; empty where it is not scored, or where the method has a rule of its own."""
    if not facts["benchmark"]["background"]:
        return ""
    if words := facts["protocol"].get("background_words"):
        return f"background: {len(words)} words stand for it ({', '.join(words)}); --background names others, or none"
    threshold = ((facts["settings"] or {}).get("inference") or {}).get("background_threshold")
    return "" if threshold is None else f"background: pixels whose best class has a posterior below {threshold}"


def _mark(entry: ClassScore) -> str:
    """A class of no true pixel: the means leave it out unless it was predicted."""
    if entry.pixels:
        return ""
    return "in no label map: left out" if math.isnan(entry.iou) else "in no label map, but predicted"


def _print_own_words(own: OwnWords) -> None:
    typer.echo(f"\nEach image asked about its own classes alone ({own.images} images with two or more):\n")
    _print_scores(own.scores, own.baselines)


def _print_scores(scores: Mapping[str, Interval], baselines: Mapping[str, Mapping[str, float]]) -> None:
    header = ("score, %", "value", "95 % interval", *baselines)
    rows = [
        (score_name(name), percent(score.value), interval(score), *_guesses(name, baselines))
        for name, score in scores.items()
    ]
    common.print_table(header, rows)


def _guesses(name: str, baselines: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [percent(scores[name]) if name in scores else "" for scores in baselines.values()]


def note_protocol(facts: Mapping[str, Any]) -> None:
    """Which protocol is used, and the flag for another, where the method has several on this benchmark."""
    from lexiseg.evaluation.choosing import others

    chosen, benchmark = facts["protocol"], facts["benchmark"]["benchmark"]
    if found := others(chosen["method"], benchmark, chosen["name"]):
        flags = " or ".join(f"--protocol {name}" for name in found)
        common.note(
            f"{facts['model']} on {benchmark} is measured by the protocol {chosen['name']} ({chosen['source']}), in "
            f"{facts['settings']['dtype']}; {flags} takes another"
        )


def note_taken(result: Result) -> None:
    """Where a result comes from that was not measured now."""
    if result.path is not None:
        common.note(f"{result.path} has this result of the same settings and data; --overwrite measures again")


def print_grid(results: Sequence[Result]) -> None:
    """mIoU, a row for each model and a column for each benchmark."""
    models = list(dict.fromkeys(result.model for result in results))
    benchmarks = list(dict.fromkeys(result.benchmark for result in results))
    cells = {(result.model, result.benchmark): result.scores["miou"] for result in results}
    rows = [
        (model, *(f"{percent(cells[model, name].value)} {interval(cells[model, name])}" for name in benchmarks))
        for model in models
    ]
    common.print_table(("mIoU, %", *benchmarks), rows)


def print_robustness(found: Robustness) -> None:
    """mIoU of each corruption and severity, with what it loses of the clean score."""
    clean = found.clean
    typer.echo(f"{clean.model} on {clean.benchmark}: {clean.images} images, mIoU and the share of it that is lost\n")
    header = ("mIoU, %", *(f"severity {severity}" for severity in found.severities))
    rows = [("none", percent(clean["miou"]), *("" for _ in found.severities[1:]))]
    for kind in found.kinds:
        rows.append((kind, *(_damage(found, kind, severity) for severity in found.severities)))
    lost = [(found.mean(severity), 1 - found.mean(severity) / clean["miou"]) for severity in found.severities]
    rows.append(("mean of the corruptions", *(f"{percent(score)} (-{100 * share:.0f} %)" for score, share in lost)))
    common.print_table(header, rows)


def _damage(found: Robustness, kind: str, severity: int) -> str:
    if (kind, severity) not in found.corrupted:
        return ""
    return f"{percent(found.corrupted[kind, severity]['miou'])} ({-100 * found.degradation(kind, severity):+.0f} %)"


def print_documents(results: Sequence[Result]) -> None:
    """One JSON document: the result itself, or all of them under "results"."""
    if len(results) == 1:
        typer.echo(results[0].dumps())
        return
    inner = ",\n".join(result.dumps() for result in results)
    typer.echo(f'{{"results": [\n{inner}\n]}}')


def speed(profile: Profile) -> str:
    """Where the time went, in a line; empty where nothing was measured in this session."""
    if not profile.images:
        return ""
    shares = {
        "model": profile.model,
        "waiting for data": profile.waiting_for_data,
        "waiting for the metric": profile.waiting_for_metric,
    }
    told = ", ".join(f"{name} {100 * seconds / profile.seconds:.0f} %" for name, seconds in shares.items())
    return f"{profile.seconds:.1f} s, {profile.images_per_second:.1f} images/s ({told})"


def value(found: Any) -> str:
    """A setting in a table cell."""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
