"""Maps of pairs are read or computed, and cropped with the picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tars
import torch
from PIL import Image

from lexiseg.data.loader import Loader
from lexiseg.data.opening import Workers
from lexiseg.data.pairs.descriptions import PairData
from lexiseg.data.pairs.maps import ComputedMaps, FolderMaps, ShardMaps, open_maps
from lexiseg.data.pairs.pairs import PairSource
from lexiseg.data.pairs.readers import open_pairs
from lexiseg.data.transforms import PairAugmentation
from lexiseg.errors import BadSample, DataError, SettingError

HEIGHT, WIDTH = 24, 30
WHERE = (np.arange(HEIGHT)[:, None] * 256 + np.arange(WIDTH)).astype(np.uint16)
PICTURE = Image.fromarray(np.stack([WHERE // 256 * 10, WHERE % 256 * 8, WHERE * 0], axis=2).astype(np.uint8))
AUGMENTATION = PairAugmentation(size=12, area=(0.3, 0.9), flip=0.5)


def png(pixels: Image.Image | np.ndarray) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for folder in ("photos/a", "maps/a"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("0", "1"):
        (tmp_path / "photos" / "a" / f"{name}.png").write_bytes(png(PICTURE))
        (tmp_path / "photos" / "a" / f"{name}.txt").write_text("a ramp")
        (tmp_path / "maps" / "a" / f"{name}.png").write_bytes(png(WHERE))
    return tmp_path


def agrees(image: torch.Tensor, places: torch.Tensor) -> bool:
    """Whether each pixel of the picture has the colours of the place that its map names, but for blur."""
    rows, columns = places // 256 * 10, places % 256 * 8
    return bool(((image[0] - rows.float()).abs() < 15).all() and ((image[1] - columns.float()).abs() < 15).all())


def test_stored_maps_are_cropped_with_their_pictures_and_come_as_a_batch(photos: Path) -> None:
    source = PairSource(open_pairs(photos / "photos"), AUGMENTATION, maps={"superpixels": FolderMaps(photos / "maps")})
    batch, _ = next(Loader(source, batch_size=4).stream())
    assert batch["superpixels"].shape == (4, 12, 12)
    assert batch["superpixels"].dtype == torch.int32
    assert all(agrees(image, places) for image, places in zip(batch["images"], batch["superpixels"], strict=True))


def test_a_map_may_be_computed_from_the_picture(photos: Path) -> None:
    def where(image: Image.Image) -> np.ndarray:
        return WHERE[: image.height, : image.width].astype(np.int32)

    pairs = open_pairs(photos / "photos")
    source = PairSource(pairs, AUGMENTATION, maps={"places": ComputedMaps(where, version=2)})
    sample = source.load(0, np.random.default_rng(3))
    assert agrees(sample["image"], torch.from_numpy(sample["places"]))
    assert source.manifest()["maps"] == {"places": {"kind": "computed", "function": "where", "version": 2}}


def test_maps_change_nothing_about_the_picture(photos: Path) -> None:
    pairs = open_pairs(photos / "photos")
    with_maps = PairSource(pairs, AUGMENTATION, maps={"superpixels": FolderMaps(photos / "maps")})
    one, other = (each.load(1, np.random.default_rng(3)) for each in (with_maps, PairSource(pairs, AUGMENTATION)))
    assert torch.equal(one["image"], other["image"])
    assert PairSource(pairs, AUGMENTATION).manifest() == pairs.manifest()


def test_maps_lie_in_shards_of_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    both = {"a.png": png(PICTURE), "a.txt": b"a ramp", "b.png": png(PICTURE), "b.txt": b"two"}
    tars.write(tmp_path / "000.tar", both.items())
    tars.write(tmp_path / "maps" / "000.tar", [("b.map.png", png(WHERE + 1)), ("a.map.png", png(WHERE))])
    pairs, maps = open_pairs(tmp_path), open_maps({"superpixels": str(tmp_path / "maps")})["superpixels"]
    assert isinstance(maps, ShardMaps)
    for index, added in ((0, 0), (1, 1)):
        assert np.array_equal(maps.map(pairs.key(index), PICTURE), WHERE + added)
    with pytest.raises(BadSample, match="missing map"):
        maps.map("000/c", PICTURE)
    with pytest.raises(BadSample, match=r"no shard 001\.tar"):
        maps.map("001/a", PICTURE)


def test_maps_that_do_not_fit_are_bad_samples(photos: Path) -> None:
    (photos / "maps" / "a" / "0.png").write_bytes(png(WHERE[:5]))
    (photos / "maps" / "a" / "1.png").write_bytes(b"broken")
    source = PairSource(open_pairs(photos / "photos"), AUGMENTATION, maps={"superpixels": FolderMaps(photos / "maps")})
    for index, reason in ((0, "sizes differ"), (1, "broken map")):
        with pytest.raises(BadSample, match=reason):
            source.load(index, np.random.default_rng(0))
    (photos / "maps" / "a" / "1.png").unlink()
    with pytest.raises(BadSample, match="missing map"):
        source.load(1, np.random.default_rng(0))


def test_a_recipe_names_the_places_of_maps(photos: Path) -> None:
    stored = {"superpixels": str(photos / "maps")}
    data = PairData((str(photos / "photos"),), maps=stored, augmentation=AUGMENTATION, workers=Workers())
    batch, _ = next(data.open(batch_size=2, seed=0, max_bad_fraction=0).stream())
    assert batch["superpixels"].shape == (2, 12, 12)
    with pytest.raises(DataError, match=r"nowhere \(superpixels\) is not a folder"):
        open_maps({"superpixels": "nowhere"})
    turning = PairData(data.places, maps=data.maps, augmentation=PairAugmentation(policy="autoaugment"))
    with pytest.raises(SettingError, match="turns pictures"):
        turning.source()
