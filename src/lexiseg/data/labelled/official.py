"""Lists where an official release keeps its files, once unpacked.

It also says where to get the release. The file holds values only.

The first place of a part is the official one; the others are where people, mmsegmentation and detectron2 put it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lexiseg.data.labelled.annotations import CocoPanoptic, Lvis, PascalDetail
from lexiseg.data.labelled.labels import AdeObjects, MatLabelMap, RedGreen
from lexiseg.data.labelled.layouts import Layout, Pairs, Part, VocWithSbd, under

__all__ = ["ADE150", "ADE847", "CITYSCAPES", "COCO", "COCO_STUFF", "CONTEXT", "IMAGENET_S919", "LVIS", "VOC", "Release"]


@dataclass(frozen=True)
class Release:
    """A data set as its makers give it out.

    splits: for each split the ways it may lie on disk, the first that is there is taken.
    home, obtain: where it comes from and what to fetch; licence: as its makers state it.
    tree: how it lies below the folder given as --data.
    """

    splits: Mapping[str, tuple[Layout, ...]]
    home: str
    obtain: str
    licence: str
    tree: str


_VOC = ("VOCdevkit/VOC2012", "VOC2012", "")
_SBD = ("benchmark_RELEASE/dataset", "VOCdevkit/VOCaug/dataset", "VOCaug/dataset", "SBD", "sbd")
_VOC_PHOTOS = Part("photographs", under(_VOC, "JPEGImages/{key}.jpg"))
_VOC_LABELS = Part("label maps", under(_VOC, "SegmentationClass/{key}.png"))


def _voc_list(split: str) -> Part:
    return Part(f"list of {split} images", under(_VOC, f"ImageSets/Segmentation/{split}.txt"))


def _voc(split: str, images: int) -> Pairs:
    return Pairs(
        about="the devkit's palette PNGs",
        photos=_VOC_PHOTOS,
        labels=_VOC_LABELS,
        listing=_voc_list(split),
        largest=20,
        void=(255,),
        images=images,
    )


VOC = Release(
    splits={
        "val": (_voc("val", 1449),),
        "train": (_voc("train", 1464),),
        "trainaug": (
            VocWithSbd(
                about="VOC's palette PNGs and SBD's .mat files",
                photos=_VOC_PHOTOS,
                labels=_VOC_LABELS,
                train=_voc_list("train"),
                val=_voc_list("val"),
                sbd_labels=Part("label maps of SBD", under(_SBD, "cls/{key}.mat")),
                sbd_train=Part("list of SBD's train images", under(_SBD, "train.txt")),
                sbd_val=Part("list of SBD's val images", under(_SBD, "val.txt")),
            ),
            Pairs(
                about="SegmentationClassAug PNGs",
                photos=_VOC_PHOTOS,
                labels=Part("label maps", under(_VOC, "SegmentationClassAug/{key}.png")),
                listing=_voc_list("trainaug"),
                largest=20,
                void=(255,),
                images=10582,
            ),
        ),
    },
    home="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    obtain="unpack VOCtrainval_11-May-2012.tar; for the split trainaug also benchmark.tgz of the Semantic Boundaries "
    "Dataset (http://home.bharathh.info/pubs/codes/SBD/download.html)",
    licence="photographs from Flickr under its terms of use; annotations for research, no licence stated",
    tree="""\
VOCdevkit/VOC2012/
    ImageSets/Segmentation/{train,val}.txt
    JPEGImages/2007_000033.jpg ...
    SegmentationClass/2007_000033.png ...
benchmark_RELEASE/dataset/              (split trainaug only)
    train.txt, val.txt
    cls/2008_000002.mat ...""",
)

_VOC10 = ("VOCdevkit/VOC2010", "VOC2010", "")
_VOC10_PHOTOS = Part("photographs", under(_VOC10, "JPEGImages/{key}.jpg"))
_CONTEXT = ("", "pascal-context", "pascal_context", "VOCdevkit/VOC2010", "VOC2010")


def _context(split: str, images: int, detail_images: int) -> tuple[Layout, ...]:
    main_list = Part(f"list of {split} images", under(_VOC10, f"ImageSets/Main/{split}.txt"))
    return (
        Pairs(
            about="the 459-class .mat files",
            photos=_VOC10_PHOTOS,
            labels=Part("label maps", under(_CONTEXT, "trainval/{key}.mat")),
            listing=main_list,
            read=MatLabelMap,
            largest=459,
            images=images,
        ),
        PascalDetail(
            about="trainval_merged.json",
            photos=_VOC10_PHOTOS,
            annotations=Part("trainval_merged.json", under(_CONTEXT, "trainval_merged.json")),
            phase=split,
            images=detail_images,
        ),
        Pairs(
            about="the 59-class PNGs",
            photos=_VOC10_PHOTOS,
            labels=Part("label maps", under(_CONTEXT, "59_context_labels/{key}.png")),
            listing=main_list,
            largest=59,
            ids="png59",
            images=images,
        ),
        Pairs(
            about="PNGs converted by mmsegmentation",
            photos=_VOC10_PHOTOS,
            labels=Part("label maps", under(_VOC10, "SegmentationClassContext/{key}.png")),
            listing=Part(f"list of {split} images", under(_VOC10, f"ImageSets/SegmentationContext/{split}.txt")),
            largest=59,
            ids="png",
            images=detail_images,
        ),
    )


CONTEXT = Release(
    splits={"val": _context("val", 5105, 5104), "train": _context("train", 4998, 4996)},
    home="https://cs.stanford.edu/~roozbeh/pascal-context/",
    obtain="unpack VOCtrainval_03-May-2010.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2010/) and one of: "
    "trainval.tar.gz (459 classes), 59_context_labels.tar.gz, trainval_merged.json; the detail API is not needed",
    licence="photographs from Flickr under its terms of use; annotations for research, no licence stated",
    tree="""\
VOCdevkit/VOC2010/
    ImageSets/Main/{train,val}.txt
    JPEGImages/2008_000002.jpg ...
and one of
    trainval/2008_000002.mat ...
    trainval_merged.json
    59_context_labels/2008_000002.png ...
    VOCdevkit/VOC2010/SegmentationClassContext/*.png with ImageSets/SegmentationContext/{train,val}.txt""",
)

_COCO = ("coco", "", "COCO", "coco2017", "coco_stuff164k")


def _coco_photos(split: str) -> Part:
    return Part("photographs", under(_COCO, f"{split}2017/{{key}}.jpg", f"images/{split}2017/{{key}}.jpg"))


def _coco_stuff(split: str, images: int) -> Pairs:
    folders = ("stuffthingmaps_trainval2017", "stuffthingmaps", "annotations")
    places = [f"{folder}/{split}2017/{{key}}.png" for folder in folders]
    return Pairs(
        about="the pixel maps of COCO-Stuff",
        photos=_coco_photos(split),
        labels=Part("pixel maps", under(_COCO, *places, f"{split}2017/{{key}}.png")),
        names=r"(.*/)?\d+",  # converted copies such as 000000000139_labelTrainIds.png often lie beside them
        largest=181,
        void=(255,),
        ids="pixel",
        images=images,
    )


def _coco_panoptic(split: str, images: int) -> CocoPanoptic:
    return CocoPanoptic(
        about="panoptic PNGs",
        photos=_coco_photos(split),
        labels=Part(
            "panoptic PNGs",
            under(_COCO, f"panoptic_{split}2017/{{key}}.png", f"annotations/panoptic_{split}2017/{{key}}.png"),
        ),
        annotations=Part("panoptic JSON", under(_COCO, f"annotations/panoptic_{split}2017.json")),
        images=images,
    )


_COCO_LICENCE = "annotations CC BY 4.0; photographs from Flickr, each under its own licence"
_COCO_TREE = """\
coco/
    val2017/000000000139.jpg ...        (train2017/ for the split train)
    stuffthingmaps_trainval2017/val2017/000000000139.png ..."""

COCO_STUFF = Release(
    splits={"val": (_coco_stuff("val", 5000),), "train": (_coco_stuff("train", 118287),)},
    home="https://cocodataset.org and https://github.com/nightrome/cocostuff",
    obtain="unpack val2017.zip (train2017.zip) and stuffthingmaps_trainval2017.zip",
    licence=_COCO_LICENCE,
    tree=_COCO_TREE,
)

COCO = Release(
    splits={
        "val": (_coco_stuff("val", 5000), _coco_panoptic("val", 5000)),
        "train": (_coco_stuff("train", 118287), _coco_panoptic("train", 118287)),
    },
    home=COCO_STUFF.home,
    obtain=COCO_STUFF.obtain + "; or, in place of the latter, panoptic_annotations_trainval2017.zip and the "
    "panoptic_*.zip in it",
    licence=_COCO_LICENCE,
    tree=_COCO_TREE
    + """
or, in place of stuffthingmaps_trainval2017,
    annotations/panoptic_val2017.json
    annotations/panoptic_val2017/000000000139.png ...""",
)

_ADE = ("ADEChallengeData2016", "ade/ADEChallengeData2016", "")


def _ade150(folder: str, images: int) -> tuple[Layout, ...]:
    return (
        Pairs(
            about="ADEChallengeData2016",
            photos=Part("photographs", under(_ADE, f"images/{folder}/{{key}}.jpg")),
            labels=Part("label maps", under(_ADE, f"annotations/{folder}/{{key}}.png")),
            largest=150,
            images=images,
        ),
    )


ADE150 = Release(
    splits={"val": _ade150("validation", 2000), "train": _ade150("training", 20210)},
    home="http://sceneparsing.csail.mit.edu/",
    obtain="unpack ADEChallengeData2016.zip (http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip)",
    licence="annotations BSD-3-Clause; photographs for non-commercial research",
    tree="""\
ADEChallengeData2016/
    images/{training,validation}/ADE_val_00000001.jpg ...
    annotations/{training,validation}/ADE_val_00000001.png ...""",
)

_ADE_FULL = ("ADE20K_2021_17_01", "")


def _ade847(folder: str, images: int) -> tuple[Layout, ...]:
    return (
        Pairs(
            about="ADE20K_2021_17_01",
            photos=Part("photographs", under(_ADE_FULL, f"images/ADE/{folder}/{{key}}.jpg")),
            labels=Part("label maps", under(_ADE_FULL, f"images/ADE/{folder}/{{key}}_seg.png")),
            read=AdeObjects,
            largest=25 * 256 + 255,  # all that R // 10 * 256 + G can be
            images=images,
        ),
    )


ADE847 = Release(
    splits={"val": _ade847("validation", 2000), "train": _ade847("training", 25574)},
    home="https://ade20k.csail.mit.edu/",
    obtain="request access (https://ade20k.csail.mit.edu/request_data/) and unpack the full release ADE20K_2021_17_01",
    licence="annotations BSD-3-Clause; photographs for non-commercial research",
    tree="""\
ADE20K_2021_17_01/images/ADE/{training,validation}/
    urban/street/ADE_val_00000001.jpg ...
    urban/street/ADE_val_00000001_seg.png ...""",
)

_CITY = ("cityscapes", "", "Cityscapes")


def _cityscapes(split: str, images: int) -> tuple[Layout, ...]:
    return (
        Pairs(
            about="gtFine labelIds",
            photos=Part("photographs", under(_CITY, f"leftImg8bit/{split}/{{key}}_leftImg8bit.png")),
            labels=Part("label maps", under(_CITY, f"gtFine/{split}/{{key}}_gtFine_labelIds.png")),
            largest=33,
            void=(255,),
            images=images,
        ),
    )


CITYSCAPES = Release(
    splits={"val": _cityscapes("val", 500), "train": _cityscapes("train", 2975)},
    home="https://www.cityscapes-dataset.com/",
    obtain="register and unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip",
    licence="Cityscapes licence: non-commercial use",
    tree="""\
cityscapes/
    leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png ...
    gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png ...""",
)


def _lvis(split: str, images: int) -> tuple[Layout, ...]:
    names = under(("lvis", "", "annotations", "coco/annotations"), f"lvis_v1_{split}.json")
    photos = under(
        _COCO, "train2017/{key}.jpg", "images/train2017/{key}.jpg", "val2017/{key}.jpg", "images/val2017/{key}.jpg"
    )
    return (
        Lvis(
            about="LVIS v1",
            photos=Part("photographs", photos),
            annotations=Part(f"lvis_v1_{split}.json", names),
            images=images,
        ),
    )


LVIS = Release(
    splits={"val": _lvis("val", 19809), "train": _lvis("train", 100170)},
    home="https://www.lvisdataset.org/dataset",
    obtain="unpack lvis_v1_val.json.zip (lvis_v1_train.json.zip), and COCO's train2017.zip and val2017.zip: LVIS's "
    "validation images come from both",
    licence="annotations CC BY 4.0; photographs from Flickr, each under its own licence",
    tree="""\
lvis/lvis_v1_val.json
coco/
    train2017/000000000009.jpg ...
    val2017/000000000139.jpg ...""",
)

_IMAGENET_S = ("ImageNetS919", "imagenet-s/ImageNetS919", "")


def _imagenet_s(folder: str, images: int) -> tuple[Layout, ...]:
    return (
        Pairs(
            about="ImageNet-S two-channel ids",
            photos=Part("photographs", under(_IMAGENET_S, f"{folder}/{{key}}.JPEG")),
            labels=Part("label maps", under(_IMAGENET_S, f"{folder}-segmentation/{{key}}.png")),
            read=RedGreen,
            largest=919,
            void=(1000,),
            images=images,
        ),
    )


IMAGENET_S919 = Release(
    splits={"val": _imagenet_s("validation", 12419), "train": _imagenet_s("train-semi", 9190)},
    home="https://github.com/LUSSeg/ImageNet-S",
    obtain="run data_preparation.sh of LUSSeg/ImageNet-S on a copy of ImageNet-1k, split 919",
    licence="ImageNet's terms of access: non-commercial research and education",
    tree="""\
ImageNetS919/
    validation/n01440764/ILSVRC2012_val_00000293.JPEG ...
    validation-segmentation/n01440764/ILSVRC2012_val_00000293.png ...
    train-semi/ and train-semi-segmentation/ alike""",
)
