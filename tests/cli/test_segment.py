"""The main job from the command line, with the embedded model on small photographs."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

import lexiseg
from lexiseg.cli import common
from lexiseg.cli.main import main
from lexiseg.cli.outputs import Format
from lexiseg.errors import OutputError


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
    stems = ("one.png", "two", "inner/three.png")
    assert written == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".json", ".overlay.png")}
    result = lexiseg.Segmentation.load(out / "one.png.png")
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
    assert (out / "one.png.png").is_file()


def test_the_same_command_again_keeps_what_is_there(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos / "two.jpg"), "--words", "grass, sky", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    before = (tmp_path / "out" / "two.png").stat().st_mtime_ns
    for flag in ([], ["--skip-existing"]):
        assert main([*command, *flag]) == 0
        assert "1 skipped, their results exist" in capsys.readouterr().err
    assert (tmp_path / "out" / "two.png").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "other",
    [["--words", "grass, car"], ["--model", "maskclip/tiny"], ["--threshold", "0.2"], ["--set", "long_side=128"]],
    ids=["words", "model", "threshold", "setting"],
)
def test_results_of_another_request_are_neither_kept_nor_replaced(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: list[str]
) -> None:
    command = ["segment", str(photos / "two.jpg"), "--words", "grass, sky", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for flag in ([], ["--skip-existing"]):
        assert main([*command, *other, *flag]) == 1
        assert "was made with other words, model, settings" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert main([*command, *other, "--overwrite"]) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} != before


def test_a_photograph_that_changed_is_not_taken_for_the_old_one(photos: Path, tmp_path: Path) -> None:
    command = ["segment", str(photos / "two.jpg"), "--words", "grass, sky", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    Image.new("RGB", (20, 33)).save(photos / "two.jpg")
    assert main(command) == 1
    assert main([*command, "--overwrite"]) == 0


def test_a_label_map_that_was_edited_is_kept_and_what_is_missing_is_added(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos / "two.jpg"), "--words", "grass, sky", "--out", str(tmp_path / "out")]
    assert main([*command, "--format", "png"]) == 0
    label_map = tmp_path / "out" / "two.png"
    label_map.write_bytes(b"corrected by hand")
    assert main([*command, "--skip-existing"]) == 0
    assert "another program edited" in capsys.readouterr().err
    assert label_map.read_bytes() == b"corrected by hand"
    assert (tmp_path / "out" / "two.overlay.png").is_file()
    assert main([*command, "--overwrite"]) == 0
    assert label_map.read_bytes() != b"corrected by hand"


@pytest.mark.parametrize("flag", [[], ["--skip-existing"], ["--overwrite"]])
@pytest.mark.parametrize("name", ["two.png", "two.json", "two.overlay.png", "two.npz", "two.coco.json"])
def test_a_file_that_lexiseg_did_not_write_is_never_replaced(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, flag: list[str]
) -> None:
    (photos / name).write_bytes(b"{}")
    formats = [part for one in ("png", "overlay", "npz", "coco-rle") for part in ("--format", one)]
    command = ["segment", str(photos / "two.jpg"), "--words", "grass", "--out", str(photos), *formats, *flag]
    before = sorted(photos.iterdir())
    assert main(command) == 1
    assert f"{name} exists and lexiseg did not write it" in capsys.readouterr().err
    assert (photos / name).read_bytes() == b"{}"
    assert sorted(photos.iterdir()) == before


def test_a_photograph_is_never_the_place_of_a_result(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "two.png").write_bytes((photos / "one.png").read_bytes())
    for flag in ([], ["--skip-existing"], ["--overwrite"]):
        assert main(["segment", str(photos), "--words", "grass", "--out", str(photos), *flag]) == 1
        error = capsys.readouterr().err
        assert (
            f"the result of {photos / 'two.jpg'} would take the place of the photograph {photos / 'two.png'}" in error
        )
    assert (photos / "two.png").read_bytes() == (photos / "one.png").read_bytes()


def test_results_are_not_taken_for_photographs(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(photos), "--words", "grass", "--out", str(photos)]) == 0
    capsys.readouterr()
    assert main(["segment", str(photos), "--words", "grass", "--out", str(tmp_path / "out"), "--json"]) == 0
    captured = capsys.readouterr()
    found = {Path(result["photo"]).name for result in json.loads(captured.out)["results"]}
    assert found == {"one.png", "two.jpg", "three.png"}
    left_out = [one["reason"] for one in json.loads(captured.out)["left_out"]]
    assert left_out == ["written by lexiseg"] * 6
    assert main(["segment", str(photos / "two.png"), "--words", "grass", "--out", str(tmp_path / "out")]) == 1
    assert "two.png is a result that lexiseg wrote" in capsys.readouterr().err


def test_without_out_results_of_other_words_get_the_next_free_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ("grass", "sky", "grass"):
        assert main(["segment", str(photos / "two.jpg"), "--words", words, "--format", "png"]) == 0
    assert "writing to labelled-2" in capsys.readouterr().err
    assert lexiseg.Segmentation.load("labelled/two.png").names == ("grass",)
    assert lexiseg.Segmentation.load("labelled-2/two.png").names == ("sky",)
    assert not Path("labelled-3").exists()


def test_a_photograph_that_is_named_twice_is_labelled_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    command = ["segment", "two.jpg", str(photos / "two.jpg"), "--words", "grass", "--out", "out", "--json"]
    assert main(command) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 1


def test_a_pattern_keeps_the_folders_below_it(photos: Path, tmp_path: Path) -> None:
    (photos / "inner" / "two.jpg").write_bytes((photos / "two.jpg").read_bytes())
    command = ["segment", str(photos / "**" / "two.jpg"), "--words", "grass", "--format", "png"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert found == {"two.png", "inner/two.png"}


def test_two_photographs_for_one_name_are_refused_before_the_model_is_loaded(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "inner" / "two.jpg").write_bytes((photos / "two.jpg").read_bytes())
    both = [str(photos / "two.jpg"), str(photos / "inner" / "two.jpg")]
    assert main(["segment", *both, "--words", "grass", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "would both be written as" in error
    assert "maskclip/mini is small" not in error


def test_a_typo_in_the_second_model_is_found_before_the_first_one_works(photos: Path, tmp_path: Path) -> None:
    models = ["--model", "maskclip/tiny", "--model", "maskclip/tinny"]
    assert main(["segment", str(photos), "--words", "grass", "--out", str(tmp_path / "out"), *models]) == 1
    assert not (tmp_path / "out").exists()


def test_a_full_disk_stops_the_run_at_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise OutputError("cannot write x: No space left on device") from OSError(28, "No space left on device")

    monkeypatch.setattr(lexiseg.Segmentation, "save", full_disk)
    assert main(["segment", str(photos), "--words", "grass", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1] == "error: cannot write x: No space left on device"
    assert "failed:" not in error


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
    assert (out / "maskclip-tiny" / "one.png.png").is_file()
    assert (out / "maskclip-tiny-rn" / "one.png.png").is_file()


def test_a_name_depends_on_the_photograph_alone(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(photos / "one.jpg")
    command = ["segment", "--words", "grass, sky", "--format", "npz"]
    assert main([*command, str(photos), "--out", str(tmp_path / "all")]) == 0
    assert {path.name for path in (tmp_path / "all").glob("one*")} == {"one.png.npz", "one.npz"}
    assert main([*command, str(photos / "one.jpg"), "--out", str(tmp_path / "alone")]) == 0
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {"one.npz"}


def test_batches_give_the_same_labels_as_single_photographs(photos: Path, tmp_path: Path) -> None:
    command = ["segment", str(photos), "--words", "grass, sky, person", "--format", "png", "--dtype", "fp32"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    assert main([*command, "--out", str(tmp_path / "b"), "--batch-size", "3"]) == 0
    for path in (tmp_path / "a").rglob("*.png"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert (np.asarray(Image.open(path)) == np.asarray(Image.open(other))).mean() > 0.999


def test_a_threshold_leaves_pixels_unlabelled(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["segment", str(photos / "one.png"), "--words", "grass, sky", "--threshold", "1", "--out", str(out)]
    assert main(command) == 0
    assert (lexiseg.Segmentation.load(out / "one.png.png").labels == 255).any()
    assert "unlabelled 1" in capsys.readouterr().out


def test_the_share_of_unlabelled_pixels_is_in_the_json(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos / "two.jpg"), "--words", "grass, sky", "--threshold", "1", "--json"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["unlabelled_area"] == lexiseg.Segmentation.load(tmp_path / "out" / "two.png").unlabelled_area > 0
    assert sum(result["areas"].values()) + result["unlabelled_area"] == pytest.approx(1)


def test_grey_label_maps_stand_beside_those_with_a_palette(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["segment", str(photos / "two.jpg"), "--words", "grass, sky", "--out", str(out)]
    assert main([*command, "--format", "grey-png", "--format", "png"]) == 0
    assert {path.name for path in out.iterdir()} == {"two.png", "two.json", "two.grey.png", "two.grey.json"}
    grey, palette = (lexiseg.Segmentation.load(out / name) for name in ("two.grey.png", "two.png"))
    assert np.array_equal(grey.labels, palette.labels)
    assert [Image.open(out / name).mode for name in ("two.grey.png", "two.png")] == ["L", "P"]
    assert main([*command, "--format", "grey-png"]) == 0  # known as a result of the same command, and kept


def test_a_grey_label_map_never_replaces_a_file_that_lexiseg_did_not_write(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "two.grey.json").write_text("{}")
    command = ["segment", str(photos / "two.jpg"), "--words", "grass, sky", "--out", str(out), "--format", "grey-png"]
    assert main(command) == 1
    assert "lexiseg did not write it" in capsys.readouterr().err
    assert (out / "two.grey.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--words", "a, b", "--words-file", "x.txt"], "both were given"),
        ([], "neither was given"),
        (["--words", "road, road"], "'road' is given twice"),
        (["--words", "a, b", "--model", "maskclip/mimi"], "did you mean 'maskclip/mini'"),
        (["--words", "a, b", "--set", "key_smoothin=true"], "did you mean 'key_smoothing"),
        (["--words", "a, b", "--set", "key_smoothing"], "write key=value"),
        (["--words", "a, b", "--prompts", "imagenet"], "did you mean 'imagenet80'"),
        (["--words", "a, b", "--device", "tpu"], "tpu"),
        (["--words", "a, b", "--dtype", "fp8"], "fp8"),
        (["--words", "a, b", "--refine", "crff"], "crf"),
        (["--words-file", "nowhere.txt"], "nowhere.txt"),
        (["--words", "classes.txt"], "read it with --words-file"),
        (["--words", "road, car; sky"], "commas and semicolons"),
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


def test_a_place_that_cannot_be_written_is_refused_first(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    assert main(["segment", str(photos / "one.png"), "--words", "grass", "--out", str(blocked)]) == 1
    error = capsys.readouterr().err
    understood, refused = error.splitlines()
    assert understood == "1 class: grass"
    assert refused.startswith("error: cannot write")
    assert blocked.read_text() == "a file where the folder should be"


def test_photographs_above_the_pixel_limit_are_refused_before_decoding(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos / "one.png"), "--words", "grass", "--out", str(tmp_path / "out")]
    assert main([*command, "--max-megapixels", "0.001"]) == 1
    assert "one.png" in capsys.readouterr().err
    assert main([*command, "--max-megapixels", "0.003"]) == 0


def test_the_limit_is_said_as_the_option(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["segment", str(photos / "one.png"), "--words", "grass", "--out", str(tmp_path / "out")]
    assert main([*command, "--max-megapixels", "0.001"]) == 1
    said = capsys.readouterr().err
    assert "raise --max-megapixels if you trust it" in said
    assert "max_pixels" not in said


@pytest.mark.parametrize("limit", ["inf", "-inf", "nan", "0", "-1", "1e9"])
def test_a_limit_that_is_none_is_bad_usage_with_the_range(
    limit: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(photos), "--words", "grass", f"--max-megapixels={limit}"]) == 2
    assert "give a number from 0.001 to 100,000, got" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "command",
    [
        ["segment", "x.jpg", "--words", "a", "--threshold", "nan"],
        ["evaluate", "maskclip/mini", "--on", "folder", "--data", "x", "--threshold", "nan"],
        ["data", "pack", "x", "y", "--max-bad-fraction", "nan"],
    ],
)
def test_nan_is_not_a_number(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert "less than or equal to 1" in capsys.readouterr().err


def test_what_is_left_out_of_a_folder_is_counted_in_the_last_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lexiseg.data.finding.SUFFIXES", (".jpg", ".png"))
    for name in ("a.HEIC", "b.heic", "c.jxl", "d.txt"):
        (photos / name).touch()
    (photos / "loop").symlink_to(photos)
    command = ["segment", str(photos), "--words", "grass, sky", "--format", "png"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == (
        f"3 labelled in {tmp_path / 'out'}, left out: 2 HEIC (run: pip install pillow-heif), "
        "1 JPEG XL (run: pip install pillow-jxl-plugin), 1 linked folders that are listed already"
    )
    assert main([*command, "--out", str(tmp_path / "again"), "--json"]) == 0
    left_out = json.loads(capsys.readouterr().out)["left_out"]
    assert {"path": str(photos / "a.HEIC"), "reason": "HEIC (run: pip install pillow-heif)"} in left_out


def test_a_note_on_photographs_is_printed_once_and_then_counted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (20, 20)).save(photos / name)
    command = ["segment", *(str(photos / f"{name}.png") for name in "abc"), "--words", "grass, sky"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "black" in line]
    note = "every pixel is black, so its labels mean nothing"
    assert notes == [f"note: {photos / 'a.png'}: {note}", f"note: 2 more photographs: {note}"]
    assert lexiseg.Segmentation.load(tmp_path / "out" / "c.png.png").warnings == (f"{photos / 'c.png'}: {note}",)


def test_a_terminal_gets_whole_lines_above_the_bar(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    command = ["segment", str(photos), "--words", "grass, parliament", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    shown = capsys.readouterr()
    lines = [line.split("\r")[-1] for line in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.err).split("\n")]
    (note,) = [line for line in lines if "note:" in line]
    assert note.startswith("note: the model has not learned 'parliament'")
    done = [line for line in lines if " -> " in line]
    assert len(done) == 3
    assert all(line.startswith(str(photos)) and re.search(r"\.png  .*\d%", line) for line in done)
    assert "3/3" in shown.err
    assert f"3 labelled in {tmp_path / 'out'}" in shown.err + shown.out


def test_a_name_that_is_not_utf8_is_labelled_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"caf\xe9")
    Image.new("RGB", (20, 20)).save(tmp_path / f"{name}.png")  # black, so that a note names it too
    formats = [word for kind in Format for word in ("--format", kind)]
    command = ["segment", str(tmp_path / f"{name}.png"), "--words", "grass, sky", *formats]
    assert main([*command, "--model", "maskclip/tiny", "--out", str(tmp_path / "out")]) == 0
    results = [lexiseg.Segmentation.load(tmp_path / "out" / f"{name}.png.{kind}") for kind in ("png", "npz")]
    assert [result.warnings[0].partition(": ")[0] for result in results] == [str(tmp_path / f"{name}.png")] * 2
    assert "1 labelled" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_leaves_no_half_of_a_result(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_bytes(path: Path, data: bytes) -> int:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        return real(path, data)

    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    command = ["segment", str(photos / "one.png"), "--words", "grass, sky", "--model", "maskclip/tiny"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 130
    assert list((tmp_path / "out").iterdir()) == []


def test_words_that_are_nowhere_get_one_note_that_says_how_to_ask_for_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        Image.fromarray(skimage.data.astronaut()).resize((256, 256)).save(tmp_path / f"{name}.png")
    command = ["segment", *(str(tmp_path / f"{name}.png") for name in "abc"), "--words", "sheep, car"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "fit nearly all of it better" in line]
    assert len(notes) == 2
    assert notes[0].startswith(f"note: {tmp_path / 'a.png'}: common words (sky, wall, tree ...)")
    assert "--background auto" in notes[0]
    assert notes[1].startswith("note: 2 more photographs: ")
    assert main([*command, "--out", str(tmp_path / "rest"), "--background", "auto"]) == 0
    assert "fit nearly all" not in capsys.readouterr().err


def test_transparent_pixels_are_unlabelled_in_what_is_written(photos: Path, tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (30, 40, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[:7, :9, 3] = 0
    Image.fromarray(rgba).save(photos / "cut.png")
    command = ["segment", str(photos / "cut.png"), "--words", "grass, sky", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert np.array_equal(lexiseg.Segmentation.load(tmp_path / "out" / "cut.png.png").labels == 255, rgba[..., 3] == 0)


@pytest.mark.parametrize(
    ("photo", "said"),
    [
        ("https://example.com/a.jpg", "is a URL, and lexiseg reads local files; download it first"),
        ("nowhere.jpg", "there is no nowhere.jpg; check the spelling"),
    ],
)
def test_photographs_that_are_not_there_are_said_before_the_model_is_loaded(
    photo: str, said: str, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexiseg, "load", lambda *_, **__: pytest.fail("loaded"))
    assert main(["segment", str(photos / "one.png"), photo, "--words", "grass"]) == 1
    assert said in capsys.readouterr().err


def test_what_was_understood_of_a_file_is_said_before_anything_is_done(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "classes.json"
    words.write_text('{"12": ["person", "pedestrian"], "7": "road"}', encoding="utf-16")
    command = ["segment", str(photos / "one.png"), "--words-file", str(words), "--background", "auto"]
    assert main([*command, "--model", "maskclip/tiny", "--out", str(tmp_path / "out"), "--json"]) == 0
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)["results"][0]["areas"]) == ["road", "person"]
    first = captured.err.splitlines()[0]
    assert first.startswith(
        "2 classes: road, person (person|pedestrian); background: sky, wall, tree, wood, grass, sea"
    )


def test_a_long_list_of_words_is_cut(tmp_path: Path) -> None:
    line = common.understood(lexiseg.Vocabulary([f"word {place}" for place in range(300)]))
    assert line.startswith("300 classes: word 0, word 1, ")
    assert line.endswith(", word 11 and 288 more")


def test_one_class_without_a_background_takes_every_pixel_and_the_note_says_how_to_ask_for_the_rest(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos / "one.png"), "--words", "sheep", "--out", str(tmp_path / "out"), "--overwrite"]
    assert main([*command, "--json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert "every pixel is 'sheep'" in warning
    assert "--background auto" in warning
    assert main([*command, "--json", "--background", "auto"]) == 0
    captured = json.loads(capsys.readouterr().out)
    assert captured["warnings"] == []
    assert captured["results"][0]["unlabelled_area"] > 0


def test_many_words_that_the_model_never_saw_are_one_note(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"zqx{place}" for place in range(300)))
    assert main(["segment", str(photos / "one.png"), "--words-file", str(words), "--out", str(tmp_path / "out")]) == 0
    error = capsys.readouterr().err
    assert "has not learned 300 of the 300 words" in error
    assert len(error.splitlines()) < 10


def test_a_word_that_the_model_never_saw_is_named_once_for_all_photographs(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", str(photos), "--words", "grass, parliament", "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == 0
    captured = capsys.readouterr()
    (warning,) = json.loads(captured.out)["warnings"]
    assert warning.startswith("the model has not learned 'parliament'")
    assert captured.err.count(warning) == 1
    assert lexiseg.Segmentation.load(tmp_path / "out" / "one.png.png").warnings == (warning,)


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
