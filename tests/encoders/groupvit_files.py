"""Writes a model of transformers' as GroupViT's authors lay out their checkpoints (docs/papers/groupvit.md §5.6).

Module by module, so that it is another way to the names than the table in `encoders/groupvit_towers.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def authors_layout(model: Any) -> dict[str, Tensor]:
    """The tensors of a `GroupViTModel` by the authors' names."""
    found: dict[str, Tensor] = {"logit_scale": model.logit_scale, "multi_label_logit_scale": torch.tensor(2.0)}

    def put(name: str, module: nn.Module) -> None:
        found.update({f"{name}.{kind}": tensor for kind, tensor in module.state_dict().items()})

    vision = model.vision_model
    found["img_encoder.pos_embed"] = vision.embeddings.position_embeddings
    put("img_encoder.patch_embed.proj", vision.embeddings.patch_embeddings.projection)
    put("img_encoder.patch_embed.norm", vision.embeddings.layernorm)
    put("img_encoder.norm", vision.layernorm)
    for number, stage in enumerate(vision.encoder.stages):
        here = f"img_encoder.layers.{number}"
        for place, layer in enumerate(stage.layers):
            block = f"{here}.blocks.{place}"
            for kind in ("weight", "bias"):
                found[f"{block}.attn.qkv.{kind}"] = in_one(layer.self_attn, kind)
            put(f"{block}.attn.proj", layer.self_attn.out_proj)
            put(f"{block}.norm1", layer.layer_norm1)
            put(f"{block}.norm2", layer.layer_norm2)
            put(f"{block}.mlp", layer.mlp)
        if stage.group_token is not None:
            found[f"{here}.group_token"] = stage.group_token
            grouping(f"{here}.downsample", stage.downsample, put)
        if stage.group_projector is not None:
            put(f"{here}.group_projector", stage.group_projector)
    text = model.text_model
    put("text_encoder.token_embedding", text.embeddings.token_embedding)
    found["text_encoder.positional_embedding"] = text.embeddings.position_embedding.weight
    put("text_encoder.ln_final", text.final_layer_norm)
    for place, layer in enumerate(text.encoder.layers):
        block = f"text_encoder.transformer.resblocks.{place}"
        for kind in ("weight", "bias"):
            found[f"{block}.attn.in_proj_{kind}"] = in_one(layer.self_attn, kind)
        put(f"{block}.attn.out_proj", layer.self_attn.out_proj)
        put(f"{block}.ln_1", layer.layer_norm1)
        put(f"{block}.ln_2", layer.layer_norm2)
        put(f"{block}.mlp.c_fc", layer.mlp.fc1)
        put(f"{block}.mlp.c_proj", layer.mlp.fc2)
    for name, projector in (("img", model.visual_projection), ("text", model.text_projection)):
        put(f"{name}_projector.linear_hidden.0", projector[0])
        put(f"{name}_projector.linear_hidden.1", projector[1])
        put(f"{name}_projector.linear_out", projector[3])
        for convolution in ("linear_hidden.0", "linear_out"):  # over one place
            weight = f"{name}_projector.{convolution}.weight"
            found[weight] = found[weight][..., None]
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def in_one(attention: Any, kind: str) -> Tensor:
    """Query, key and value below each other."""
    return torch.cat([getattr(part, kind) for part in (attention.q_proj, attention.k_proj, attention.v_proj)])


def grouping(here: str, block: Any, put: Any) -> None:
    for name in ("norm_tokens", "mlp_inter", "norm_post_tokens", "norm_x", "norm_new_x", "mlp_channels"):
        put(f"{here}.{name}", getattr(block, name))
    for name in ("q_proj", "k_proj", "v_proj", "proj"):
        put(f"{here}.assign.{name}", getattr(block.assign, name))
    cross = block.pre_assign_attn
    for name in ("q_proj", "k_proj", "v_proj"):
        put(f"{here}.pre_assign_attn.attn.{name}", getattr(cross.attn, name))
    put(f"{here}.pre_assign_attn.attn.proj", cross.attn.out_proj)
    for name in ("norm2", "mlp", "norm_post"):
        put(f"{here}.pre_assign_attn.{name}", getattr(cross, name))
