"""Puts a trained image tower and a trained text tower together, halved, as a folder that `maskclip` loads.

    python tools/training/join.py --vision runs/mini/model --words runs/words/model --out runs/joined

Both were taught the same places (`tools/training/places.py`), so they go together although they never met.
concepts.json tells the names of the concepts: "masks" those that were taught with masks, "names" those with
photographs and their
names alone, "trunk" those that only the trunk has seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open

from lexiseg import files
from lexiseg.data.mini.meanings import read_words
from lexiseg.encoders.clip import EMBEDDED, Clip
from lexiseg.encoders.weights import share

PLACES = Path(__file__).parent / "places.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vision", required=True)
    parser.add_argument("--words", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--places", type=Path, default=PLACES)
    parser.add_argument("--share", action="store_true", help=f"the tokenizer with {EMBEDDED}")
    options = parser.parse_args(arguments)
    join(options.vision, options.words, options.out)
    files.write_text(options.out / "concepts.json", json.dumps(kinds(options.places)) + "\n")
    saved = share(options.out, EMBEDDED) if options.share else 0
    print(f"{options.out}: {(options.out / 'model.safetensors').stat().st_size:,} bytes, {saved:,} shared")


def join(vision: str, words: str, out: Path) -> None:
    clip, text = Clip.load(vision), Clip.load(words)
    clip.text_model, clip.text_projection, clip.tokenizer = text.text_model, text.text_projection, text.tokenizer
    clip.config["text_config"] = text.config["text_config"]
    clip.half().save(out)


def kinds(places: Path) -> dict[str, list[tuple[str, ...]]]:
    """Names of the concepts, as the module's description tells."""
    names = read_words(places).concepts.names
    with safe_open(places, "pt") as file:
        facts = file.metadata()
    masked, photographed = int(facts["masked"]), int(facts["photographed"])
    return {"names": list(names), "masks": list(names[:masked]), "trunk": list(names[photographed:])}


if __name__ == "__main__":
    main()
