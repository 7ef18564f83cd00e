"""Translates the tensor names of released MaskFormers.

They are detectron2's, and those of ZSSeg's authors (zsseg.md §4.2).
"""

from __future__ import annotations

import re

from lexiseg.encoders.weights import Origin

__all__ = ["PREFIXES", "of_detectron2", "of_zsseg"]

HEAD = "sem_seg_head.predictor."
PIXELS = "sem_seg_head.pixel_decoder."

# (ours, detectron2's), the first that fits the whole name; stages and layers are counted below
_PLAIN = (
    (r"pixels\.mask_projection\.(\w+)", PIXELS + r"mask_features.\1"),
    (r"pixels\.fpn\.stem\.0\.(\w+)", PIXELS + r"layer_4.\1"),
    (r"pixels\.fpn\.stem\.1\.(\w+)", PIXELS + r"layer_4.norm.\1"),
    (r"decoder\.queries_embedder\.weight", HEAD + "query_embed.weight"),
    (r"decoder\.input_projection\.(\w+)", HEAD + r"input_proj.\1"),
    (r"decoder\.decoder\.layernorm\.(\w+)", HEAD + r"transformer.decoder.norm.\1"),
    (r"mask_head\.(\d)\.0\.(\w+)", HEAD + r"mask_embed.layers.\1.\2"),
    (r"backbone\.conv1\.(\w+)", r"backbone.stem.conv1.\1"),
    (r"backbone\.bn1\.(\w+)", r"backbone.stem.conv1.norm.\1"),
)
_LAYER = r"decoder\.decoder\.layers\.(\d+)\."
_PARTS = {
    "self_attn_layer_norm": "norm1",
    "encoder_attn_layer_norm": "norm2",
    "final_layer_norm": "norm3",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
    "self_attn.o_proj": "self_attn.out_proj",
    "encoder_attn.o_proj": "multihead_attn.out_proj",
}
_ATTENTION = {"self_attn": "self_attn", "encoder_attn": "multihead_attn"}


def of_detectron2(name: str) -> Origin:
    """Where a tensor of `MaskFormerNetwork` on a ResNet lies in a checkpoint of detectron2."""
    for pattern, theirs in _PLAIN:
        if found := re.fullmatch(pattern, name):
            return Origin(found.expand(theirs))
    if found := re.fullmatch(r"pixels\.fpn\.layers\.(\d)\.(proj|block)\.(\d)\.(\w+)", name):
        kind = "adapter" if found[2] == "proj" else "layer"
        norm = "norm." if found[3] == "1" else ""
        return Origin(f"{PIXELS}{kind}_{3 - int(found[1])}.{norm}{found[4]}")  # counted from the coarsest map
    if found := re.fullmatch(_LAYER + r"(self_attn|encoder_attn)\.([qkv])_proj\.(weight|bias)", name):
        attention = f"{HEAD}transformer.decoder.layers.{found[1]}.{_ATTENTION[found[2]]}"
        return Origin(f"{attention}.in_proj_{found[4]}", third="qkv".index(found[3]))
    if found := re.fullmatch(_LAYER + r"(.*)\.(weight|bias)", name):
        return Origin(f"{HEAD}transformer.decoder.layers.{found[1]}.{_PARTS[found[2]]}.{found[3]}")
    return Origin(_of_resnet(name))


def _of_resnet(name: str) -> str:
    """backbone.layer1.0.conv2.weight is backbone.res2.0.conv2.weight there, its norm backbone.res2.0.conv2.norm."""
    if found := re.fullmatch(r"backbone\.stem\.(\d)\.(\w+)", name):  # convolution, norm and ReLU of three each
        convolution, norm = divmod(int(found[1]), 3)
        return f"backbone.stem.conv{convolution + 1}.{'norm.' * norm}{found[2]}"
    if found := re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(.*)", name):
        rest = re.sub(r"^bn(\d)\.", r"conv\1.norm.", found[3])
        rest = rest.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
        return f"backbone.res{int(found[1]) + 1}.{found[2]}.{rest}"
    return name


# ZSSeg's learned vectors: of the region branch where it has some of its own, then of both branches
PREFIXES = ("region_clip_adapter.prompt_learner.prefix_prompt", "clip_adapter.prompt_learner.prefix_prompt")


def of_zsseg(name: str) -> Origin:
    """Where a tensor of `methods.zsseg.ZsSeg` lies in its authors' checkpoint; names of its CLIP stay."""
    if name == "no_object":
        return Origin("clip_adapter.non_object_embedding")
    if found := re.fullmatch(r"head\.([02])\.(\w+)", name):  # with a ReLU between
        return Origin(f"{HEAD}class_embed.layers.{int(found[1]) // 2}.{found[2]}")
    if name.startswith("network.") and not name.endswith(".num_batches_tracked"):
        return of_detectron2(name.removeprefix("network."))
    return Origin(name)
