"""The model card's numbers as Markdown; a part of model_card.py. All scores are percentages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["markdown"]

GUESSES = ("random", "majority class", "largest class of each image")


def markdown(card: Mapping[str, Any]) -> str:
    """Sections for the parts that there are."""
    parts = card["parts"]
    facts = card["facts"]
    head = [
        f"{card['size_bytes'] / 1e6:.1f} MB, weights `{facts['weights']}`, prompts {facts['inference']['prompts']}",
        "",
    ]
    sections = [lines for name, write in _WRITERS.items() if name in parts for lines in (write(parts[name]), [""])]
    return "\n".join([*head, *_scores(parts), "", *(line for lines in sections for line in lines)]).rstrip() + "\n"


def _scores(parts: Mapping[str, Any]) -> list[str]:
    """One table of all that has label maps, and the commands that give it."""
    sets = [("masks-val", parts["masks-val"])] if "masks-val" in parts else []
    sets += [(f"held-out {name}", found) for name, found in parts.get("held-out", {}).items() if _is_score(found)]
    if "unseen-words" in parts:
        sets += [(f"{title} words", parts["unseen-words"][title]) for title in ("seen", "unseen")]
    if not sets:
        return []
    return [
        "| photographs | words | mIoU | accuracy | random | majority class | largest class of each image |",
        "|---|---|---|---|---|---|---|",
        *(row for title, found in sets for row in _rows(title, found)),
        "",
        *(f"    {found['command']}" for title, found in sets if "words" not in title),
    ]


def _is_score(found: Any) -> bool:
    return isinstance(found, Mapping) and "command" in found


def _rows(title: str, found: Mapping[str, Any]) -> Iterator[str]:
    for kind, asked in (("all words", found["words"]), ("own words", "own")):
        if kind in found:
            scores = found[kind]
            cells = [_interval(scores["miou"]), _interval(scores["pixel_accuracy"])]
            cells += [_guess(scores["guesses"].get(name)) for name in GUESSES]
            count = scores.get("photographs", found["photographs"])
            yield f"| {title}, {count} | {asked} | {' | '.join(cells)} |"


def _interval(score: Sequence[float]) -> str:
    value, low, high = score
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _guess(scores: Mapping[str, float] | None) -> str:
    return "" if scores is None else f"{scores['miou']:.1f} / {scores['pixel_accuracy']:.1f}"


def _unseen(found: Mapping[str, Any]) -> list[str]:
    listed = ", ".join(f"{name}: {word}" for name, word in found["words"].items())
    return [f"Seen words are the classes' first names; unseen ones stand for the same classes: {listed}."]


def _photographs(found: Mapping[str, Any]) -> list[str]:
    rows = found["top-1"].items()
    return [
        f"| tiny-imagenet val, {found['classes']} classes | photographs | top-1 |",
        "|---|---|---|",
        *(f"| {title} | {row['photographs']:,} | {_interval(row['score'])} |" for title, row in rows),
        f"| *random, majority class* | | {100 / found['classes']:.1f} |",
    ]


def _words(found: Mapping[str, Any]) -> list[str]:
    lines = ["| words without photographs | how many | right concept first | in the first five |", "|---|---|---|---|"]
    for title in ("by hand", "by WordNet"):
        if title in found:
            scores = found[title]
            lines.append(f"| {title} | {scores['words']} | {_share(scores['first'])} | {_share(scores['in five'])} |")
            for kind in ("taught", "never taught"):
                if (count := scores.get(f"{kind}, words")) is not None and count < scores["words"]:
                    lines.append(f"| {title}, {kind} | {count} | {_share(scores[f'{kind}, first'])} | |")
    if "hypernyms" in found:
        scores = found["hypernyms"]
        lines.append(f"| hypernyms | {scores['words']} | {_share(scores['first'])} | |")
        lines += ["", f"Members among the concepts nearest to a hypernym: {_share(scores['precision'])} %"]
        lines[-1] += f" (chance {_share(scores['chance'])} %)."
    return lines


def _share(value: float) -> str:
    return f"{100 * value:.0f}" if value >= 0.1 else f"{100 * value:.1f}"


def _speed(found: Mapping[str, Any]) -> list[str]:
    times = f"{found['median ms']} ms (median; least {found['least ms']}; processor {found['median processor ms']})"
    what = f"A photograph of {found['photograph']} pixels with {found['words']} words, {found['precision']}, one thread"
    return [f"{what}: {times}."]


def _twelve(found: Mapping[str, Any]) -> list[str]:
    rows = [f"{100 * row['accuracy']:.0f}" for row in found["photographs"]]
    return [
        f"![photographs](twelve.jpg) {found['rule']} photographs, {found['words']} words; % right: {', '.join(rows)}."
    ]


def _demos(found: Mapping[str, Any]) -> list[str]:
    lines = ["![bundled photographs](demos.jpg)", ""]
    for name, areas in found["areas"].items():
        ranked = sorted(areas.items(), key=lambda item: -item[1])
        lines.append(f"* {name}: " + ", ".join(f"{word} {100 * area:.0f} %" for word, area in ranked))
    return lines


_WRITERS = {
    "unseen-words": _unseen,
    "photographs": _photographs,
    "words": _words,
    "speed": _speed,
    "twelve": _twelve,
    "demos": _demos,
}
