"""Lists the protocols of ZSSeg."""

from __future__ import annotations

from lexiseg.evaluation.protocols import Study, row

__all__ = ["STUDIES"]

# learned_prompts: which branches read learned prompts, whose file comes with the method
_RELEASED = Study(
    name="released",
    source="ZSSeg's code: sizes, data-set names as prompts; per data set ensemble weight, mask threshold, prompts",
    variants=("rn101",),
    preset="released",
    settings={"short_side": 512, "long_side": 2048, "blend": "logits"},
    rows={
        "coco_stuff_156_15": row(
            ensemble_weight=0.8, mask_threshold=0.5, learned_prompts="both", short_side=640, long_side=2560
        ),
        "voc_15_5": row(ensemble_weight=0.7, mask_threshold=0.5, learned_prompts="regions"),
        "ade150": row("zsseg", ensemble_weight=0.5, mask_threshold=0.4, prompts="vild14"),
        "ade847": row("zsseg", ensemble_weight=0.7, mask_threshold=0.3, prompts="vild14"),
        "cityscapes19": row(ensemble_weight=0.4, mask_threshold=0.3, prompts="vild14", short_side=1024),
        "context59": row("zsseg", ensemble_weight=0.4, mask_threshold=0.5, prompts="vild14"),
        "voc20": row(ensemble_weight=0.4, mask_threshold=0.5, learned_prompts="both"),
    },
)

STUDIES = (_RELEASED,)
