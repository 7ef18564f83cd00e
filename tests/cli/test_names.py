"""Messages of the library in the words of the command line."""

from __future__ import annotations

import pytest
import typer

from lexiseg.cli import names
from lexiseg.cli.main import app

ROOT = typer.main.get_command(app)


def said(text: str, *command: str) -> str:
    with names.running(ROOT, command):
        return names.in_options(text)


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("segment", "raise max_pixels if you trust it", "raise --max-megapixels if you trust it"),
        ("segment", "batch_size must be 1 or more, got 0", "--batch-size must be 1 or more, got 0"),
        ("segment", "batch_size=0 is wrong", "--batch-size 0 is wrong"),
        ("segment", "try dtype='fp32'", "try --dtype fp32"),
        ("segment", "use dtype='auto', say", "use --dtype auto, say"),
        ("segment", "give weights='a b'", "give --weights 'a b'"),
        ("segment", "name some with weights=", "name some with --weights"),
        ("segment", "give weights=a/b.pt.", "give --weights a/b.pt."),
        ("segment", "a smaller short_side, or background_threshold=0", "a smaller --short-side, or --threshold 0"),
        ("segment", "where you trust it (allow_pickle=True)", "where you trust it (--set allow_pickle=true)"),
        ("convert", "where you trust it (allow_pickle=True)", "where you trust it (--allow-pickle)"),
        ("segment", "overwrite=True or overwrite=False", "--overwrite or --skip-existing"),
        ("evaluate", "no folder was given; give data=FOLDER", "no folder was given; give --data FOLDER"),
        ("list", "needs weights=PATH of RN50.pt", "needs --weights PATH of RN50.pt"),
        ("bench", "repeats=0 cannot be measured", "--images 0 cannot be measured"),
        ("data pack", "max_bad_fraction is 2", "--max-bad-fraction is 2"),
    ],
)
def test_an_argument_becomes_the_option_of_the_command(command: str, text: str, expected: str) -> None:
    assert said(text, *command.split(), "x", "--json") == expected


@pytest.mark.parametrize(
    "text",
    [
        "the weights of this model are damaged; the data, words and threshold too",
        "'weights=x' is not a setting",
        "there is no /data/weights=3/batch_size/a.jpg",
        '--set words="cat" and --set batch_size=3',
        "use --batch-size or --weights=x",
        "HTTPSConnectionPool(host='example.com', port=443)",
        "my_batch_size and batch_sizes",
    ],
)
def test_plain_words_paths_and_options_stay(text: str) -> None:
    assert said(text, "segment") == text


def test_an_option_that_the_command_does_not_have_is_not_invented() -> None:
    assert said("raise max_pixels", "evaluate") == "raise max_pixels"
    assert said("raise max_pixels") == "raise max_pixels"
    assert names.in_options("raise max_pixels, weights=") == "raise max_pixels, weights="  # no command runs


def test_every_alias_is_an_option_of_some_command() -> None:
    commands = [*ROOT.commands.values(), *ROOT.commands["data"].commands.values()]
    options = {parameter.name for command in commands for parameter in command.params}
    assert set(names.ALIASES.values()) <= options
