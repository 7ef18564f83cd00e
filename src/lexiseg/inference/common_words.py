"""Tells how much of a picture common words fit better.

Words that are nowhere in a picture take all of its pixels all the same, since one of them is always the best. Whether
another word would be better can be asked of what is embedded already: `words.background` has a published list of what
most photographs show. Of its words those count that the model knows and that do not compete with the user's.

The picture is labelled at the size of a thumbnail, and the text vectors of the list are made once for a model: about
1.5 ms a picture (docs/log.md, which also has how often such a note is right).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lexiseg.encoders.familiar import Familiar
from lexiseg.inference.labelling import Embedded, Labeller
from lexiseg.segmenter import Segmenter, TextClassifier
from lexiseg.vocabulary import Vocabulary
from lexiseg.words.background import AUTO_BACKGROUND, auto_background

__all__ = ["MOST", "fitting_better", "may_be_asked"]

MOST = 0.9  # of a picture: so much is worth a note (docs/log.md)
SIDE = 48  # pixels of the thumbnail's long side


def may_be_asked(vocabulary: Vocabulary, segmenter: Segmenter[Any, Any], embedded: Embedded) -> bool:
    """Whether something else than the words could have won, and nobody has asked for the rest.

    One class alone takes every pixel, which has a note of its own. Windows that are classified one by one are embedded
    as they are asked for, and cannot be asked twice.
    """
    rest = bool(vocabulary.background) or segmenter.traits.background == "own"
    return len(vocabulary) > 1 and not rest and embedded.joined


@torch.inference_mode()
def fitting_better(
    embedded: Embedded,
    vocabulary: Vocabulary,
    segmenter: Segmenter[Any, Any],
    classifier: Callable[[Vocabulary], Any],
    familiar: Familiar,
) -> float:
    """The fraction of the picture that words of the list win against the vocabulary's, 0-1.

    embedded: its views are read, so they must not be an iterator.
    classifier: makes the words' classifier, or finds it again.

    0 where the method makes of words something else than a `TextClassifier`, or the model knows none of the list.
    """
    known = [word for word in AUTO_BACKGROUND if familiar.knows(word)]
    rivals = [word for word in auto_background(vocabulary.queries) if word in known]
    if not rivals:
        return 0.0
    own, common = classifier(vocabulary), classifier(Vocabulary(known))
    if not (isinstance(own, TextClassifier) and isinstance(common, TextClassifier)):
        return 0.0
    places = torch.tensor([known.index(word) for word in rivals], device=common.weight.device)
    asked = vocabulary.with_background(rivals)
    both = TextClassifier.of(asked, torch.cat([own.weight, common.weight[places]]), own.scale)
    small = _thumbnail(embedded)
    labels = Labeller(segmenter, both, asked, scores=False).label(small).labels
    there = np.ones(labels.shape, bool) if small.valid is None else small.valid
    return float((labels[there] == np.iinfo(labels.dtype).max).mean()) if there.any() else 0.0


def _thumbnail(embedded: Embedded) -> Embedded:
    """The same picture, to be labelled at a few pixels."""
    factor = min(1.0, SIDE / max(embedded.size))
    height, width = (max(1, round(side * factor)) for side in embedded.size)
    valid = embedded.valid
    if valid is not None:
        rows, columns = (np.arange(few) * side // few for few, side in zip((height, width), valid.shape, strict=True))
        valid = valid[np.ix_(rows, columns)]
    return replace(embedded, size=(height, width), image=None, pixels=None, valid=valid)
