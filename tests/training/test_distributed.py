"""Two processes are one with the global batch: gloo, on this machine, started by torchrun."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy
from two_processes import RECIPES

from lexiseg.errors import SettingError
from lexiseg.training import checkpoint
from lexiseg.training.distributed import full, gather, like, processes
from lexiseg.training.train import train

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The runs of two processes; what the script asserts itself would make it fail."""
    out = tmp_path_factory.mktemp("together")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(SCRIPT),
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("dropout", "bf16_weights")])
def test_two_processes_train_like_one_with_the_global_batch(together, tmp_path, name):
    train(RECIPES[name], tmp_path, build=toy.build, tensorboard=False)
    torch.testing.assert_close(toy.model_weights(together / name), toy.model_weights(tmp_path), rtol=1e-4, atol=1e-5)
    ours, theirs = (
        [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (tmp_path, together / name)
    )
    assert theirs == pytest.approx(ours, rel=1e-4)


def test_bf16_rounds_differently_and_trains_alike(together, tmp_path):
    train(RECIPES["bf16_weights"], tmp_path, build=toy.build, tensorboard=False)
    ours, theirs = toy.model_weights(tmp_path), toy.model_weights(together / "bf16_weights")
    torch.testing.assert_close(theirs, ours, rtol=0.05, atol=0.02)


def test_a_resumed_pair_of_processes_ends_with_the_same_bytes(together):
    """With dropout and batch normalisation: each process goes on with its own random numbers."""
    assert toy.model_bytes(together / "resumed") == toy.model_bytes(together / "dropout")
    saved = checkpoint.newest(together / "dropout" / "checkpoints")
    first, second = saved.state["random"]
    assert first["torch"] != second["torch"]


def test_one_process_goes_on_where_two_stood(together, tmp_path, caplog):
    out = tmp_path / "fewer"
    shutil.copytree(together / "plain", out)
    shutil.rmtree(out / "checkpoints" / "stage-1-step-000012")  # which leaves step 8
    with caplog.at_level(logging.WARNING):
        train(RECIPES["plain"], out, build=toy.build, tensorboard=False, resume=True)
    assert "saved by 2 processes and goes on with 1" in caplog.text
    train(RECIPES["plain"], tmp_path / "alone", build=toy.build, tensorboard=False)
    torch.testing.assert_close(toy.model_weights(out), toy.model_weights(tmp_path / "alone"), rtol=1e-4, atol=1e-5)


def test_in_one_process_gathering_and_sharding_are_nothing():
    rows = torch.ones(2, 3, requires_grad=True)
    assert gather(rows) is rows
    assert torch.equal(full(rows), rows.detach())
    assert full(rows).data_ptr() != rows.data_ptr()
    assert torch.equal(like(torch.zeros(2, 3), rows), torch.zeros(2, 3))


def test_a_batch_that_cannot_be_shared_is_refused():
    class Pair:
        num_processes = 3

    from lexiseg.training.trainer import Trainer

    source = toy.ToyData().open(batch_size=2, seed=0, max_bad_fraction=0)
    with pytest.raises(SettingError, match="shared by 3 processes"):
        Trainer(toy.recipe(), toy.Plain(), source=source, accelerator=Pair())


def test_precision_may_change_from_one_accelerator_to_the_next():
    seen = []
    for precision in ("fp32", "bf16", "bf16_weights"):
        with processes(toy.recipe(precision=precision)) as accelerator:
            seen.append(accelerator.mixed_precision)
    assert seen == ["no", "bf16", "no"]
