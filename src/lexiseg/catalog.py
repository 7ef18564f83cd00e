"""Finds models, recipes and benchmarks by the names of their files.

The folders are the registry: a file's name is the name that users type.

`methods/maskclip.py` with VARIANTS["vit-b16"] is the model "maskclip/vit-b16"; `benchmarks/voc21.py` is the benchmark
"voc21"; `recipes/simseg.py` with RELEASED the recipe "simseg/released". Files that start with "_" are not listed.

A method's file offers
    Config                      a frozen dataclass
    traits(config)              the `Traits` of a Config, before anything is loaded
    VARIANTS                    name -> Variant
    SYSTEMS                     names of systems that are recipes of it, if any: they name the method too
    PRESETS                     name -> settings, for the differences between paper, released code and what is right
    load(variant)               the `Segmenter` of a Variant, whose weights may be a hub id, a folder, a file or None
    save(segmenter, folder)     writes what `load` reads back
    Training                    what the method's recipes minimise, for methods that train: a frozen dataclass whose
                                `build(segmenter, teacher=...)` gives model and losses
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lexiseg import files, settings
from lexiseg.encoders import prompts
from lexiseg.encoders.weights import find
from lexiseg.errors import SettingError, UnknownName, WeightsError
from lexiseg.segmenter import Inference, Segmenter, Variant, one_input_size
from lexiseg.weights import AnyWeights, Weights

__all__ = ["DESCRIPTION", "describe", "get", "load", "models", "names", "resolve", "save", "variant_of"]

BESIDE = ("README.md", "concepts.json", "familiar.json")  # the card, and which words the weights know
DESCRIPTION = "lexiseg.json"  # in a folder of weights: which method, config and inference they belong to
_KINDS = {
    "methods": "model",
    "recipes": "recipe",
    "benchmarks": "benchmark",
    "refine": "refiner",
    "proposals": "proposer",
}


def names(shelf: str) -> list[str]:
    """The names on a shelf ("methods", "recipes", "benchmarks", "refine", "proposals"), sorted."""
    package = importlib.import_module(f"lexiseg.{shelf}")
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))


def get(shelf: str, name: str) -> ModuleType:
    """The module `name` of a shelf; raises `UnknownName` with the nearest names."""
    known = names(shelf)
    if name not in known:
        raise UnknownName(_KINDS.get(shelf, shelf), name, known)
    return importlib.import_module(f"lexiseg.{shelf}.{name}")


def models() -> dict[str, Variant]:
    """Every "method/variant" with its `Variant`."""
    return {
        f"{method}/{name}": variant
        for method in names("methods")
        for name, variant in get("methods", method).VARIANTS.items()
    }


def load(
    model: str | os.PathLike[str],
    *,
    weights: AnyWeights | None = None,
    preset: str | None = None,
    **changes: Any,
) -> tuple[Segmenter[Any, Any], Inference]:
    """The segmenter of a model and how its pictures are to be treated.

    model: "method/variant", "method" (its `mini` variant, or any weights you give) or a folder that lexiseg saved.
    weights: a hub id, folder or file (see `Weights.of`) in place of the variant's own, of the same architecture.
    preset: one of the method's PRESETS.
    changes: fields of the method's `Config` or of `Inference`, by name.

    Raises `UnknownName` for a model, preset or setting that does not exist, `SettingError` for a value that does not
    fit, `WeightsError` for weights that are missing or do not fit.
    """
    module, variant = resolve(model, weights=weights, preset=preset, **changes)
    return module.load(variant), variant.inference


def resolve(
    model: str | os.PathLike[str],
    *,
    weights: AnyWeights | None = None,
    preset: str | None = None,
    **changes: Any,
) -> tuple[ModuleType, Variant]:
    """What `load` would load: the method's module and the `Variant` with weights, preset and changes applied."""
    module, variant = _find(model, own_weights=weights is not None)
    if weights is not None:
        variant = dataclasses.replace(variant, weights=_in_place_of(variant.weights, weights))
    presets: Mapping[str, Mapping[str, Any]] = getattr(module, "PRESETS", {})
    if preset is not None:
        if preset not in presets:
            raise UnknownName("preset", preset, presets)
        variant = _apply(variant, presets[preset])
    return module, _apply(variant, changes)


def variant_of(model: str | os.PathLike[str]) -> str | None:
    """Which variant of its method a model is: by its name, or by what a saved folder says it was converted to.

    A folder that a recipe trained is of the variant that the recipe names. None where nothing says it.
    """
    name = os.fspath(model)
    if not (Path(name) / DESCRIPTION).is_file():
        return name.partition("/")[2] or None
    content = _description(Path(name))
    trained = content.get("recipe")
    named = trained.get("model") if isinstance(trained, Mapping) else None
    found = content.get("variant") or (named.partition("/")[2] if isinstance(named, str) else None)
    return str(found) if found else None


def save(
    segmenter: Segmenter[Any, Any],
    folder: str | os.PathLike[str],
    *,
    method: str,
    inference: Inference,
    source: AnyWeights | None = None,
    **facts: Any,
) -> None:
    """Writes a folder that `load` and `--model FOLDER` read: weights, tokenizer and `lexiseg.json`.

    Prompts of a file are copied into it, so that the folder can be taken elsewhere.
    source: the weights that it was loaded from; the card and the words it knows are copied from beside them.
    facts: more JSON values to keep beside them (the recipe, scores ...).
    """
    get("methods", method).save(segmenter, folder)
    _copy_beside(source, Path(folder))
    describe(folder, method, segmenter.config, _with_own_prompts(inference, Path(folder)), **facts)


def describe(folder: str | os.PathLike[str], method: str, config: Any, inference: Inference, **more: Any) -> None:
    """Writes the `lexiseg.json` that tells `load` what the weights in `folder` are; each `save` ends with it."""
    from lexiseg import __version__

    content = {
        "method": method,
        "config": settings.to_json(config),
        "inference": settings.to_json(inference),
        "version": __version__,
        **more,
    }
    files.write_text(Path(folder) / DESCRIPTION, json.dumps(content, indent=2) + "\n")


def _copy_beside(source: AnyWeights | None, folder: Path) -> None:
    if source is None:
        return
    place = find(source)
    for name in BESIDE:
        if place.is_dir() and (place / name).is_file():
            files.write_bytes(folder / name, (place / name).read_bytes())


def _with_own_prompts(inference: Inference, folder: Path) -> Inference:
    path = Path(inference.prompts).expanduser()
    if inference.prompts in prompts.names() or not path.is_file():
        return inference
    files.write_bytes(folder / f"prompts{path.suffix}", path.read_bytes())
    return dataclasses.replace(inference, prompts=f"prompts{path.suffix}")


def _in_place_of(own: Weights | None, given: AnyWeights) -> Weights:
    """A variant that is known by its architecture keeps it."""
    return Weights.of(given) if own is None else dataclasses.replace(Weights.of(given), shape=own.shape)


def _find(model: str | os.PathLike[str], *, own_weights: bool) -> tuple[ModuleType, Variant]:
    if not isinstance(model, (str, os.PathLike)):
        raise SettingError(f"a model is named by a text such as 'maskclip/mini', or is a folder; got {model!r}")
    name = os.fspath(model)
    if name and (Path(name) / DESCRIPTION).is_file():
        return _read_description(Path(name))
    method, _, variant = name.partition("/")
    if method not in names("methods"):
        method = _methods_of_systems().get(method, method)  # imports every method, so only where it must
    if method not in names("methods"):
        if name and (Path(name).is_dir() or name.startswith((".", os.sep))):
            raise WeightsError(
                f"{name} has no {DESCRIPTION}, so nothing says which method its weights are for; "
                f"name the method too, for example --model maskclip --weights {name}"
            )
        raise UnknownName("model", name, sorted(models()))
    module = get("methods", method)
    if not variant:
        # weights of one's own need no variant: the method's defaults, with the tower read from the weights
        variant = (
            "custom" if own_weights and "custom" in module.VARIANTS else "mini" if "mini" in module.VARIANTS else ""
        )
    if variant not in module.VARIANTS:
        raise UnknownName("model", name, [f"{method}/{other}" for other in module.VARIANTS])
    return module, module.VARIANTS[variant]


def _methods_of_systems() -> dict[str, str]:
    """The method of each system that is a set of recipes of it, by the system's name (SYSTEMS of a method's file)."""
    return {system: method for method in names("methods") for system in getattr(get("methods", method), "SYSTEMS", ())}


def _description(folder: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        content["method"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{folder / DESCRIPTION} cannot be read ({error!r}); save the model again") from error
    _check_version(folder, content.get("version"))
    return content


def _check_version(folder: Path, saved: Any) -> None:
    """A folder of another major version may hold settings that mean something else now, or nothing."""
    from lexiseg import __version__

    major, ours = str(saved).partition(".")[0], __version__.partition(".")[0]
    if saved is None or major == ours:
        return
    if not major.isdecimal():
        raise WeightsError(f"{folder / DESCRIPTION} says version {saved!r}, which is not one; save the model again")
    raise WeightsError(
        f"{folder} was saved by lexiseg {saved}, and this is lexiseg {__version__}, which does not read models of "
        f"another major version; use lexiseg {major}.x (pip install 'lexiseg=={major}.*'), or make the model again"
    )


def _read_description(folder: Path) -> tuple[ModuleType, Variant]:
    content = _description(folder)
    try:
        method, config, inference = str(content["method"]), content["config"], content["inference"]
    except KeyError as error:
        raise WeightsError(f"{folder / DESCRIPTION} cannot be read ({error!r}); save the model again") from error
    module = get("methods", method)
    used = settings.from_json(Inference, inference)
    if (folder / used.prompts).is_file():
        used = dataclasses.replace(used, prompts=os.fspath(folder / used.prompts))
    return module, Variant(
        config=settings.from_json(module.Config, config),
        weights=Weights("file", os.fspath(folder)),
        inference=used,
        about=f"{method} from {folder}",
    )


def _apply(variant: Variant, changes: Mapping[str, Any]) -> Variant:
    """Each change goes to the config if it has that field, else to inference."""
    given: dict[str, dict[str, Any]] = {"config": {}, "inference": {}}
    for key, value in one_input_size(changes).items():
        field = key.partition(".")[0]
        for part, chosen in given.items():
            if field in {known.name for known in dataclasses.fields(getattr(variant, part))}:
                chosen[key] = value
                break
        else:
            known = settings.names(variant.config) + settings.names(variant.inference)
            raise UnknownName("setting", key, known)
    changed = {part: settings.change(getattr(variant, part), chosen) for part, chosen in given.items() if chosen}
    return dataclasses.replace(variant, **changed)
