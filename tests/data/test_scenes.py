from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lexiseg.data.scenes import COLOURS, GROUNDS, SHAPES, Scenes, class_names, inside, unseen_classes

NAMES = class_names()
OBJECTS = len(COLOURS) * len(SHAPES)


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", np.pi),
        ("ring", np.pi * (1 - 0.55**2)),
        ("square", 1.6**2),
        ("triangle", 1.6 * 1.6 / 2),
        ("diamond", 2 * 0.7),
        ("cross", 2 * (2 * 0.6) - 0.6**2),
    ],
)
def test_shapes_have_the_area_of_their_closed_form(shape, area):
    axis = (np.arange(1000) + 0.5) / 500 - 1
    mask = inside(shape, axis[None, :], axis[:, None])
    assert mask.mean() * 4 == pytest.approx(area, abs=0.01)


@pytest.mark.parametrize("index", range(40))
def test_masks_are_exact(index):
    """Every pixel's colour belongs to its label: noise is small, and colours are far apart."""
    scene = Scenes(size=48).draw(index)
    pixels = scene.image.astype(float)
    tones = np.array([[np.array(rgb) * factor for factor in (1, 0.75)] for rgb in COLOURS.values()])
    greys = np.array([[[70] * 3, [130] * 3]])
    palette = np.concatenate([tones, greys])  # [colours and ground, 2, 3]
    distance = np.abs(pixels[:, :, None, None] - palette).max(-1).min(-1)  # [H, W, colours and ground]
    seen = np.where(scene.labels < OBJECTS, scene.labels // len(SHAPES), len(COLOURS))
    assert np.array_equal(distance.argmin(-1), seen)


def test_captions_name_what_is_there_and_nothing_else():
    for index in range(60):
        scene = Scenes(size=48).draw(index)
        counts = np.bincount(scene.labels.ravel(), minlength=len(NAMES))
        visible = {NAMES[at] for at in range(OBJECTS) if counts[at] >= scene.labels.size / 100}
        ground = next(NAMES[at] for at in range(OBJECTS, len(NAMES)) if counts[at])
        for caption in scene.captions:
            assert {name for name in NAMES[:OBJECTS] if name in caption} == visible
            assert ground in caption


def test_a_scene_is_a_function_of_its_number():
    one, again = Scenes(size=32).draw(5), Scenes(size=32, count=9).draw(5)
    assert np.array_equal(one.image, again.image)
    assert np.array_equal(one.labels, again.labels)
    assert one.captions == again.captions
    others = [Scenes(size=32).draw(6), Scenes(size=32, seed=1).draw(5)]
    assert all(not np.array_equal(one.image, other.image) for other in others)


def test_unseen_combinations_have_seen_colours_and_shapes():
    unseen = [NAMES[at].split() for at in unseen_classes()]
    seen = [NAMES[at].split() for at in range(OBJECTS) if at not in unseen_classes()]
    assert {colour for colour, _ in unseen} == {colour for colour, _ in seen} == set(COLOURS)
    assert {shape for _, shape in unseen} == {shape for _, shape in seen} == set(SHAPES)


def test_splits_keep_unseen_combinations_apart():
    unseen = set(unseen_classes())

    def drawn(split):
        scenes = Scenes(size=32, split=split)
        return [set(np.unique(scenes.draw(index).labels)) & unseen for index in range(60)]

    assert not any(drawn("seen"))
    assert any(drawn("all"))
    assert all(drawn("unseen"))  # the unseen shape is drawn last, so nothing hides it


def test_every_class_occurs():
    labels = [Scenes(size=24).draw(index).labels for index in range(300)]
    assert set(np.unique(labels)) == set(range(len(NAMES)))
    assert len(NAMES) == OBJECTS + len(GROUNDS)


def test_scenes_are_pairs_and_samples_with_labels():
    scenes = Scenes(count=3, size=24)
    image, captions = scenes.read(2)
    sample = scenes.samples()[2]
    assert scenes.blocks == [3]
    assert np.array_equal(image, sample.image())
    assert sample.truth().shape == (24, 24)
    assert captions == scenes.draw(2).captions
    assert sample.key == scenes.key(2)
    assert scenes.manifest() != dataclasses.replace(scenes, seed=1).manifest()
