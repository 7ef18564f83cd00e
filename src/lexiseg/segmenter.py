"""States what a method is: words, images, and their comparison.

The one idea: words become a classifier, images become vectors that sit somewhere, compare; words come last.

    words  -- embed_text --->  TextClassifier ----+
    images -- embed_image -->  an embedding ------+-- classify -->  DenseLogits or MaskScores

A method is a class that derives from `Segmenter`, and `Traits` that say what the machinery must know of it. Nothing it
keeps between calls may depend on the words, so one image can be embedded once and asked about many vocabularies.

Letters: B images, C classes, Q words, D embedding, N masks, H W pixels, h w grid.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import SettingError
from lexiseg.settings import require
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

if TYPE_CHECKING:
    from lexiseg.encoders.prompts import Prompts
    from lexiseg.encoders.text_cache import TextCache

__all__ = [
    "DenseEmbedding",
    "DenseLogits",
    "Embedding",
    "Inference",
    "MaskScores",
    "Segmenter",
    "Teacher",
    "TextClassifier",
    "Traits",
    "Variant",
    "at_least_float32",
    "one_input_size",
]


@dataclass(frozen=True)
class Traits:
    """What the machinery must know of a method. A method's file tells them of a `Config`, before weights are loaded.

    whole_image: `classify` must see all cells of an image at once, since they influence each other.
    background: "own" where `classify` adds a background channel by a rule of the method's own.
    reads_seen: `embed_text` reads `Vocabulary.seen`.
    regions: the embedding has masks without words, and offers them as `proposals`, a `Proposals` of `proposals/`.
    accepts_masks: `embed_image(images, proposals=None)` takes masks from outside in place of the method's own: any
        `Proposals` of the same images.
    classify_settings: fields of the Config that `embed_text` and `classify` alone read, at every call: a sweep over
        them embeds each photograph once.
    """

    whole_image: bool = False
    background: Literal["none", "own"] = "none"
    reads_seen: bool = False
    regions: bool = False
    accepts_masks: bool = False
    classify_settings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Embedding:
    """What `embed_image` returns: a frozen dataclass that derives from this and names its fields.

    grid_fields: fields [B, *, h, w]. They can be cut into rows, and those of overlapping windows can be averaged into
        one embedding of the whole image. An embedding without any is classified window by window.
    per_image: further tensors whose first dimension is B. Where images have different numbers of something (crops,
        masks), all are padded to the largest, and a boolean field says which are valid.

    Fields in neither are shared by all images of the batch.
    """

    grid_fields: ClassVar[tuple[str, ...]] = ()
    per_image: ClassVar[tuple[str, ...]] = ()


Seen = TypeVar("Seen", bound=Embedding)  # what a method makes of images
Asked = TypeVar("Asked")  # what it makes of words


@runtime_checkable
class Segmenter(Protocol[Seen, Asked]):
    """All that a new method implements. Those in `methods/` are `torch.nn.Module`s too.

    config: the method's frozen settings.

    A predictor calls the three steps; so can you, to look at what lies between them:

    >>> import lexiseg, torch
    >>> from skimage import data
    >>> model = lexiseg.load("maskclip/mini", dtype="fp32")
    >>> isinstance(model.segmenter, lexiseg.Segmenter)
    True
    >>> classifier = model.segmenter.embed_text(lexiseg.Vocabulary("cat, blanket, wall"), model.prompts)
    >>> images = torch.from_numpy(data.chelsea()[:192, :256]).permute(2, 0, 1)[None]  # uint8 [1, 3, H, W]
    >>> with torch.inference_mode():
    ...     result = model.segmenter.classify(model.segmenter.embed_image(images), classifier)
    >>> result.channels, result.grid == (192 // model.segmenter.patch, 256 // model.segmenter.patch)
    (3, True)
    """

    config: Any

    @property
    def traits(self) -> Traits:
        """What the method's file tells of `config`."""
        ...

    @property
    def patch(self) -> int:
        """Pixels of the input per cell of the embedding's grid."""
        ...

    @property
    def multiple(self) -> int:
        """Pixels; windows begin at multiples of it. `patch`, unless a tower has larger cells than the embedding."""
        return self.patch

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> Asked:
        """The words as a classifier: a `TextClassifier`, or a frozen value of the method's own that holds several.

        prompts: what each word is put into.
        cache: where to look for words' vectors first, and to keep what was new.
        """
        ...

    def embed_image(self, images: Tensor) -> Seen:
        """RGB uint8 [B, 3, H, W] of any size as a frozen value that only `finish` and `classify` read.

        Each network of a method normalises the bytes with its own statistics, and computes in the dtype of its own
        weights (`layers.pixels.normalise` and `dtype_of`): to get another precision, cast the weights.

        A method with the trait `accepts_masks` has a second argument, `proposals: Proposals | None = None`.
        """
        ...

    def finish(self, embedding: Seen) -> Seen:
        """Mixes information over the whole picture: called once, after windows are joined and before any words."""
        return embedding

    def classify(self, embedding: Seen, classifier: Asked) -> DenseLogits | MaskScores:
        """Compares the two. One channel per class of the vocabulary, then one for the background where there is one."""
        ...


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """The only thing that text becomes.

    weight: unit vectors [Q, D], one for each word.
    class_of: the channel each word votes for [Q]; `Vocabulary.class_of`.
    scale: cosines times this are logits (100 in CLIP).
    channels: C, or C + 1 with background words.
    background: whether the last channel is the background.

    >>> import lexiseg
    >>> model = lexiseg.load("maskclip/mini")
    >>> classifier = model.embed_text(lexiseg.Vocabulary("cat|kitty, blanket", background="wall"))
    >>> classifier.class_of.tolist()  # the two words of the first class, the second, the background
    [0, 0, 1, 2]
    >>> classifier.channels, classifier.background
    (3, True)
    >>> classifier.save("words.safetensors")
    >>> lexiseg.TextClassifier.load("words.safetensors").weight.shape == classifier.weight.shape
    True
    """

    weight: Tensor
    class_of: Tensor
    scale: float
    channels: int
    background: bool = False

    @classmethod
    def of(cls, vocabulary: Vocabulary, weight: Tensor, scale: float) -> TextClassifier:
        """`weight` [Q, D] in the order of `vocabulary.queries`."""
        class_of = torch.tensor(vocabulary.class_of, dtype=torch.long, device=weight.device)
        assert len(weight) == len(class_of), "one row per word"
        return cls(weight, class_of, float(scale), vocabulary.channels, bool(vocabulary.background))

    def pool(self, word_logits: Tensor, dim: int = 1) -> Tensor:
        """The best word of each class: [B, Q, ...] -> [B, C, ...] along `dim`."""
        if len(self.class_of) == self.channels:  # one word each, in order
            return word_logits
        shape, spread = list(word_logits.shape), [1] * word_logits.ndim
        shape[dim], spread[dim] = self.channels, -1
        index = self.class_of.to(word_logits.device).view(spread)
        empty = word_logits.new_full(shape, float("-inf"))
        return empty.scatter_reduce(dim, index.expand_as(word_logits), word_logits, reduce="amax")

    def logits(self, features: Tensor, *, cosine: bool = True) -> Tensor:
        """What the words say of every place: features [B, D, h, w] -> [B, C, h, w], in float32 or better.

        Scaled products with the best word of each class; `cosine` makes the features unit vectors before.
        """
        features = at_least_float32(features)
        features = functional.normalize(features, dim=1) if cosine else features
        weight = self.weight.to(features) * self.scale  # of few words, not of many places
        return self.pool(torch.einsum("bdhw,qd->bqhw", features, weight))

    def cosines(self, features: Tensor) -> Tensor:
        """Of every place with every word: [B, D, h, w] -> [B, Q, h, w], in float32 or better."""
        features = functional.normalize(at_least_float32(features), dim=1)
        return torch.einsum("bdhw,qd->bqhw", features, self.weight.to(features))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TextClassifier:
        return replace(self, weight=self.weight.to(device, dtype), class_of=self.class_of.to(device))

    def save(self, path: str | os.PathLike[str]) -> None:
        """One safetensors file, which `load` reads back."""
        from safetensors.torch import save

        from lexiseg.files import write_bytes

        facts = {
            "scale": repr(self.scale),
            "channels": str(self.channels),
            "background": str(int(self.background)),
        }
        tensors = {"weight": self.weight.contiguous().cpu(), "class_of": self.class_of.contiguous().cpu()}
        write_bytes(path, save(tensors, metadata=facts))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextClassifier:
        from safetensors import safe_open

        from lexiseg.errors import WeightsError

        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata()
                return cls(
                    file.get_tensor("weight"),
                    file.get_tensor("class_of"),
                    float(facts["scale"]),
                    int(facts["channels"]),
                    bool(int(facts["background"])),
                )
        except Exception as error:
            raise WeightsError(
                f"{path} is not a saved text classifier: {error}; make it with TextClassifier.save"
            ) from error


@dataclass(frozen=True, eq=False)
class DenseEmbedding(Embedding):
    """The usual embedding: one vector at every place of a grid.

    features: [B, D, h, w].

    A method with more fields (keys, say) derives from this and lists them too.
    """

    grid_fields: ClassVar[tuple[str, ...]] = ("features",)

    features: Tensor

    @property
    def grid(self) -> tuple[int, int]:
        return self.features.shape[-2], self.features.shape[-1]


@dataclass(frozen=True, eq=False)
class DenseLogits:
    """A score for every class at every place of a grid; of any float type, the decoder works in float32.

    logits: [B, C, h, w]; their softmax over C is the class posterior there.
    background: the last channel is the background (from background words, or filled in by the method's own rule).
    covers: pixels (height, width) of the input that the grid spans, from the top left corner; None is all of them.
        A network that pads 640 x 853 to multiples of 32 says (640, 864). A band of rows says what the band spans.

    >>> import lexiseg, torch
    >>> logits = torch.zeros(1, 2, 3, 4)  # one image, two classes, a grid of 3 x 4 places
    >>> logits[:, 1, :, 2:] = 5.0  # the second class on the right
    >>> result = lexiseg.DenseLogits(logits)
    >>> result.channels, result.grid
    (2, (3, 4))
    >>> result.logits.argmax(dim=1)[0, 0].tolist()
    [0, 0, 1, 1]
    """

    logits: Tensor
    background: bool = False
    covers: tuple[int, int] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        return self.logits.shape[-2], self.logits.shape[-1]

    @property
    def channels(self) -> int:
        return self.logits.shape[1]

    def float(self) -> DenseLogits:
        return replace(self, logits=self.logits.float())


@dataclass(frozen=True, eq=False)
class MaskScores:
    """N masks and what each one shows; of any float type, the decoder works in float32.

    masks: [B, N, h, w], logits or weights.
    scores: [B, N, C], a probability or weight per mask and class.
    background, covers: as in `DenseLogits`.
    weights: "sigmoid" for masks that are logits; "linear" for masks that are weights already, 0 or more.

    The decoder upsamples the masks first, as the papers do. A class then has the sum over N of weight * score, and its
    posterior is that over the sum of the weights. Where no mask has any weight, the first class wins with posterior 0.

    >>> import lexiseg, torch
    >>> masks = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]])  # two masks on a grid of 1 x 3 places
    >>> scores = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])  # each mask's probability of two classes
    >>> result = lexiseg.MaskScores(masks, scores, weights="linear")
    >>> result.channels, result.grid
    (2, (1, 3))
    >>> sums = torch.einsum("bnhw,bnc->bchw", result.weigh(result.masks), result.scores)
    >>> sums.argmax(dim=1).tolist()  # the class of each place
    [[[0, 0, 1]]]
    """

    masks: Tensor
    scores: Tensor
    background: bool = False
    weights: Literal["sigmoid", "linear"] = "sigmoid"
    covers: tuple[int, int] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        return self.masks.shape[-2], self.masks.shape[-1]

    @property
    def channels(self) -> int:
        return self.scores.shape[-1]

    def float(self) -> MaskScores:
        return replace(self, masks=self.masks.float(), scores=self.scores.float())

    def weigh(self, masks: Tensor) -> Tensor:
        """The weights of these masks, at any size that they were brought to."""
        return masks.sigmoid() if self.weights == "sigmoid" else masks


LARGEST_SCALE = 8


@dataclass(frozen=True)
class Inference:
    """What happens to a photograph before `embed_image` and to the logits after `classify`. Data, cited per method.

    The size of the network's input: `size` if given, whatever the shape; else the image is scaled until its short side
    is `short_side`, or less if its long side would pass `long_side`; with `long_side` alone the long side gets it;
    with none of them it keeps its size. Both sides are then rounded to a multiple of `multiple`.

    With several `scales`, or `flip`, the photograph is looked at as often, and what `classify` makes of it is brought
    to the photograph's size and averaged there: logits, or the sums of masks. Windows are so many pixels at each scale.

    Raises `SettingError` for values that make no sense.

    >>> import lexiseg
    >>> lexiseg.load("maskclip/mini", long_side=256, background_threshold=0.5).inference.long_side
    256
    >>> windows = lexiseg.Inference(short_side=448, window=448, stride=224)
    >>> windows.size is None, windows.blend
    (True, 'features')
    """

    size: tuple[int, int] | None = None  # (height, width) in pixels
    short_side: int | None = None  # pixels
    long_side: int | None = None  # pixels
    multiple: int = 1  # pixels
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    scales: tuple[float, ...] = (1.0,)  # of the network's input, times its size
    flip: bool = False  # look at each of them mirrored, too
    window: int | None = None  # pixels of the resized image; None: the whole image at once
    stride: int | None = None  # pixels, at most a window; None: half a window
    # features: windows become one embedding; logits: each is classified, then averaged
    blend: Literal["features", "logits"] = "features"
    prompts: str = "imagenet80"  # a name of encoders/prompts.py, a sentence with {}, or a file
    background_threshold: float | None = None  # posterior, 0-1: pixels whose winner is below it stay unlabelled
    refine: str | None = None  # a name of refine/

    def __post_init__(self) -> None:
        for name in ("short_side", "long_side", "multiple", "window", "stride"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "1 or more (pixels)", value)
        scales = f"one or more numbers above 0, at most {LARGEST_SCALE}"
        require(
            bool(self.scales) and all(0 < each <= LARGEST_SCALE for each in self.scales), "scales", scales, self.scales
        )
        require(self.size is None or min(self.size) >= 1, "size", "two numbers of 1 or more (pixels)", self.size)
        if self.window is not None and self.stride is not None:
            allowed = f"at most the window ({self.window}), since pixels between windows would never be seen"
            require(self.stride <= self.window, "stride", allowed, self.stride)
        for name, choices in (("resample", ("bilinear", "bicubic")), ("blend", ("features", "logits"))):
            require(getattr(self, name) in choices, name, " or ".join(choices), getattr(self, name))
        threshold = self.background_threshold
        require(threshold is None or 0 <= threshold <= 1, "background_threshold", "a posterior, 0 to 1", threshold)


@dataclass(frozen=True, eq=False)
class Teacher:
    """What a student learns from: a frozen segmenter in eval mode, how it is used, and its prompts."""

    segmenter: Segmenter[Any, Any]
    inference: Inference
    prompts: Prompts

    def embed_text(self, vocabulary: Vocabulary) -> Any:
        """The words as the segmenter's own classifier."""
        return self.segmenter.embed_text(vocabulary, self.prompts)


def at_least_float32(x: Tensor) -> Tensor:
    """In float32, or as it is where it is more precise: norms and sums of half precision are too coarse."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def one_input_size(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of an `Inference` by name, and those that follow: a side takes the place of a size, and a size of sides.

    Raises `SettingError` for a size and a side at once, since the side would say nothing.
    """
    sizes = ("size", "short_side", "long_side")
    given = [name for name in sizes if str(changes.get(name)).lower() not in ("none", "null")]
    if "size" not in given:
        return {"size": None, **changes} if given else dict(changes)
    if len(given) > 1:
        raise SettingError(
            f"size={changes['size']} fixes the input of the network, so {given[1]}={changes[given[1]]} says nothing; "
            "give one of them"
        )
    return {"short_side": None, "long_side": None, **changes}


@dataclass(frozen=True)
class Variant:
    """A named pair of architecture and weights: `maskclip/vit-b16` is VARIANTS["vit-b16"] of methods/maskclip.py.

    config: the method's frozen `Config`.
    weights: where they come from; None for random ones.
    about: one line for `lexiseg list`; says the size of a download.
    """

    config: Any
    weights: Weights | None
    inference: Inference
    about: str = ""
