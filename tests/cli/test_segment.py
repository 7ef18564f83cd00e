"""The main job from the command line, with the embedded model on small photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lexiseg
from lexiseg.cli.main import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, size in (("one.png", (40, 60)), ("two.jpg", (33, 20)), ("inner/three.png", (24, 24))):
        Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_every_photograph_of_a_folder_gets_its_label_map_and_overlay(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["segment", str(photos), "--words", "grass, sky|cloud", "--out", str(out)]) == 0
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    stems = ("one", "two", "inner/three")
    assert written == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".json", ".overlay.png")}
    result = lexiseg.Segmentation.load(out / "one.png")
    assert result.labels.shape == (40, 60)
    assert result.names == ("grass", "sky")
    captured = capsys.readouterr()
    assert len(captured.out.strip().splitlines()) == 3  # a line per finished file
    assert "--model maskclip/vit-b16" in captured.err


def test_the_same_command_gives_the_same_bytes_twice(photos: Path, tmp_path: Path) -> None:
    command = ["segment", str(photos / "one.png"), "--words", "grass, sky", "--format", "png", "--format", "coco-rle"]
    for name in ("a", "b"):
        assert main([*command, "--out", str(tmp_path / name)]) == 0
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 3
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_one_bad_file_does_not_stop_the_others(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_text("this is no picture")
    (photos / "empty.png").write_bytes(b"")
    out = tmp_path / "out"
    code = main(["segment", str(photos), "--words", "grass, sky", "--out", str(out), "--json"])
    assert code == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert len(report["results"]) == 3
    assert sorted(Path(failure["photo"]).name for failure in report["failed"]) == ["broken.jpg", "empty.png"]
    assert "2 of 5" in captured.err
    assert "Traceback" not in captured.err
    assert (out / "one.png").is_file()


def test_existing_results_are_never_overwritten_by_accident(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos / "one.png"), "--words", "grass, sky", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    label_map = tmp_path / "out" / "one.png"
    label_map.write_bytes(b"mine")
    assert main(command) == 1
    assert "--skip-existing or --overwrite" in capsys.readouterr().err
    assert main([*command, "--skip-existing"]) == 0
    assert label_map.read_bytes() == b"mine"
    assert main([*command, "--overwrite"]) == 0
    assert label_map.read_bytes() != b"mine"


def test_skip_existing_does_what_is_missing(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["segment", str(photos), "--words", "grass, sky", "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == 0
    (tmp_path / "out" / "two.png").unlink()
    capsys.readouterr()
    assert main([*command, "--skip-existing"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [Path(result["photo"]).name for result in report["results"]] == ["two.jpg"]
    assert report["skipped"] == 2


def test_several_models_write_into_folders_of_their_own(photos: Path, tmp_path: Path) -> None:
    models = ["--model", "maskclip/tiny", "--model", "maskclip/tiny-rn"]
    out = tmp_path / "out"
    assert main(["segment", str(photos / "one.png"), "--words", "grass, sky", "--out", str(out), *models]) == 0
    assert (out / "maskclip-tiny" / "one.png").is_file()
    assert (out / "maskclip-tiny-rn" / "one.png").is_file()


def test_equal_names_keep_their_suffix(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(photos / "one.jpg")
    out = tmp_path / "out"
    assert main(["segment", str(photos), "--words", "grass, sky", "--out", str(out), "--format", "npz"]) == 0
    assert {path.name for path in out.glob("one*")} == {"one.png.npz", "one.jpg.npz"}


def test_batches_give_the_same_labels_as_single_photographs(photos: Path, tmp_path: Path) -> None:
    command = ["segment", str(photos), "--words", "grass, sky, person", "--format", "png", "--dtype", "fp32"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    assert main([*command, "--out", str(tmp_path / "b"), "--batch-size", "3"]) == 0
    for path in (tmp_path / "a").rglob("*.png"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert (np.asarray(Image.open(path)) == np.asarray(Image.open(other))).mean() > 0.999


def test_a_threshold_leaves_pixels_unlabelled(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["segment", str(photos / "one.png"), "--words", "grass, sky", "--threshold", "1", "--out", str(out)]
    assert main(command) == 0
    assert (lexiseg.Segmentation.load(out / "one.png").labels == 255).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--words", "a, b", "--words-file", "x.txt"], "both were given"),
        ([], "neither was given"),
        (["--words", "road, road"], "'road' is given twice"),
        (["--words", "a, b", "--model", "maskclip/mimi"], "did you mean 'maskclip/mini'"),
        (["--words", "a, b", "--set", "key_smoothin=true"], "did you mean 'key_smoothing"),
        (["--words", "a, b", "--set", "key_smoothing"], "write key=value"),
        (["--words", "a, b", "--templates", "imagenet"], "did you mean 'imagenet80'"),
        (["--words", "a, b", "--device", "tpu"], "tpu"),
        (["--words", "a, b", "--dtype", "fp8"], "fp8"),
        (["--words", "a, b", "--refine", "crff"], "crf"),
        (["--words-file", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_a_users_mistake_is_a_sentence_and_exit_code_1(
    arguments: list[str], said: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["segment", str(photos / "one.png"), "--out", str(tmp_path / "out"), *arguments])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1
    assert error.startswith("error: ")
    assert said in error


def test_an_output_that_cannot_be_written_is_said_per_file(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    assert main(["segment", str(photos / "one.png"), "--words", "grass", "--out", str(blocked)]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert blocked.read_text() == "a file where the folder should be"


def test_photographs_above_the_pixel_limit_are_refused_before_decoding(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos / "one.png"), "--words", "grass", "--out", str(tmp_path / "out")]
    assert main([*command, "--max-megapixels", "0.001"]) == 1
    assert "one.png" in capsys.readouterr().err
    assert main([*command, "--max-megapixels", "0.003"]) == 0


def test_a_word_that_the_model_never_saw_is_named_once_for_all_photographs(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos), "--words", "grass, parliament", "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == 0
    captured = capsys.readouterr()
    (warning,) = json.loads(captured.out)["warnings"]
    assert warning.startswith("'parliament' is ")
    assert captured.err.count(warning) == 1
    assert lexiseg.Segmentation.load(tmp_path / "out" / "one.png").warnings == (warning,)


@pytest.mark.slow
def test_two_processes_write_and_say_what_one_does(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_text("this is no picture")
    (photos / "empty.png").write_bytes(b"")
    command = ["segment", str(photos), "--words", "grass, parliament", "--format", "png", "--format", "npz", "--json"]
    said, errors = [], []
    for count in (1, 2):
        assert main([*command, "--out", str(tmp_path / "out"), "--processes", str(count), "--overwrite"]) == 1
        captured = capsys.readouterr()
        said.append(json.loads(captured.out))
        errors.append(captured.err)
        (tmp_path / "out").rename(tmp_path / str(count))
    assert said[0] == said[1]
    assert errors[0] == errors[1]
    assert len(said[0]["results"]) == 3
    for path in (tmp_path / "1").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "2" / path.relative_to(tmp_path / "1")).read_bytes()
    capsys.readouterr()
    assert main(["segment", str(photos), "--words", "a, b", "--model", "maskclip/mimi", "--processes", "2"]) == 1
    assert "did you mean 'maskclip/mini'" in capsys.readouterr().err
