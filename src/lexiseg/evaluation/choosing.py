"""Chooses the protocol that a model is measured by.

It is the one that is asked for, or the method's own.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from lexiseg import catalog
from lexiseg.benchmarks import _benchmark
from lexiseg.errors import SettingError, UnknownName
from lexiseg.evaluation.protocols import LEXISEG, Protocol, Study
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import Traits

__all__ = ["choose", "named", "others", "protocol", "studies"]

PUBLISHED = "evaluation.published"  # a shelf: a file's name is that of its method


def choose(setup: Setup) -> Protocol:
    """The protocol to follow; nothing is loaded for it.

    The method's own is the first that its authors measured the variant by, whatever its weights are read from; so it is
    for a folder that says it is such a variant. For any other model it is "lexiseg".

    Raises what `protocol` and `catalog.resolve` raise.
    """
    if isinstance(setup.protocol, Protocol):
        return setup.protocol
    module, variant, traits = _method(setup.model)
    method = module.__name__.rpartition(".")[2]
    return protocol(method, setup.on, setup.protocol, variant=variant, own_background=traits.background == "own")


def protocol(
    method: str, benchmark: str, name: str | None = None, *, variant: str | None = None, own_background: bool = False
) -> Protocol:
    """The protocol called `name`, or the method's own.

    variant: the variant to be measured, which decides what the method's own protocol is.
    own_background: the method has a rule of its own for the background, so that "lexiseg" adds no words.

    Raises `UnknownName` for a name that this method has on no benchmark, `SettingError` for one that it has on others.
    """
    found = {study.name: study for study in studies(method) if benchmark in study.rows}
    if name is None:
        measured = [study for study in found.values() if variant in study.variants]  # released before paper
        return measured[0].protocol(method, benchmark) if measured else _lexiseg(method, benchmark, own_background)
    if name == LEXISEG:
        return _lexiseg(method, benchmark, own_background)
    if name in found:
        return found[name].protocol(method, benchmark)
    elsewhere = named(method)
    if name in elsewhere:
        raise SettingError(
            f"{method} has no protocol {name!r} on {benchmark}; it has one on {', '.join(elsewhere[name])}, "
            f"and {LEXISEG!r} works everywhere"
        )
    raise UnknownName(f"protocol of {method}", name, [LEXISEG, *elsewhere])


def others(method: str, benchmark: str, name: str) -> list[str]:
    """The protocols that a method has on a benchmark beside the one called `name`."""
    names = [LEXISEG, *(study.name for study in studies(method) if benchmark in study.rows)]
    return [other for other in names if other != name]


def named(method: str) -> dict[str, list[str]]:
    """The published protocols of a method, each with the benchmarks it has."""
    return {study.name: list(study.rows) for study in studies(method)}


def studies(method: str) -> tuple[Study, ...]:
    """What the authors of a method measured with; empty where nothing is known."""
    if method not in catalog.names(PUBLISHED):
        return ()
    found: tuple[Study, ...] = catalog.get(PUBLISHED, method).STUDIES
    return found


def _method(model: Model | Predictor) -> tuple[ModuleType, str | None, Traits]:
    """The method's file, which of its variants the model is, and its traits.

    A predictor has no variant: it is loaded, so no protocol could change its settings.
    """
    if isinstance(model, Predictor):
        return importlib.import_module(type(model.segmenter).__module__), None, model.segmenter.traits
    module, loaded = catalog.resolve(model.name, weights=model.weights, preset=model.preset, **model.changes)
    return module, catalog.variant_of(model.name), module.traits(loaded.config)


def _lexiseg(method: str, benchmark: str, own_background: bool) -> Protocol:
    words = None if own_background else _benchmark.get(benchmark).background_words
    return Protocol(method, benchmark, LEXISEG, "the variant's own settings", background=words)
