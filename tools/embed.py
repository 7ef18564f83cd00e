"""Makes a trained model one of the package's own: halved, and without what the embedded CLIP holds already.

    python tools/embed.py runs/simseg-from_clip/model simseg-mini

The folder that is written, src/lexiseg/assets/NAME, still wants a model card (README.md), a variant in the method's
VARIANTS that names "asset:NAME", and, if the model knows the embedded CLIP's concepts, a copy of its concepts.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from lexiseg import catalog
from lexiseg.encoders.clip import EMBEDDED
from lexiseg.encoders.weights import share

SHELF = Path(__file__).parents[1] / "src" / "lexiseg" / "assets"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder that lexiseg train wrote")
    parser.add_argument("name", help="of the folder to write")
    parser.add_argument("--shelf", type=Path, default=SHELF, help="where the embedded models lie")
    options = parser.parse_args(arguments)
    folder = options.shelf / options.name
    segmenter, _ = catalog.load(str(options.model))
    method = json.loads((options.model / catalog.DESCRIPTION).read_text())["method"]
    catalog.get("methods", method).save(segmenter.half(), folder)  # type: ignore[attr-defined]
    saved = share(folder, EMBEDDED)
    print(f"{folder}: {(folder / 'model.safetensors').stat().st_size:,} bytes, {saved:,} shared with {EMBEDDED}")


if __name__ == "__main__":
    main()
