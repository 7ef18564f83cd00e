"""A run gives the same weights whatever happens to it, and says clearly where it cannot go on."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from PIL import Image

from lexiseg.errors import CheckpointError, OutputError, SettingError, TrainingError
from lexiseg.training import checkpoint
from lexiseg.training.recipe import Group, Labelling, Optimiser
from lexiseg.training.train import Run, train

RICH = {"ema": 0.9, "clip": 1.0, "accumulate": 2, "checkpoint_every": 3}


def _train(recipe, out, **options) -> Run:
    return train(recipe, out, **{"build": toy.build, "tensorboard": False, **options})


def _metrics(out: Path) -> list[dict]:
    timeless = {"time", "samples_per_second"}
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in timeless} for line in lines]


def _interrupt(step: int, build=toy.build):
    """Builds objectives that ask the run to stop at a step, as a signal would."""

    def interrupted(recipe):
        built = build(recipe)
        before = getattr(built.objective, "before_step", lambda _: None)

        def before_step(now):
            before(now)
            if now == step:
                signal.raise_signal(signal.SIGTERM)

        built.objective.before_step = before_step
        return built

    return interrupted


# --- the same result twice


def test_training_lowers_the_loss_and_saves_the_model(tmp_path):
    run = _train(toy.recipe(steps=60, log_every=10), tmp_path)
    losses = [line["loss"] for line in _metrics(tmp_path)]
    assert losses[-1] < 0.6 * losses[0]
    assert run.finished
    assert run.model == tmp_path / "model"
    assert (run.step, run.stage) == (60, 0)


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        _train(toy.recipe(seed=seed), tmp_path / name)
    first, again, other = (toy.model_bytes(tmp_path / name) for name in "abc")
    assert first == again != other


def test_a_run_that_was_stopped_at_any_step_ends_with_the_same_bytes_and_the_same_log(tmp_path):
    _train(toy.recipe(**RICH), tmp_path / "whole")
    for step in (0, 4, 10):
        out = tmp_path / f"stopped-{step}"
        stopped = _train(toy.recipe(**RICH), out, build=_interrupt(step))
        assert (stopped.finished, stopped.step, stopped.model) == (False, step + 1, None)
        assert stopped.stopped_by == "SIGTERM"
        assert _train(toy.recipe(**RICH), out, resume=True).finished
        assert toy.model_bytes(out) == toy.model_bytes(tmp_path / "whole")
        assert _metrics(out) == _metrics(tmp_path / "whole")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "toy/contrast-dropout", "cache": 3},
        {"precision": "bf16"},
        {"precision": "bf16_weights", "ema": 0.9, "batchnorm_batches": 3},
        {"optimiser": Optimiser("sgd", rate=0.1, weight_decay=0.01)},
        {"groups": (Group(("segmenter.first.*",), frozen=True),)},
        {"data": toy.ToyData(nan_at=(2, 8))},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_resuming_is_exact_with_every_feature(tmp_path, changes):
    _train(toy.recipe(**changes), tmp_path / "whole")
    _train(toy.recipe(**changes), tmp_path / "parts", build=_interrupt(6))
    _train(toy.recipe(**changes), tmp_path / "parts", resume=True)
    assert toy.model_bytes(tmp_path / "parts") == toy.model_bytes(tmp_path / "whole")


def test_accumulation_equals_the_plain_batch_to_rounding(tmp_path):
    for pieces in (1, 2, 3):  # three do not divide the eight samples
        _train(toy.recipe(model="toy/still", accumulate=pieces), tmp_path / str(pieces))
    plain = toy.model_weights(tmp_path / "1")
    torch.testing.assert_close(toy.model_weights(tmp_path / "2"), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(toy.model_weights(tmp_path / "3"), plain, rtol=1e-4, atol=1e-5)


def test_gradient_caching_trains_like_the_plain_batch(tmp_path):
    for cache in (None, 3):
        _train(toy.recipe(model="toy/contrast", cache=cache), tmp_path / str(cache))
    plain = toy.model_weights(tmp_path / "None")
    torch.testing.assert_close(toy.model_weights(tmp_path / "3"), plain, rtol=1e-4, atol=1e-5)


def test_fp32_training_is_plain_torch(tmp_path):
    recipe = toy.recipe(model="toy/still", clip=0.5, optimiser=Optimiser(rate=0.01, weight_decay=0.1))
    _train(recipe, tmp_path)
    torch.manual_seed(0)  # what seed 0 of rank 0 comes to
    model = toy.build(recipe).objective
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=recipe.steps)
    stream = recipe.data.open(batch_size=8, seed=0, max_bad_fraction=0).stream(None, rank=0, world=1)
    for _, (batch, _) in zip(range(recipe.steps), stream, strict=False):
        optimiser.zero_grad()
        sum(model(batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(toy.model_weights(tmp_path), dict(model.segmenter.state_dict()), rtol=1e-4, atol=1e-6)


def test_the_launchers_settings_do_not_override_the_recipe(tmp_path, monkeypatch):
    _train(toy.recipe(), tmp_path / "a")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    _train(toy.recipe(), tmp_path / "b")
    assert toy.model_bytes(tmp_path / "a") == toy.model_bytes(tmp_path / "b")


# --- killed


def _run_for_ever(recipe, out: Path) -> None:
    logging.disable()
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    _train(recipe, out, resume=True)


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path):
    recipe = toy.recipe(**RICH, steps=60, data=toy.ToyData(delay=0.01))
    _train(dataclasses.replace(recipe, data=toy.ToyData()), tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lexiseg.training.train", "accelerate", "toy"])
    generator, kills = random.Random(os.getpid()), 0
    for attempt in range(20):
        process = context.Process(target=_run_for_ever, args=(recipe, tmp_path / "killed"))
        process.start()
        before = checkpoint.steps_saved(tmp_path / "killed" / "checkpoints")
        if attempt < 4:
            _wait(lambda: checkpoint.steps_saved(tmp_path / "killed" / "checkpoints") != before, process)  # noqa: B023
            time.sleep(generator.uniform(0, 0.12))  # anywhere in the next steps, or in the middle of a save
            process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            break
    assert kills >= 2
    assert toy.model_bytes(tmp_path / "killed") == toy.model_bytes(tmp_path / "whole")
    assert [line["step"] for line in _metrics(tmp_path / "killed")] == list(range(3, 61, 3))


def _wait(condition, process) -> None:
    deadline = time.monotonic() + 60
    while not condition() and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_sigterm_ends_a_process_after_the_step_with_everything_saved(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import toy\nfrom lexiseg.training.train import train\n"
        "recipe = toy.recipe(steps=100_000, checkpoint_every=100_000, data=toy.ToyData(delay=0.01))\n"
        f"run = train(recipe, {str(tmp_path)!r}, build=toy.build, tensorboard=False)\n"
        "print(run.finished, run.step)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    out, err = process.communicate(timeout=60)
    finished, step = out.split()
    assert (process.returncode, finished) == (0, "False")
    assert checkpoint.steps_saved(tmp_path / "checkpoints") == [(0, int(step))]
    assert "stopped by SIGTERM" in err


# --- clear answers


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    _train(toy.recipe(), tmp_path)
    before = toy.model_bytes(tmp_path)
    with pytest.raises(OutputError, match="at step 12; resume it"):
        _train(toy.recipe(seed=9), tmp_path)
    assert toy.model_bytes(tmp_path) == before


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    _train(toy.recipe(ema=0.9), tmp_path)
    before = toy.model_bytes(tmp_path)
    assert _train(toy.recipe(ema=0.9), tmp_path, resume=True).finished
    assert toy.model_bytes(tmp_path) == before


def test_a_changed_recipe_is_named_field_by_field_and_needs_permission(tmp_path, caplog):
    _train(toy.recipe(), tmp_path)
    changed = toy.recipe(steps=20, optimiser=Optimiser(rate=0.5), keep=1)
    with pytest.raises(CheckpointError, match=r"steps: 12 -> 20; optimiser\.rate: 0\.01 -> 0\.5\)"):
        _train(changed, tmp_path, resume=True)
    with caplog.at_level(logging.WARNING):
        assert _train(changed, tmp_path, resume=True, allow_changes=True).step == 20
    assert "steps: 12 -> 20" in caplog.text
    assert "keep" not in caplog.text


def test_data_that_changed_under_the_run_is_refused(tmp_path, monkeypatch):
    _train(toy.recipe(), tmp_path, build=_interrupt(5))
    real = toy.ToySource.manifest
    monkeypatch.setattr(toy.ToySource, "manifest", lambda source: {**real(source), "hash": "other"})
    with pytest.raises(CheckpointError, match=r"the data is not the one .* run\.json has the old one"):
        _train(toy.recipe(), tmp_path, resume=True)
    assert json.loads((tmp_path / "run.json").read_text())["data"]["hash"] != "other"
    assert _train(toy.recipe(), tmp_path, resume=True, allow_changes=True).finished


def test_a_corrupt_newest_checkpoint_costs_only_its_own_steps(tmp_path, caplog):
    _train(toy.recipe(), tmp_path)
    expected = toy.model_bytes(tmp_path)
    newest = tmp_path / "checkpoints" / "stage-1-step-000012" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING):
        assert _train(toy.recipe(), tmp_path, resume=True).finished
    assert "stage-1-step-000012" in caplog.text
    assert toy.model_bytes(tmp_path) == expected


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    _train(toy.recipe(model="toy/contrast"), tmp_path)
    with pytest.raises(CheckpointError, match=r"lacks .* weights of this model.*segmenter\.norm"):
        _train(toy.recipe(), tmp_path, resume=True, allow_changes=True)


def test_a_full_disk_ends_the_run_and_the_last_checkpoint_goes_on(tmp_path, monkeypatch):
    _train(toy.recipe(), tmp_path / "whole")
    real, calls = checkpoint.save_file, []

    def full(tensors, path):
        calls.append(path)
        if "step-000008" in str(path):
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"the disk is full.*step 4"):
        _train(toy.recipe(), tmp_path / "full")
    monkeypatch.undo()
    _train(toy.recipe(), tmp_path / "full", resume=True)
    assert toy.model_bytes(tmp_path / "full") == toy.model_bytes(tmp_path / "whole")


def test_data_that_ends_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match="ended after 5 of 12 steps"):
        _train(toy.recipe(data=toy.ToyData(last=5)), tmp_path)


def test_fp16_without_a_gpu_is_refused(tmp_path):
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SettingError, match="use bf16"):
        _train(toy.recipe(precision="fp16"), tmp_path)


# --- not finite


def test_a_nan_is_skipped_counted_and_named_and_leaves_no_trace(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run = _train(toy.recipe(data=toy.ToyData(nan_at=(2, 5))), tmp_path)
    assert run.nonfinite == 2
    assert run.step == 12
    assert "step 2 skipped" in caplog.text
    assert "sample " in caplog.text
    assert all(torch.isfinite(tensor).all() for tensor in toy.model_weights(tmp_path).values())
    assert _metrics(tmp_path)[-1]["nonfinite"] == 2


def test_a_skipped_step_changes_nothing_in_weights_and_statistics(tmp_path):
    _train(toy.recipe(data=toy.ToyData(nan_at=(3,)), steps=4, log_every=1), tmp_path / "a")
    _train(toy.recipe(steps=4), tmp_path / "b", build=_interrupt(2))  # the same steps 0 to 2
    with_nan = checkpoint.read(tmp_path / "a" / "checkpoints" / "stage-1-step-000004").tensors["weights"]
    stopped = checkpoint.read(tmp_path / "b" / "checkpoints" / "stage-1-step-000003").tensors["weights"]
    torch.testing.assert_close(with_nan, stopped, rtol=0, atol=0)


def test_too_many_stop_the_run(tmp_path):
    recipe = toy.recipe(data=toy.ToyData(nan_at=(1, 2, 3, 4)), max_nonfinite=2)
    with pytest.raises(TrainingError, match=r"3 of the steps .* step 3 with sample .*max_nonfinite is 2"):
        _train(recipe, tmp_path)


# --- hooks, stages, evaluation


def test_the_objective_hears_every_step_once_across_a_resume(tmp_path):
    seen = []

    def build(recipe):
        built = toy.build(recipe)
        built.objective.before_step = seen.append
        built.objective.after_step = lambda step: seen.append(-step - 1)
        return built

    _train(toy.recipe(steps=3), tmp_path, build=build)
    assert seen == [0, -1, 1, -2, 2, -3]
    _train(toy.recipe(steps=5), tmp_path, build=build, resume=True, allow_changes=True)
    assert seen[6:] == [3, -4, 4, -5]


def test_what_is_rebuilt_stays_out_of_checkpoints(tmp_path):
    def build(recipe):
        built = toy.build(recipe)
        built.objective.teacher = toy.Classifier().requires_grad_(False)
        built.objective.unsaved = ("teacher.*",)
        return built

    _train(toy.recipe(ema=0.9), tmp_path, build=build)
    newest = checkpoint.newest(tmp_path / "checkpoints")
    assert not any(name.startswith("teacher") for tensors in newest.tensors.values() for name in tensors)
    assert _train(toy.recipe(ema=0.9), tmp_path, build=build, resume=True).finished


def test_a_module_with_two_names_is_saved_once_and_resumed(tmp_path):
    def build(recipe):
        built = toy.build(recipe)
        built.objective.head = built.objective.segmenter.second
        return built

    _train(toy.recipe(ema=0.9), tmp_path / "whole", build=build)
    _train(toy.recipe(ema=0.9), tmp_path / "parts", build=_interrupt(5, build))
    _train(toy.recipe(ema=0.9), tmp_path / "parts", build=build, resume=True)
    assert toy.model_bytes(tmp_path / "parts") == toy.model_bytes(tmp_path / "whole")
    saved = checkpoint.newest(tmp_path / "whole" / "checkpoints").tensors["weights"]
    assert "segmenter.second.weight" in saved
    assert "head.weight" not in saved


def test_frozen_parameters_do_not_move(tmp_path):
    first = {}

    def build(recipe):
        built = toy.build(recipe)
        first.update({name: value.clone() for name, value in built.objective.segmenter.state_dict().items()})
        return built

    _train(toy.recipe(groups=(Group(("segmenter.first.*",), frozen=True),)), tmp_path, build=build)
    after = toy.model_weights(tmp_path)
    assert torch.equal(first["first.weight"], after["first.weight"])
    assert not torch.equal(first["second.weight"], after["second.weight"])


def test_each_stage_starts_from_the_weights_of_the_one_before(tmp_path):
    starts = []

    def build(recipe):
        built = toy.build(recipe)
        starts.append(built.objective)
        return built

    first = toy.recipe(ema=0.5, batchnorm_batches=2)
    second = toy.recipe(steps=4, optimiser=Optimiser("sgd", rate=0.0, momentum=0.0), precision="bf16")
    _train((first, second), tmp_path / "both", build=build)
    _train(first, tmp_path / "first")
    both, alone = toy.model_weights(tmp_path / "both"), toy.model_weights(tmp_path / "first")
    assert len(starts) == 2
    for name in ("first.weight", "second.bias", "norm.weight"):  # the second stage's rate is 0
        assert torch.equal(both[name], alone[name])


@pytest.mark.parametrize("stop", [(0, 11), (1, 0), (1, 3)])
def test_stages_resume_on_both_sides_of_their_border(tmp_path, stop):
    recipes = (toy.recipe(ema=0.9, batchnorm_batches=2), toy.recipe(seed=3, optimiser=Optimiser("sgd", rate=0.1)))
    _train(recipes, tmp_path / "whole")
    stage, step = stop

    def build(recipe):
        return _interrupt(step)(recipe) if recipe is recipes[stage] else toy.build(recipe)

    stopped = _train(recipes, tmp_path / "parts", build=build)
    assert not stopped.finished
    assert _train(recipes, tmp_path / "parts", resume=True).finished
    assert toy.model_bytes(tmp_path / "parts") == toy.model_bytes(tmp_path / "whole")
    assert _metrics(tmp_path / "parts") == _metrics(tmp_path / "whole")


def _saying_where(seen):
    """Builds toys, and notes what the stages were resolved to."""

    def build(recipe):
        seen.append((recipe.weights, recipe.teacher))
        return toy.build(recipe)

    return build


def test_each_stage_saves_its_model_where_later_ones_find_it(tmp_path):
    seen = []
    first, second = toy.recipe(name="first", ema=0.9), toy.recipe(teacher="@first", weights="@first", seed=3)
    _train((first, second), tmp_path, build=_saying_where(seen))
    place = tmp_path / "first" / "model"
    assert seen == [(None, None), (str(place), str(place))]
    _train(first, tmp_path / "alone")
    assert (place / "model.safetensors").read_bytes() == toy.model_bytes(tmp_path / "alone")
    assert toy.model_bytes(tmp_path) != toy.model_bytes(tmp_path / "alone")


@pytest.mark.parametrize("second", [{"carry": False}, {"weights": "@first"}])
def test_a_stage_may_start_without_the_weights_of_the_one_before(tmp_path, second):
    still = toy.recipe(seed=3, optimiser=Optimiser("sgd", rate=0.0, momentum=0.0))
    _train((toy.recipe(name="first"), dataclasses.replace(still, **second)), tmp_path / "both")
    _train(still, tmp_path / "alone")  # toys read no weights
    both, alone = toy.model_weights(tmp_path / "both"), toy.model_weights(tmp_path / "alone")
    assert torch.equal(both["first.weight"], alone["first.weight"])


def test_a_labelling_is_handed_to_the_callback_and_may_be_interrupted(tmp_path):
    guess = Labelling(name="guess", teacher="@first", data=toy.ToyData())
    recipes = (toy.recipe(name="first"), guess, toy.recipe(seed=3))
    with pytest.raises(SettingError, match="pass label="):
        _train(recipes, tmp_path)
    calls = []

    def label(stage, folder, *, rank, world, stop):
        calls.append((stage.teacher, folder, rank, world))
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
            assert stop()
        return {}

    stopped = _train(recipes, tmp_path / "parts", label=label)
    assert (stopped.finished, stopped.stage, stopped.stopped_by) == (False, 1, "SIGINT")
    assert _train(recipes, tmp_path / "parts", label=label, resume=True).finished
    folder = tmp_path / "parts" / "guess" / "labels"
    assert calls == [(str(tmp_path / "parts" / "first" / "model"), folder, 0, 1)] * 2
    _train((recipes[0], recipes[2]), tmp_path / "without")
    assert len(calls) == 2


def test_stages_of_different_shape_are_refused(tmp_path):
    def build(recipe):
        built = toy.build(recipe)
        if recipe.steps == 4:
            built.objective.segmenter.second = torch.nn.Linear(16, 5)
        return built

    with pytest.raises(TrainingError, match=r"segmenter\.second\.weight is \[3, 16\].*\[5, 16\]"):
        _train((toy.recipe(), toy.recipe(steps=4)), tmp_path, build=build)


def test_what_an_objective_reports_is_logged_as_means_that_survive_a_resume(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def build(recipe):
        built = toy.build(recipe)
        built.objective.report = lambda: {"share": built.objective.steps_seen[-1] / 10}
        return built

    _train(toy.recipe(log_every=4), tmp_path / "whole", build=build, tensorboard=True)
    shares = [line["report/share"] for line in _metrics(tmp_path / "whole")]
    assert shares == pytest.approx([0.15, 0.55, 0.95])  # steps 0 to 3, 4 to 7, 8 to 11
    _train(toy.recipe(log_every=4), tmp_path / "parts", build=_interrupt(5, build))
    _train(toy.recipe(log_every=4), tmp_path / "parts", build=build, resume=True)
    assert _metrics(tmp_path / "parts") == _metrics(tmp_path / "whole")
    events = EventAccumulator(str(tmp_path / "whole" / "tensorboard" / "stage-1"))
    events.Reload()
    assert "report/share" in events.Tags()["scalars"]


def test_evaluating_is_logged_sees_the_averaged_weights_and_changes_nothing(tmp_path):
    recipe = toy.recipe(ema=0.5, evaluate_every=5)
    _train(recipe, tmp_path / "without")
    seen = []

    def evaluate(segmenter, step):
        assert not segmenter.training
        assert not torch.is_grad_enabled()
        torch.rand(3), np.random.rand(2), random.random()  # noqa: NPY002
        seen.append((step, segmenter.first.weight.clone()))
        return {"miou": step / 100}

    _train(recipe, tmp_path / "with", evaluate=evaluate)
    assert [step for step, _ in seen] == [5, 10, 12]
    assert torch.equal(seen[-1][1], toy.model_weights(tmp_path / "with")["first.weight"])
    assert toy.model_bytes(tmp_path / "with") == toy.model_bytes(tmp_path / "without")
    logged = [line["evaluation/miou"] for line in _metrics(tmp_path / "with") if "evaluation/miou" in line]
    assert logged == [0.05, 0.1, 0.12]


# --- what a run leaves behind


def test_tensorboard_has_scalars_and_overlays(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def evaluate(segmenter, step):
        return {"miou": 0.5, "cat.jpg": Image.new("P", (6, 4)), "dog.jpg": np.zeros((4, 6, 3), np.uint8)}

    _train(toy.recipe(evaluate_every=6), tmp_path, evaluate=evaluate, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "stage-1"))
    events.Reload()
    assert {"loss", "loss/classes", "rate", "gradient", "evaluation/miou"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [3, 6, 9, 12]
    assert set(events.Tags()["images"]) == {"cat.jpg", "dog.jpg"}
    image = events.Images("cat.jpg")[0]
    assert (image.height, image.width, image.step) == (4, 6, 6)


def test_run_json_says_how_the_model_came_about(tmp_path):
    _train(toy.recipe(), tmp_path, build=_interrupt(3))
    _train(toy.recipe(), tmp_path, resume=True)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["recipes"][0]["optimiser"]["rate"] == 0.01
    assert content["data"]["samples"] == 37
    assert len(content["data"]["hash"]) == 64
    assert content["parameters"] == {"trained": 163, "frozen": 0}
    assert len(content["sessions"]) == 2
    session = content["sessions"][0]
    assert session["versions"]["torch"] == torch.__version__
    assert session["machine"]["cores"] >= 1
    assert {"command", "commit", "started"} <= set(session)


def test_the_last_checkpoints_are_kept(tmp_path):
    _train(toy.recipe(checkpoint_every=2, keep=3), tmp_path)
    assert checkpoint.steps_saved(tmp_path / "checkpoints") == [(0, 8), (0, 10), (0, 12)]


def test_plain_lines_are_written_to_stderr_where_there_is_no_terminal(tmp_path, capsys):
    _train(toy.recipe(), tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("step 12/12  loss ")
    assert "left 0:00:00" in lines[-1]


def test_a_terminal_gets_a_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    _train(toy.recipe(), tmp_path, evaluate=lambda segmenter, step: {"miou": 0.5})
    shown = capsys.readouterr().err
    assert "12/12" in shown
    assert "rate" in shown
    assert "samples_per_second" not in shown
    assert "evaluation/miou" in shown
