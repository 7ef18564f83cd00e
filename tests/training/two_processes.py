"""What each of two processes does for test_distributed.py: torchrun starts this file."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import toy
from torch import nn

from lexiseg.training.distributed import full, gather, like, processes
from lexiseg.training.recipe import Optimiser
from lexiseg.training.train import train

RECIPES = {
    "plain": toy.recipe(model="toy/still", clip=0.5, ema=0.9),
    "accumulated": toy.recipe(model="toy/still", accumulate=2),
    "counted": toy.recipe(model="toy/counted", accumulate=2),
    "contrast": toy.recipe(model="toy/contrast"),
    "cached": toy.recipe(model="toy/contrast", cache=3),
    "bf16_weights": toy.recipe(model="toy/contrast", cache=2, precision="bf16_weights"),
    "nan": toy.recipe(model="toy/still", data=toy.ToyData(nan_at=(3,))),
    "stages": (toy.recipe(model="toy/still"), toy.recipe(model="toy/still", optimiser=Optimiser("sgd", rate=0.1))),
    "unused": toy.recipe(model="toy/unused", unused_parameters=True),
    "dropout": toy.recipe(checkpoint_every=5),
}


def main(out: Path) -> None:
    with processes(RECIPES["plain"]) as accelerator:
        assert accelerator.num_processes == 2
        gather_and_its_gradient(accelerator.process_index)
        shards(accelerator)
        for name, recipe in RECIPES.items():
            train(recipe, out / name, build=toy.build, tensorboard=False)
        interrupted(out, accelerator.process_index)


def gather_and_its_gradient(rank: int) -> None:
    """Compared with one process that has all the rows."""
    generator = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(6, 3, generator=generator), torch.randn(6, 3, generator=generator)
    whole = rows.clone().requires_grad_()
    (whole @ whole.T * (weight @ weight.T)).sum().backward()
    own = rows[rank * 3 : rank * 3 + 3].clone().requires_grad_()
    gathered = gather(own)
    assert torch.equal(gathered, rows)
    (gathered @ gathered.T * (weight @ weight.T)).sum().backward()
    torch.testing.assert_close(own.grad, 2 * whole.grad[rank * 3 : rank * 3 + 3])  # the sum over two processes
    assert torch.equal(gather(torch.tensor([rank])), torch.tensor([0, 1]))


def shards(accelerator) -> None:
    """FSDP2's tensors are put together for a checkpoint, and cut up again from it."""
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = nn.Linear(5, 7)
    weight = model.weight.detach().clone()
    fully_shard(model, mesh=dist.init_device_mesh("cpu", (2,)))
    assert model.weight.to_local().shape == (4 if accelerator.is_main_process else 3, 5)
    assert torch.equal(full(model.weight), weight)
    back = like(2 * weight, model.weight)
    with torch.no_grad():
        model.weight.copy_(back)
    assert torch.equal(full(model.weight), 2 * weight)


def interrupted(out: Path, rank: int) -> None:
    """A signal that reaches one process stops both, after the same step."""

    def build(recipe):
        built = toy.build(recipe)
        built.objective.before_step = lambda step: step == 6 and rank == 1 and signal.raise_signal(signal.SIGTERM)
        return built

    stopped = train(RECIPES["dropout"], out / "resumed", build=build, tensorboard=False)
    assert (stopped.finished, stopped.step) == (False, 7)
    assert train(RECIPES["dropout"], out / "resumed", build=toy.build, tensorboard=False, resume=True).finished


if __name__ == "__main__":
    main(Path(sys.argv[1]))
