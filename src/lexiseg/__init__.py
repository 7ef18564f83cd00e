"""Labels every pixel of photographs with your words: open-vocabulary semantic segmentation.

    >>> import lexiseg
    >>> from skimage import data
    >>> model = lexiseg.load("maskclip/mini")
    >>> result = model.segment(data.chelsea(), ["cat|kitten", "blanket", "wall"])  # or a path, such as "street.jpg"
    >>> result.found[0]
    'cat'
    >>> print(f"labelled by lexiseg {lexiseg.__version__}")  # doctest: +ELLIPSIS
    labelled by lexiseg ...

Importing lexiseg is cheap: torch and transformers load when they are first needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lexiseg.errors import (
    BadSample,
    CheckpointError,
    DataError,
    ImageError,
    LexisegError,
    MethodError,
    MissingDependency,
    OutputError,
    ServiceError,
    SettingError,
    TrainingError,
    UnknownName,
    VocabularyError,
    WeightsError,
)

if TYPE_CHECKING:
    from lexiseg.encoders.prompts import Prompts as Prompts
    from lexiseg.evaluation.evaluate import evaluate as evaluate
    from lexiseg.inference.predictor import Predictor as Predictor
    from lexiseg.inference.predictor import load as load
    from lexiseg.segmentation import Segmentation as Segmentation
    from lexiseg.segmenter import DenseLogits as DenseLogits
    from lexiseg.segmenter import Inference as Inference
    from lexiseg.segmenter import MaskScores as MaskScores
    from lexiseg.segmenter import Segmenter as Segmenter
    from lexiseg.segmenter import TextClassifier as TextClassifier
    from lexiseg.serving.run import serve as serve
    from lexiseg.training.recipe import Recipe as Recipe
    from lexiseg.training.train import train as train
    from lexiseg.vocabulary import Vocabulary as Vocabulary

__version__ = "0.1.0"

_HOMES = {
    "DenseLogits": "lexiseg.segmenter",
    "Inference": "lexiseg.segmenter",
    "MaskScores": "lexiseg.segmenter",
    "Predictor": "lexiseg.inference.predictor",
    "Prompts": "lexiseg.encoders.prompts",
    "Recipe": "lexiseg.training.recipe",
    "Segmentation": "lexiseg.segmentation",
    "Segmenter": "lexiseg.segmenter",
    "TextClassifier": "lexiseg.segmenter",
    "Vocabulary": "lexiseg.vocabulary",
    "evaluate": "lexiseg.evaluation.evaluate",
    "load": "lexiseg.inference.predictor",
    "serve": "lexiseg.serving.run",
    "train": "lexiseg.training.train",
}

__all__ = [
    "BadSample",
    "CheckpointError",
    "DataError",
    "ImageError",
    "LexisegError",
    "MethodError",
    "MissingDependency",
    "OutputError",
    "ServiceError",
    "SettingError",
    "TrainingError",
    "UnknownName",
    "VocabularyError",
    "WeightsError",
    "__version__",
    *sorted(_HOMES),
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lexiseg' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
