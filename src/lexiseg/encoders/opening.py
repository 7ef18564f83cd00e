"""Opens any two towers that give their tokens.

Their weights may be anywhere.
"""

from __future__ import annotations

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.token_towers import ClipTokens, TokenTowers
from lexiseg.encoders.torchscript import is_archive
from lexiseg.encoders.vit_bert import MODEL_TYPE, VitBert
from lexiseg.encoders.weights import find, read_json
from lexiseg.weights import AnyWeights, Weights

__all__ = ["open_towers"]


def open_towers(weights: AnyWeights, *, tokenizer: str | None = None, allow_pickle: bool = False) -> TokenTowers:
    """A CLIP with a ViT, or a ViT with BERT, in eval mode, on the CPU.

    weights: as `Weights.of` reads it: a folder that lexiseg or (for a CLIP) transformers saved, one of OpenAI's .pt
        files, or a checkpoint of SimSeg's authors.
    tokenizer, allow_pickle: as in `Clip.load` and `VitBert.load`.

    Raises `WeightsError` for weights that are missing, refused or do not fit.
    """
    wanted = Weights.of(weights)
    source = find(wanted, allow_pickle=allow_pickle)
    if source.name == "model.safetensors":  # its config and tokenizer lie beside it
        source = source.parent
    if source.is_dir():
        vit_bert = read_json(source / "config.json").get("model_type") == MODEL_TYPE
    else:
        vit_bert = not is_archive(source)  # as OpenAI's files are
    towers: VitBert | Clip = (VitBert if vit_bert else Clip).load(
        source, tokenizer=tokenizer, allow_pickle=allow_pickle
    )
    wanted.check(towers.shape)
    return ClipTokens(towers) if isinstance(towers, Clip) else towers
