"""A page for a hosted Space, in gradio: upload it as app.py, with "lexiseg" and "gradio" in requirements.txt.

python examples/gradio_space.py

For a server of your own use `lexiseg serve`: gradio keeps uploads on disk and has routes that nobody needs here, which
the host of a Space isolates.
"""

from __future__ import annotations

from typing import Any

import lexiseg

WORDS = "person, dog, grass, sky"


def label(model: lexiseg.Predictor, photograph: Any, words: str) -> tuple[Any, str]:
    """The overlay, and what is to be known about the words."""
    result = model.segment(photograph, words)
    return result.overlay(), "\n".join(result.warnings)


def main() -> None:
    import gradio

    model = lexiseg.load("maskclip/mini", text_cache=False)
    inputs = [gradio.Image(type="numpy", label="Photograph"), gradio.Textbox(WORDS, label="Words")]
    outputs = [gradio.Image(format="png", label="Label map"), gradio.Textbox(label="Notes")]
    gradio.Interface(lambda *given: label(model, *given), inputs, outputs, title="lexiseg").launch()


if __name__ == "__main__":
    main()
