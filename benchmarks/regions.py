"""ZSSeg's cost: a hundred crops a photograph through CLIP, beside the tower's own rate and a plain transformers script.

    python benchmarks/regions.py                     100 masks at 640 x 853, ViT-B/16 (an hour of two cores)
    python benchmarks/regions.py --masks 20          a fifth of it

Crops a second: `embed_image` with masks that are given, upsampling, boxes, crops, fills and resizing included, beside
`image_features` of as many squares that are ready, in the same batches; bar: 0.9 of the tower's own rate.
Whole job: a photograph in memory to a label map of 171 classes, with MaskFormer on a ResNet-50. The other way is what
one writes with transformers alone: its MaskFormer, each mask cropped by Pillow, `CLIPImageProcessor`, `CLIPModel` on
words and crops together, the same formulas, a sum of all classes at full size, argmax; in fp32. Bar: 3 times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import script
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.tokenizer import pad
from lexiseg.inference import devices
from lexiseg.inference.predictor import Predictor
from lexiseg.layers import pixels
from lexiseg.methods import zsseg
from lexiseg.methods.zsseg import Config, ZsSeg
from lexiseg.networks.maskformer import MaskFormerNetwork, MaskFormerShape
from lexiseg.proposals._proposals import CERTAIN, Proposals
from lexiseg.segmenter import Inference
from lexiseg.speed import bench, measuring
from lexiseg.vocabulary import Vocabulary

RATE, JOB = 0.9, 3.0  # the bars
VIT_B16 = ClipShape(512, 224, 768, 12, 16, 512, 12, context=77, vocabulary=4093)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--height", type=int, default=640, help="pixels")
    parser.add_argument("--width", type=int, default=853, help="pixels")
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--classes", type=int, default=171)
    parser.add_argument("--repeats", type=int, default=3)
    options = script.parse(parser, arguments)
    shape, network = VIT_B16, MaskFormerShape("rn50", queries=options.masks)
    if options.quick:
        shape, network = TINY_VIT, zsseg.VARIANTS["tiny"].config.masks
        options.height, options.width, options.masks, options.classes = 48, 64, network.queries, 5
    picture = bench.photograph(max(options.height, options.width))[: options.height, : options.width]
    rows: list[dict[str, Any]] = []
    script.header("precision", "crops/s", "squares/s", "share", "bar")
    for dtype in dict.fromkeys((torch.float32, devices.dtype("auto", torch.device("cpu")))):
        ways = rates(model(shape, None).to(dtype), picture, options)
        ours, tower = (options.masks / ways[name]["median"] * 1e3 for name in ("crops", "squares"))
        script.row(devices.name(dtype), f"{ours:.2f}", f"{tower:.2f}", f"{ours / tower:.2f}", f"≥ {RATE}")
        rows.append({"what": "crops", "dtype": devices.name(dtype), "masks": options.masks, "ms": ways})
        script.write(options, "crops through CLIP, and the whole job", rows)
    print()
    segmenter = model(shape, network)
    words = bench.words(options.classes)
    inference = Inference(blend="logits", prompts="single")
    plain = Plain(segmenter, words)
    lexiseg = Predictor(model(shape, network), inference, name="zsseg")
    ways = measuring.race(
        {
            "lexiseg": lambda: lexiseg.segment(picture, words, scores=False),
            "transformers": lambda: plain.label(picture),
        },
        repeats=options.repeats,
    )
    script.header("classes", "lexiseg, ms", "transformers, ms", "times", "bar")
    times = script.ratio(ways["transformers"], ways["lexiseg"])
    script.row(options.classes, *map(script.time, ways.values()), times, f"≥ {JOB}")
    rows.append({"what": "job", "classes": options.classes, "masks": options.masks, "ms": ways})
    script.write(options, "crops through CLIP, and the whole job", rows)


def model(shape: ClipShape, network: MaskFormerShape | None) -> ZsSeg:
    """Random weights."""
    torch.manual_seed(0)
    config = Config(proposer="none") if network is None else Config(masks=network)
    made = None if network is None else MaskFormerNetwork(network)
    return ZsSeg(Clip.random(shape), config, network=made).eval().requires_grad_(False)


def rates(segmenter: ZsSeg, picture: npt.NDArray[np.uint8], options: Any) -> dict[str, measuring.Summary]:
    """Milliseconds of all crops, and of as many squares that are ready."""
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
    proposals = ellipses(options.masks, (options.height, options.width))
    side = segmenter.clip.image_size
    squares = torch.randn(options.masks, 3, side, side, dtype=pixels.dtype_of(segmenter.clip.vision))
    batches = torch.split(squares, zsseg.CROPS_AT_ONCE)
    with torch.inference_mode():
        return measuring.race(
            {
                "crops": lambda: segmenter.embed_image(images, proposals),
                "squares": lambda: [segmenter.clip.image_features(batch) for batch in batches],
            },
            repeats=options.repeats,
        )


def ellipses(count: int, size: tuple[int, int]) -> Proposals:
    """Masks of all sizes at a quarter of the picture's resolution."""
    random = np.random.default_rng(0)
    height, width = (-(-side // 32) * 8 for side in size)
    rows, columns = np.mgrid[:height, :width]
    masks = []
    for _ in range(count):
        y, x = random.uniform(0.1, 0.9, 2) * (height, width)
        tall, wide = random.uniform(0.05, 0.4, 2) * (height, width)
        masks.append(1 - ((rows - y) / tall) ** 2 - ((columns - x) / wide) ** 2)
    logits = torch.tensor(np.stack(masks), dtype=torch.float32).clamp(-CERTAIN, CERTAIN)[None]
    return Proposals(logits, torch.ones(1, count, dtype=torch.bool), (4 * height, 4 * width))


class Plain:
    """ZSSeg as one writes it with transformers' CLIP and Pillow, around the same MaskFormer."""

    def __init__(self, segmenter: ZsSeg, words: Vocabulary) -> None:
        self.segmenter, self.words = segmenter, words
        self.clip = CLIPModel(CLIPConfig.from_dict(segmenter.clip.config)).eval()
        side = segmenter.clip.image_size
        square = {"height": side, "width": side}
        self.processor = CLIPImageProcessorPil(size=square, crop_size=square, do_center_crop=False)
        self.sentences = [Prompts.open("single")(word)[0] for word in words.queries]

    @torch.inference_mode()
    def label(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        model, size = self.segmenter, picture.shape[:2]
        assert model.network is not None, "it has one"
        images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
        found = model.network(model.normalise(images))
        full = F.interpolate(found.masks[-1], found.covers, mode="bilinear")[0, :, : size[0], : size[1]]
        ids = pad(model.clip.tokenizer(self.sentences))
        crops, places = self._crops(picture, full > 0)
        regions = torch.ones(len(full), len(self.sentences))
        if crops:
            given = self.processor(images=crops, return_tensors="pt")["pixel_values"]
            regions[places] = self.clip(input_ids=ids, pixel_values=given).logits_per_image.softmax(-1)
        classifier = model.query_words(self.words, "single")
        own = model.query_logits(model.query_vectors(found.queries[-1]), classifier)[0].softmax(-1)[:, :-1]
        scores = own**0.3 * regions**0.7
        return torch.einsum("nhw,nc->chw", full.sigmoid(), scores).argmax(0).numpy()

    def _crops(self, picture: npt.NDArray[np.uint8], masks: Tensor) -> tuple[list[Image.Image], list[int]]:
        crops, places = [], []
        for number, mask in enumerate(masks.numpy()):
            rows, columns = np.nonzero(mask)
            if len(rows):
                box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
                filled = np.where(mask[box][..., None], picture[box], np.uint8(118))
                crops.append(Image.fromarray(filled.astype(np.uint8)))
                places.append(number)
        return crops, places


if __name__ == "__main__":
    main()
