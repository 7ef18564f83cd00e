"""`lexiseg segment --regions` and `--masks` from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lexiseg
from lexiseg.cli.main import main
from lexiseg.proposals._folder import MaskFolder
from methods.shelf import doubles

MASKED = ["--model", "masked/tiny", "--words", "grass, sky, road"]


@pytest.fixture(autouse=True)
def _doubles() -> Iterator[None]:
    with doubles():
        yield


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, size in (("one.png", (40, 60)), ("two.jpg", (33, 20)), ("inner/three.png", (24, 24))):
        coarse = random.integers(0, 255, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size[::-1]).save(folder / name)
    return folder


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A form for each photograph."""
    folder = tmp_path / "masks"
    (folder / "two").mkdir(parents=True)
    labels = np.full((40, 60), 255, np.uint8)
    labels[:, :20], labels[:, 20:50] = 4, 9
    Image.fromarray(labels).save(folder / "one.png")
    for number in range(2):
        half = np.zeros((33, 20), np.uint8)
        half[:16] = 255 * (number == 0)
        half[16:] = 255 * (number == 1)
        Image.fromarray(half).save(folder / "two" / f"{number}.png")
    (folder / "inner").mkdir()
    np.savez(folder / "inner" / "three.npz", masks=np.ones((1, 24, 24), bool))
    return folder


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_regions_are_a_picture_and_a_label_map_without_any_words(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["segment", str(photos), "--regions", "--set", "short_side=30", "--set", "min_size=20", "--out", str(out)]
    assert main(command) == 0
    stems = ("one.png", "two", "inner/three.png")
    assert written(out) == {f"{stem}.regions{suffix}" for stem in stems for suffix in (".png", ".json", ".overlay.png")}
    captured = capsys.readouterr()
    assert len(captured.out.strip().splitlines()) == 3
    assert "regions" in captured.out
    assert "3 shown as regions in" in captured.err
    labels = MaskFolder.open(out).of("one", "one.png").read((40, 60))
    assert len(np.unique(labels)) > 1
    assert Image.open(out / "two.regions.overlay.png").size == (20, 33)
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    assert main(command) == 0
    assert "3 skipped, their results exist" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before  # the same bytes
    assert main([*command[:-2], "--set", "scale=10", "--out", str(out)]) == 1
    assert "was made with other words, model, settings" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["masked/tiny", "regions/tiny", "contours", "selective_search"])
def test_every_kind_of_model_with_masks_shows_them(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    out = tmp_path / "out"
    formats = [part for one in ("png", "grey-png", "npz", "coco-rle", "overlay") for part in ("--format", one)]
    command = ["segment", str(photos / "two.jpg"), "--regions", "--model", model, "--out", str(out), "--json", *formats]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    (result,) = report["results"]
    assert result["regions"] >= 1
    assert set(result) == {"photo", "outputs", "regions", "unlabelled_area"}
    assert len(result["outputs"]) == 5
    arrays = np.load(out / "two.regions.npz")["masks"]
    assert arrays.shape == (result["regions"], 33, 20)
    data = json.loads((out / "two.regions.coco.json").read_text())
    assert [one["area"] for one in data["annotations"]] == arrays.sum((1, 2)).tolist()


def test_regions_that_were_written_are_masks_for_another_model(photos: Path, tmp_path: Path) -> None:
    out, labelled = tmp_path / "out", tmp_path / "labelled"
    assert main(["segment", str(photos), "--regions", "--model", "contours", "--out", str(out)]) == 0
    assert main(["segment", str(photos), *MASKED, "--masks", str(out), "--out", str(labelled)]) == 0
    regions = MaskFolder.open(out).of("one", "one.png").read((40, 60))
    labels = lexiseg.Segmentation.load(labelled / "one.png.png").labels
    assert all(len(np.unique(labels[regions == number])) == 1 for number in np.unique(regions))


def test_masks_of_a_folder_are_classified_in_any_form(photos: Path, masks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["segment", str(photos), *MASKED, "--masks", str(masks), "--out", str(out), "--batch-size", "2"]
    assert main(command) == 0
    model = lexiseg.load("masked/tiny")
    for name, key in (("one.png", "one"), ("two.jpg", "two"), ("inner/three.png", "inner/three")):
        stem = name.removesuffix(".jpg")
        found = lexiseg.Segmentation.load(out / f"{stem}.png").labels
        own = MaskFolder.open(masks).of(key).read(found.shape)
        expected = model.segment(photos / name, "grass, sky, road", masks=own)
        assert np.array_equal(found, expected.labels)
    assert (lexiseg.Segmentation.load(out / "one.png.png").labels[:, 50:] == 255).all()


def test_masks_that_changed_are_not_taken_for_the_old_ones(
    photos: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos), *MASKED, "--masks", str(masks), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert main(command) == 0
    assert "3 skipped" in capsys.readouterr().err
    (masks / "two" / "1.png").unlink()
    assert main(command) == 1
    assert "two.png was made with other" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    labels = lexiseg.Segmentation.load(tmp_path / "out" / "two.png").labels
    assert (labels[16:] == 255).all()


def test_a_photograph_whose_masks_are_missing_or_wrong_is_named_and_the_others_are_done(
    photos: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (masks / "one.png").unlink()
    for path in (masks / "two").iterdir():
        Image.new("L", (3, 3)).save(path)
    out = tmp_path / "out"
    assert main(["segment", str(photos), *MASKED, "--masks", str(masks), "--out", str(out), "--json"]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert [Path(done["photo"]).name for done in report["results"]] == ["three.png"]
    failed = {Path(one["photo"]).name: one["error"] for one in report["failed"]}
    assert "has no masks for one" in failed["one.png"]
    assert "0.png are 3 x 3 and the photograph is 33 x 20" in failed["two.jpg"]
    assert "Traceback" not in captured.err


def test_a_photograph_without_any_mask_is_unlabelled_with_a_note(
    photos: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (masks / "one.png").unlink()
    (masks / "one.json").write_text("[]")
    command = ["segment", str(photos / "one.png"), *MASKED, "--masks", str(masks), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "unlabelled 100%" in captured.out
    assert "no pixel of it" in captured.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--regions", "--words", "sky"], "--regions shows masks without words, so --words says nothing"),
        (["--regions", "--background", "sky"], "--background"),
        (["--regions", "--masks", "."], "--masks"),
        (["--regions", "--threshold", "0.5"], "--threshold"),
        (["--regions", "--model", "maskclip/tiny"], "maskclip/tiny labels places, not masks"),
        (["--regions", "--model", "superpixel"], "superpixel"),
        (["--regions", "--set", "k=3"], "no setting is called 'k'"),
        (["--regions", "--model", "contours", "--window", "30"], "contours is a proposer and takes no --window"),
        (["--regions", "--model", "contours", "--weights", "x"], "contours is a proposer and takes no --weights"),
        (["--words", "sky", "--model", "contours"], "contours is a proposer and knows no words"),
        (["--words", "sky", "--model", "maskclip/tiny", "--masks", "."], "maskclip/tiny does not take masks"),
        (["--words", "sky", "--model", "masked/tiny", "--masks", "nowhere"], "there is no folder nowhere of masks"),
        (["--model", "masked/tiny"], "name what to look for with --words"),
    ],
)
def test_options_that_do_not_go_together_are_a_sentence(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    assert main(["segment", str(photos / "one.png"), "--out", str(tmp_path / "out"), *options]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_photograph_that_cannot_be_read_does_not_stop_the_others(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_text("not a picture")
    command = ["segment", str(photos), "--regions", "--set", "short_side=20", "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["results"]) == 3
    assert [Path(one["photo"]).name for one in report["failed"]] == ["broken.jpg"]


def test_several_models_have_a_folder_each(photos: Path, tmp_path: Path) -> None:
    models = ["--model", "superpixels", "--model", "masked/tiny"]
    assert main(["segment", str(photos / "one.png"), "--regions", *models, "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"superpixels", "masked-tiny"}
