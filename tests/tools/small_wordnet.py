"""A WordNet of fourteen synsets."""

from __future__ import annotations

from pathlib import Path

# key, area, words, kinds; in the order of the file
SYNSETS = [
    ("001", "05", ["animal"], []),
    ("002", "05", ["feline"], ["001"]),
    ("003", "05", ["cat", "true cat"], ["002"]),
    ("004", "05", ["lion"], ["002"]),
    ("005", "05", ["tiger"], ["002"]),
    ("006", "18", ["person"], []),
    ("007", "18", ["tiger"], ["006"]),
    ("008", "06", ["truck"], []),
    ("009", "06", ["lorry"], ["008"]),
    ("010", "06", ["turtle", "pullover"], []),
    ("011", "05", ["turtle"], ["001"]),
    ("012", "05", ["terrapin"], ["011"]),
    ("013", "04", ["pettiness"], ["001"]),
    ("014", "06", ["truce"], []),
]
SENSES = {"tiger": ["007", "005"], "turtle": ["010", "011"]}


def write_wordnet(folder: Path) -> Path:
    """Returns the folder, with `data.noun` and `index.noun` in WordNet's form."""
    lines = ["  1 a licence"]
    senses: dict[str, list[str]] = {}
    for key, area, words, kinds in SYNSETS:
        cells = [key, area, "n", f"{len(words):02x}", *(f"{word.replace(' ', '_')} 0" for word in words)]
        cells += [f"{len(kinds) + 1:03}", *(f"@ {kind} n 0000" for kind in kinds), "~ 999 n 0000"]
        lines.append(" ".join(cells) + " | a gloss, @ 001 n")
        for word in words:
            senses.setdefault(word, []).append(key)
    (folder / "data.noun").write_text("\n".join(lines) + "\n", encoding="latin-1")
    rows = ["  1 a licence"]
    for word, own in (senses | SENSES).items():
        rows.append(f"{word.replace(' ', '_')} n {len(own)} 1 @ {len(own)} 0 {' '.join(own)}")
    (folder / "index.noun").write_text("\n".join(rows) + "\n", encoding="latin-1")
    return folder
