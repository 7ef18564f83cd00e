"""Stored pseudo-masks: where each lies, that it is the picture's, and that a run goes on where it ended."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.cli.main import main
from lexiseg.data.loader import Loader
from lexiseg.data.pairs.descriptions import PairData
from lexiseg.data.pairs.pack import pack
from lexiseg.data.pairs.readers import open_pairs
from lexiseg.data.transforms import PairAugmentation
from lexiseg.errors import DataError, OutputError
from lexiseg.proposals import kmeans
from lexiseg.proposals._storing import store

CONFIG = kmeans.Config("colours", k=3, side=16)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos" / "inner"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for at, size in enumerate([(40, 30), (24, 24), (33, 50), (20, 21)]):
        coarse = Image.fromarray(random.integers(0, 256, (3, 3, 3), np.uint8))
        coarse.resize(size, Image.Resampling.NEAREST).save(folder / f"{at}.png")
        (folder / f"{at}.txt").write_text(f"picture {at}")
    return tmp_path / "photos"


def wanted(picture: Path) -> np.ndarray:
    """The clusters of a picture by itself, each pixel with the nearest."""
    with Image.open(picture) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    labels = kmeans.load(CONFIG).labels(pixels)[0].numpy()
    height, width = pixels.shape[-2:]
    rows, columns = (((np.arange(n) + 0.5) * 16 / n).astype(int) for n in (height, width))
    return labels[rows[:, None], columns]


def run(source: Path, out: Path, batch_size: int = 3) -> dict[str, int]:
    return store(kmeans.load(CONFIG), open_pairs(source), out, facts={"k": 3}, batch_size=batch_size)


def test_a_folders_maps_are_in_the_places_of_its_pictures(photos: Path, tmp_path: Path) -> None:
    assert run(photos, tmp_path / "masks") == {"made": 4, "skipped": 0}
    for picture in sorted(photos.rglob("*.png")):
        with Image.open(tmp_path / "masks" / picture.relative_to(photos)) as stored:
            assert np.array_equal(np.asarray(stored), wanted(picture))


def test_a_run_goes_on_and_other_masks_are_not_mixed_in(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    run(photos, out)
    (out / "inner" / "2.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert run(photos, out) == {"made": 1, "skipped": 0}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(OutputError, match="other pictures or settings"):
        store(kmeans.load(CONFIG), open_pairs(photos), out, facts={"k": 4})
    with pytest.raises(OutputError, match="holds something else"):
        run(photos, photos)


def test_shards_of_pairs_get_shards_of_maps(photos: Path, tmp_path: Path) -> None:
    pack(photos, tmp_path / "shards", shard_size=3)
    assert run(tmp_path / "shards", tmp_path / "masks", batch_size=2) == {"made": 4, "skipped": 0}
    with tarfile.open(tmp_path / "masks" / "000000.tar") as tar:
        assert len(tar.getnames()) == 3
        data = tar.extractfile(tar.getnames()[0])
        assert data is not None
        found = np.asarray(Image.open(io.BytesIO(data.read())))
    assert np.array_equal(found, wanted(photos / "inner" / "0.png"))
    assert run(tmp_path / "shards", tmp_path / "masks") == {"made": 0, "skipped": 0}


def test_they_are_cropped_with_their_pictures(photos: Path, tmp_path: Path) -> None:
    """The batch's maps have borders where its pictures have."""
    pack(photos, tmp_path / "shards", shard_size=3)
    run(tmp_path / "shards", tmp_path / "masks")
    data = PairData(
        (str(tmp_path / "shards"),),
        augmentation=PairAugmentation(size=32, area=(0.3, 0.6), flip=0.5),
        maps={"pseudo_masks": str(tmp_path / "masks")},
    )
    source = data.open(batch_size=4, seed=0, max_bad_fraction=0.0)
    assert isinstance(source, Loader)
    batch, _ = next(source.stream(None, rank=0, world=1))
    assert batch["pseudo_masks"].shape == (4, 32, 32)
    for image, parts in zip(batch["images"], batch["pseudo_masks"], strict=True):
        for part in parts.unique():
            inside = image[:, parts == part].float()
            spread = (inside - inside.median(dim=1).values[:, None]).abs().amax(0)
            whole = (image.flatten(1).float() - image.flatten(1).float().median(1).values[:, None]).abs().amax(0)
            assert spread.mean() <= whole.mean() + 1


def test_pictures_that_cannot_be_read_are_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "inner" / "1.png").write_bytes(b"broken")
    assert run(photos, tmp_path / "masks") == {"made": 3, "skipped": 1}


def test_names_that_lead_out_of_the_folder_are_refused(photos: Path, tmp_path: Path) -> None:
    (photos / "list.csv").write_text("image,caption\n../photos/inner/0.png,a\n")
    with pytest.raises(DataError, match="relative names"):
        run(photos / "list.csv", tmp_path / "masks")


def test_the_command_says_what_it_made(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "masks"
    command = [
        "data",
        "masks",
        str(photos),
        str(out),
        "--set",
        "features=colours",
        "--set",
        "side=16",
        "--device",
        "cpu",
    ]
    assert main(command) == 0
    assert capsys.readouterr().out == f"4 masks made in {out}, 0 pictures skipped\n"
    assert main([*command, "--json"]) == 0
    assert '"made": 0' in capsys.readouterr().out
    assert main([*command[:4], "--proposer", "superpixels"]) == 1
    assert "choose from kmeans, spectral" in capsys.readouterr().err
