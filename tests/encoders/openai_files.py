"""Files as OpenAI publishes them, with random weights: TorchScript archives of half-precision modules."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from lexiseg.encoders.clip_resnet import ClipResNet

SCALARS = {"input_resolution": 32, "context_length": 32, "vocab_size": 4093}


class _Scripted(nn.Module):
    """A module whose state dict has the given dotted names."""

    def forward(self, images: Tensor) -> Tensor:
        return images


class _Root(_Scripted):
    def forward(self, images: Tensor) -> Tensor:
        return images * self.logit_scale.exp()


def write_archive(tensors: dict[str, Tensor], path: Path) -> Path:
    """A real archive: the module is compiled, its tensors are fp16, and the three scalars are inside."""
    root = _Root()
    for name, tensor in tensors.items():
        _parent(root, name).register_parameter(name.rpartition(".")[2], nn.Parameter(tensor.half(), False))
    for name, value in SCALARS.items():
        root.register_buffer(name, torch.tensor(value))
    root.half_precision, root.layers = True, [3, 4]  # attributes that are no tensors, as compiled modules have
    torch.jit.script(root).save(path)
    return path


def half_precise(model: nn.Module) -> nn.Module:
    """Random numbers everywhere, biases and norms too, that survive a file in half precision."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator) * 0.1
            positive = "var" in name or (("norm" in name or "bn" in name) and name.endswith("weight"))
            tensor.copy_(((noise.abs() + 0.5) if positive else tensor + noise).half())
    return model


def vit_tensors(model: CLIPModel) -> dict[str, Tensor]:
    """The weights of a transformers CLIP by OpenAI's names, written out by hand from the two layouts."""
    theirs = model.state_dict()
    ours = {
        "visual.class_embedding": theirs["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": theirs["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": theirs["visual_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        ours[f"visual.ln_pre.{kind}"] = theirs[f"vision_model.pre_layrnorm.{kind}"]
        ours[f"visual.ln_post.{kind}"] = theirs[f"vision_model.post_layernorm.{kind}"]
    layers = model.config.vision_config.num_hidden_layers
    return ours | _blocks(theirs, "vision_model.", "visual.", layers) | text_tensors(model)


def text_tensors(model: CLIPModel) -> dict[str, Tensor]:
    theirs = model.state_dict()
    ours = {
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": theirs["text_model.embeddings.position_embedding.weight"],
        "text_projection": theirs["text_projection.weight"].T,
        "logit_scale": theirs["logit_scale"],
    }
    for kind in ("weight", "bias"):
        ours[f"ln_final.{kind}"] = theirs[f"text_model.final_layer_norm.{kind}"]
    return ours | _blocks(theirs, "text_model.", "", model.config.text_config.num_hidden_layers)


def resnet_tensors(trunk: ClipResNet, model: CLIPModel) -> dict[str, Tensor]:
    """A ResNet, whose names are OpenAI's already, and the text tower of a transformers CLIP."""
    images = {f"visual.{name}": t for name, t in trunk.state_dict().items() if "num_batches_tracked" not in name}
    counters = {f"visual.{n}": t for n, t in trunk.state_dict().items() if "num_batches_tracked" in n}
    return images | counters | text_tensors(model)


def _blocks(theirs: dict[str, Tensor], prefix: str, out: str, layers: int) -> dict[str, Tensor]:
    ours = {}
    for layer in range(layers):
        block, name = f"{prefix}encoder.layers.{layer}.", f"{out}transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [theirs[f"{block}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            ours[f"{name}attn.in_proj_{kind}"] = torch.cat(parts)
            ours[f"{name}attn.out_proj.{kind}"] = theirs[f"{block}self_attn.out_proj.{kind}"]
            ours[f"{name}ln_1.{kind}"] = theirs[f"{block}layer_norm1.{kind}"]
            ours[f"{name}ln_2.{kind}"] = theirs[f"{block}layer_norm2.{kind}"]
            ours[f"{name}mlp.c_fc.{kind}"] = theirs[f"{block}mlp.fc1.{kind}"]
            ours[f"{name}mlp.c_proj.{kind}"] = theirs[f"{block}mlp.fc2.{kind}"]
    return ours


def _parent(root: nn.Module, name: str) -> nn.Module:
    module = root
    for part in name.split(".")[:-1]:
        if part not in module._modules:
            module.add_module(part, _Scripted())
        module = module._modules[part]
    return module
