"""The files that a public host reads: they parse, and what they name exists."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import lexiseg

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: str | Path) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_workflow_runs_the_one_script_that_decides() -> None:
    workflow = read(".github/workflows/ci.yml")
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == ["bash .ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_dependabot_looks_at_the_packages_and_at_the_workflow() -> None:
    updates = read(".github/dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions"}
    assert all(update["directory"] == "/" and update["schedule"]["interval"] for update in updates)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_issue_forms_are_well_formed_and_ask_for_the_doctor(form: Path) -> None:
    content = read(form)
    assert content["name"]
    assert content["description"]
    assert {part["type"] for part in content["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    asked = [part for part in content["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in asked}) == len(asked)
    assert any("lexiseg doctor --json" in part["attributes"]["label"] for part in asked)


def test_there_are_forms_for_faults_and_for_questions() -> None:
    assert [form.stem for form in FORMS] == ["bug", "question-or-idea"]


def hooks() -> dict[str, dict[str, Any]]:
    return {hook["id"]: hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]}


def test_hooks_need_nothing_but_the_installed_tools() -> None:
    assert [repo["repo"] for repo in read(".pre-commit-config.yaml")["repos"]] == ["local"]
    assert {hook["language"] for hook in hooks().values()} == {"system", "pygrep"}
    assert hooks()["ruff-check"]["entry"] == "ruff check"
    assert hooks()["ruff-format"]["entry"] == "ruff format --check"


def test_the_size_hook_stops_files_above_20_mb(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    with large.open("wb") as file:
        file.truncate(20_000_001)
    entry = hooks()["file-size"]["entry"]
    assert subprocess.run(f"{entry} {small}", shell=True).returncode == 0
    stopped = subprocess.run(f"{entry} {small} {large}", shell=True, capture_output=True, text=True)
    assert stopped.returncode == 1
    assert "large is larger than 20 MB" in stopped.stdout


def test_the_path_hook_stops_paths_of_one_machine() -> None:
    pattern = re.compile(hooks()["machine-paths"]["entry"])
    # put together from parts, since the hook reads this file too
    stopped = ("see " + "/".join(["", "home", "anna", "photos"]), "/".join(["", "Users", "anna"]), '"/root' + '/x"')
    passed = ("~/datasets", "docs/home/a", "/mnt/coco", "/".join(["https:", "", "home.org", "work", "a"]))
    assert [path for path in stopped if not pattern.search(path)] == []
    assert [path for path in passed if pattern.search(path)] == []


def test_no_file_of_the_repository_holds_a_path_of_one_machine() -> None:
    pattern = re.compile(hooks()["machine-paths"]["entry"])
    folders = [ROOT / name for name in ("src", "tests", "docs", "tools", "studies", "benchmarks", ".github", ".ci")]
    places = [*ROOT.glob("*"), *(path for folder in folders for path in folder.rglob("*"))]
    files = [path for path in places if path.suffix in (".py", ".md", ".json", ".yml", ".toml", ".cff")]
    assert [path for path in files if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_one_version_is_written_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert lexiseg.__version__ == project["version"] == read("CITATION.cff")["version"]


def test_every_paper_that_a_method_implements_is_cited() -> None:
    titles = {reference["title"] for reference in read("CITATION.cff")["references"]}
    for method in sorted((ROOT / "src" / "lexiseg" / "methods").glob("[!_]*.py")):
        cited = re.findall(r'"([^"]{20,})",\s+(?:ECCV|CVPR|ICCV|ICML|NeurIPS|ICLR)', method.read_text(encoding="utf-8"))
        assert {" ".join(title.split()) for title in cited} <= titles, method.name
    assert len(titles) >= 3


def test_the_changelog_has_a_section_for_what_is_not_released() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased = text.split("\n## ")[1]
    assert unreleased.startswith("Unreleased")
    assert re.findall(r"^### (.+)$", unreleased, re.MULTILINE) == ["Added", "Changed", "Fixed"]
