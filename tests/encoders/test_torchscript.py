from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lexiseg.encoders.torchscript import is_archive, read_archive
from lexiseg.errors import WeightsError


class Inner(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 2)
        self.names = ["a", "b"]
        self.table = {"x": 1.0}
        self.plain = torch.arange(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.table["x"] * len(self.names)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.blocks = nn.Sequential(Inner(4), nn.Identity()).half()
        self.brain = nn.Parameter(torch.randn(2, 3).bfloat16())
        self.view = nn.Parameter(torch.randn(6, 4)[1:3].T)
        self.register_buffer("counter", torch.tensor(7))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.norm(x).half())


@pytest.fixture
def module() -> Outer:
    torch.manual_seed(0)
    return Outer()


@pytest.fixture
def archive(module: Outer, tmp_path: Path) -> Path:
    torch.jit.script(module).save(tmp_path / "module.pt")
    return tmp_path / "module.pt"


def rewrite(archive: Path, change: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with some of its members replaced."""
    out = archive.with_name("changed.pt")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change.get(name.partition("/")[2], old.read(name)))
    return out


def test_every_tensor_of_a_scripted_module_is_read_as_torch_reads_it(module: Outer, archive: Path) -> None:
    found, truth = read_archive(archive), torch.jit.load(archive).state_dict()
    assert set(truth) <= set(found)
    for name, tensor in truth.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_tensors_that_are_plain_attributes_are_read_too(archive: Path) -> None:
    assert torch.equal(read_archive(archive)["blocks.0.plain"], torch.arange(3))


def test_a_traced_module_is_read(module: Outer, tmp_path: Path) -> None:
    traced = torch.jit.trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.zeros(1, 3))
    traced.save(tmp_path / "traced.pt")
    found = read_archive(tmp_path / "traced.pt")
    assert torch.equal(found["0.weight"], traced.state_dict()["0.weight"])


def test_an_archive_is_told_from_a_state_dict_and_from_text(archive: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "plain.pt")
    (tmp_path / "text.pt").write_text("no zip")
    assert is_archive(archive)
    assert not is_archive(tmp_path / "plain.pt")
    assert not is_archive(tmp_path / "text.pt")
    assert not is_archive(tmp_path / "absent.pt")


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code has run",)


def test_a_pickle_that_asks_for_code_is_refused_by_name(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match=r"builtin.*print"):
        read_archive(rewrite(archive, {"data.pkl": pickle.dumps(Attack(), protocol=2)}))
    assert "code has run" not in capsys.readouterr().out


def test_no_function_of_torch_can_be_reached_either(archive: Path) -> None:
    for module, name in (
        ("torch", "load"),
        ("torch.hub", "load"),
        ("os", "system"),
        ("torch._utils", "_rebuild_qtensor"),
    ):
        payload = f"c{module}\n{name}\n(S'x'\ntR.".encode()
        with pytest.raises(WeightsError, match=f"{module}.{name}"):
            read_archive(rewrite(archive, {"data.pkl": payload}))


@pytest.mark.parametrize(
    "name",
    ["__torch__ A", "torch._utils _rebuild_tensor_v2", "torch.jit._pickle build_intlist", "torch HalfStorage"],
)
def test_a_pickle_cannot_change_what_it_is_built_from(archive: Path, module: Outer, name: str) -> None:
    whole, part = name.split()
    # BUILD with the state (None, {"__setstate__": 1}) sets attributes on whatever it is given
    payload = f"\x80\x02c{whole}\n{part}\nN}}U\x0c__setstate__K\x01s\x86b.".encode("latin-1")
    with pytest.raises(WeightsError):
        read_archive(rewrite(archive, {"data.pkl": payload}))
    assert torch.equal(read_archive(archive)["brain"], module.brain)


@pytest.mark.parametrize("size", [(4, 4), (1 << 40,)])
def test_a_tensor_larger_than_its_storage_is_refused(archive: Path, size: tuple[int, ...]) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        read_archive(rewrite(archive, {"data.pkl": one_tensor(size, tuple(0 for _ in size))}))


def test_a_view_beyond_its_storage_is_refused(archive: Path) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        read_archive(rewrite(archive, {"data.pkl": one_tensor((2,), (1,), offset=100)}))


def test_compressed_numbers_are_refused(archive: Path) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        read_archive(rewrite(archive, {}, compression=zipfile.ZIP_DEFLATED))


def test_a_cut_or_scrambled_archive_is_called_damaged(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        read_archive(tmp_path / "cut.pt")
    with pytest.raises(WeightsError, match="damaged"):
        read_archive(rewrite(archive, {"data.pkl": b"\x80\x02]q"}))
    with pytest.raises(WeightsError, match="big-endian"):
        read_archive(rewrite(archive, {"byteorder": b"big"}))


def one_tensor(size: tuple[int, ...], stride: tuple[int, ...], *, offset: int = 0) -> bytes:
    """A pickle of one module that has one tensor, in storage 0 (the six numbers of `brain`)."""
    stream = io.BytesIO()

    class Pickler(pickle._Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", Global("torch", "BFloat16Storage"), "0", "cpu", 6) if value == "STORAGE" else None

        def save_global(self, value: object, name: str | None = None) -> None:
            del name
            self.write(f"c{value.module}\n{value.name}\n".encode())  # type: ignore[attr-defined]

    class Global:
        def __init__(self, module: str, name: str) -> None:
            self.module, self.name = module, name

    Pickler.dispatch = {**pickle._Pickler.dispatch, Global: Pickler.save_global}
    pickler = Pickler(stream, protocol=2)
    pickler.write(b"\x80\x02c__torch__\nA\n)\x81}(")
    pickler.save("weight")
    pickler.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
    pickler.save(("STORAGE", offset, size, stride, False, None))
    pickler.write(b"Rub.")
    return stream.getvalue()


def test_the_hand_made_pickle_is_read_where_it_is_honest(archive: Path, module: Outer) -> None:
    found = read_archive(rewrite(archive, {"data.pkl": one_tensor((6,), (1,))}))
    assert list(found) == ["weight"]
    assert torch.equal(found["weight"], module.brain.flatten())
