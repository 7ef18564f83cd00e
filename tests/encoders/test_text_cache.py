from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lexiseg import files
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import LANES, MOST_FILES, TextCache, TextMemory, fold_tensors
from lexiseg.files import cache_folder

KEY = TextCache.key("model", Prompts(("a {}.",)))


def vectors(*words: str) -> dict[str, Tensor]:
    """A vector that can be told from the word."""
    return {word: torch.full((4,), float(int(hashlib.md5(word.encode()).hexdigest()[:4], 16))) for word in words}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[word], expected[word]) for word in expected)


@pytest.fixture
def cache(tmp_path: Path) -> TextCache:
    return TextCache(tmp_path)


def files_of(cache: TextCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.safetensors"))


def test_what_was_written_is_read_and_nothing_else(cache: TextCache) -> None:
    assert cache.read(KEY, ["cat"]) == {}
    cache.write(KEY, vectors("cat", "größer", "two words"))
    cache.write(KEY, vectors("dog"))
    assert same(cache.read(KEY, ["cat", "dog", "größer", "bird"]), vectors("cat", "dog", "größer"))


def test_another_model_or_other_prompts_have_other_vectors(cache: TextCache) -> None:
    cache.write(KEY, vectors("cat"))
    assert cache.read(TextCache.key("model", Prompts(("the {}.",))), ["cat"]) == {}
    assert cache.read(TextCache.key("other", Prompts(("a {}.",))), ["cat"]) == {}
    assert TextCache.key("m", Prompts(("a {}", "{}"))) != TextCache.key("m", Prompts(("{}", "a {}")))


def test_vectors_are_kept_to_the_bit(cache: TextCache) -> None:
    vector = torch.randn(512)
    cache.write(KEY, {"cat": vector})
    assert torch.equal(cache.read(KEY, ["cat"])["cat"], vector)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_file_is_ignored_and_written_again(cache: TextCache, damage: str) -> None:
    cache.write(KEY, vectors("cat"))
    (path,) = files_of(cache)
    content = path.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"flip": flipped, "cut": content[:-5], "empty": b"", "text": b"hello"}[damage])
    assert cache.read(KEY, ["cat"]) == {}
    cache.write(KEY, vectors("cat"))
    assert same(cache.read(KEY, ["cat"]), vectors("cat"))


def test_many_small_files_are_merged_and_lose_nothing(cache: TextCache) -> None:
    words = [f"word {number}" for number in range(3 * MOST_FILES)]
    for word in words:
        cache.write(KEY, vectors(word))
    assert len(files_of(cache)) <= MOST_FILES
    assert same(cache.read(KEY, words), vectors(*words))


WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_text_cache import KEY, vectors
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
cache, name = TextCache(sys.argv[2]), sys.argv[3]
Path(sys.argv[2], "ready-" + name).touch()
while not Path(sys.argv[2], "go").exists():
    time.sleep(0.001)
for number in range(60):
    cache.write(KEY, vectors(f"{name} {number}", f"both {number}"))
    cache.read(KEY, [f"{name} {number}"])
"""


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, here, str(tmp_path), name], stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("ready-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    for process in processes:
        assert process.wait(120) == 0, process.stderr and process.stderr.read()
        assert process.stderr is not None
        process.stderr.close()
    words = [f"{name} {number}" for name in ("one", "two", "both") for number in range(60)]
    assert same(TextCache(tmp_path).read(KEY, words), vectors(*words))
    assert not list(tmp_path.rglob("*.tmp*"))


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = TextCache(tmp_path / "file")
    cache.write(KEY, vectors("cat"))
    assert cache.read(KEY, ["cat"]) == {}


def test_847_words_are_looked_up_in_50_milliseconds(cache: TextCache) -> None:
    words = [f"word {number}" for number in range(847)]
    cache.write(KEY, {word: torch.randn(512) for word in words})
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert len(cache.read(KEY, words)) == 847
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


def test_the_folder_is_decided_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LEXISEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(files.Path, "home", lambda: tmp_path)
    for system, expected in (
        ("linux", tmp_path / ".cache" / "lexiseg"),
        ("darwin", tmp_path / "Library" / "Caches" / "lexiseg"),
        ("win32", tmp_path / "AppData" / "Local" / "lexiseg" / "Cache"),
    ):
        monkeypatch.setattr(files.sys, "platform", system)
        assert cache_folder() == expected
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "lexiseg"
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert TextCache().folder == tmp_path / "own" / "text"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("numbers", [7, 5 * LANES + 11])
def test_folding_tells_any_change_of_the_numbers(dtype: torch.dtype, numbers: int) -> None:
    tensor = torch.randn(numbers, generator=torch.Generator().manual_seed(0)).to(dtype)
    folded = fold_tensors({"weight": tensor})
    assert fold_tensors({"weight": tensor.clone()}) == folded
    seen = {folded, fold_tensors({"other": tensor}), fold_tensors({"weight": tensor[:-1]})}
    for place in (0, numbers // 2, numbers - 1):
        changed = tensor.clone()
        changed[place] += 1
        seen.add(fold_tensors({"weight": changed}))
    seen.add(fold_tensors({"weight": tensor.flip(0)}))
    seen.add(fold_tensors({"weight": tensor.view(1, -1)}))
    assert len(seen) == 8


def test_folding_tells_rows_that_changed_places() -> None:
    rows = torch.randn(8, LANES)
    assert fold_tensors({"w": rows}) != fold_tensors({"w": rows[[1, 0, 2, 3, 4, 5, 6, 7]]})
    assert fold_tensors({"w": rows}) != fold_tensors({"w": rows + 0.0 * rows + torch.eye(8, LANES)})


def test_folding_takes_scalars_and_nothing() -> None:
    assert fold_tensors({"scale": torch.tensor(1.0)}) != fold_tensors({"scale": torch.tensor(2.0)})
    assert fold_tensors({"none": torch.zeros(0)}) != fold_tensors({})


def test_a_memory_gives_back_what_it_was_given_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    memory = TextMemory()
    memory.write(KEY, vectors("cat", "dog"))
    assert same(memory.read(KEY, ["dog", "cat", "bird"]), vectors("cat", "dog"))
    assert memory.read("another key", ["cat"]) == {}
    assert not (tmp_path / "cache").exists()


def test_a_memory_keeps_the_words_that_were_asked_for_last() -> None:
    memory = TextMemory(most=3)
    memory.write(KEY, vectors("a", "b", "c"))
    memory.read(KEY, ["a"])
    memory.write(KEY, vectors("d"))
    assert memory.read(KEY, "abcd").keys() == {"a", "c", "d"}
    memory.write(KEY, vectors(*"efghi"))
    assert memory.read(KEY, "abcdefghi").keys() == {"g", "h", "i"}
