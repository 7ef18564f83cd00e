"""`lexiseg demo`, `list` and `doctor`: what a newcomer types first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import lexiseg
from lexiseg import catalog
from lexiseg.cli import demo, doctor
from lexiseg.cli.main import main


def test_demo_labels_every_bundled_photograph_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for name in demo.PHOTOGRAPHS:
        overlay = tmp_path / f"{Path(name).stem}.overlay.png"
        assert str(overlay) in text
        result = lexiseg.Segmentation.load(tmp_path / f"{Path(name).stem}.png")
        assert result.labels.shape[::-1] == Image.open(demo.photograph(name)).size
        assert Image.open(overlay).size[0] >= result.labels.shape[1]
        assert sum(result.areas().values()) == pytest.approx(1)
    assert main(["demo", "--out", str(tmp_path)]) == 0  # its own results may be replaced


def test_demo_never_replaces_a_file_of_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "coffee.png").write_bytes(b"mine")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "coffee.png exists and lexiseg did not write it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["coffee.png"]


def test_demo_as_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [result["photograph"] for result in report["results"]] == list(demo.PHOTOGRAPHS)


def test_the_table_of_the_demo_ends_with_what_is_unlabelled() -> None:
    found = {"photograph": "a.png", "areas": {"cat": 0.2, "sky": 0.5}, "unlabelled_area": 0.3}
    rows = [("a.png", "sky", "50.0 %"), ("", "cat", "20.0 %"), ("", "unlabelled", "30.0 %")]
    assert list(demo._rows([found])) == rows
    assert list(demo._rows([found | {"unlabelled_area": 0}])) == rows[:2]


def test_the_embedded_model_finds_the_cat() -> None:
    result = lexiseg.load("maskclip/mini", dtype="fp32").segment(demo.photograph("chelsea.png"), "cat, grass, sky, car")
    assert result.found[0] == "cat"
    assert result.area("cat") > 0.5


def test_list_names_every_model_as_the_catalog_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["models"]) == list(catalog.models())


@pytest.mark.parametrize("what", ["models", "recipes", "benchmarks", "prompts"])
def test_every_list_has_a_line_about_each_entry(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)[what]
    assert entries
    assert all(entries.values())


def test_an_unknown_list_is_an_error_with_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "benchmark"]) == 1
    assert "did you mean 'benchmarks'" in capsys.readouterr().err


def test_doctor_finds_this_installation_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["model"]["state"] == "ok"
    assert findings["torchvision"]["state"] in ("ok", "note")


def test_doctor_says_to_remove_a_torchvision_that_does_not_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (tmp_path / "torchvision-0.1.dist-info").mkdir()
    (tmp_path / "torchvision-0.1.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = doctor._torchvision()
    assert finding.state == "problem"
    assert "pip uninstall -y torchvision" in finding.text


def test_doctor_turns_an_unforeseen_failure_into_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(doctor, "_machine", broken)
    found = [finding for finding in doctor.examine() if finding.state == "problem"]
    assert len(found) == 1
    assert "oh" in found[0].text
