"""Changes a frozen value by name.

`--set key=value` and keyword settings reach a dataclass this way.

A key may lead into nested dataclasses ("optimiser.rate"). Names are checked with the nearest one offered, values are
checked against the annotated type (pydantic does that), and the original is never touched.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

from lexiseg.errors import SettingError, UnknownName

__all__ = ["Dataclass", "change", "from_json", "names", "parse", "require", "to_json"]

Value = TypeVar("Value")


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


def parse(assignments: Iterable[str]) -> dict[str, str]:
    """Splits "key=value" texts; raises `SettingError` for one without "="."""
    settings = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise SettingError(f"{assignment!r} is not a setting; write key=value, for example key_smoothing=true")
        settings[key.strip()] = value.strip()
    return settings


def require(holds: bool, name: str, allowed: str, given: object) -> None:
    """Raises `SettingError` where a value does not hold: "window must be 1 or more, got 0"."""
    if not holds:
        raise SettingError(f"{name} must be {allowed}, got {given!r}")


def change(value: Value, settings: Mapping[str, Any]) -> Value:
    """Returns `value`, a frozen dataclass, with `settings` applied; texts are read as the field's type.

    All of them together: what a dataclass checks in its `__post_init__` need not hold in between.
    """
    known = names(value)
    for key in settings:
        if key not in known:
            raise UnknownName("setting", key, known)
    return _change(value, settings, "")


def names(value: object, prefix: str = "") -> list[str]:
    """All keys that `change` understands for this dataclass, nested ones with dots."""
    found = []
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        found.append(prefix + field.name)
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            found += names(inner, f"{prefix}{field.name}.")
    return found


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(value), default=os.fspath)))


def from_json(kind: type[Value], data: Mapping[str, Any]) -> Value:
    """The dataclass `kind` read back from `to_json`; unknown and ill-typed fields raise as in `change`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        value = TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        _raise_own(error)
        raise SettingError(f"{kind.__name__} cannot be read: {_reason(error)}") from error
    _refuse_unknown(value, data)
    return value


def presets(
    config: type, *, besides: Iterable[str], shared: Mapping[str, Any], **columns: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The PRESETS of a method: "lexiseg", which is its defaults, and the others, which change some of these.

    config: the method's `Config`. besides: its fields that say how weights are made or read, which no preset changes.
    shared: the defaults of fields of `Inference` that the presets differ in.
    columns: what each other preset changes.
    """
    of_config = {each.name: each.default for each in dataclasses.fields(config) if each.name not in set(besides)}
    ours = {**of_config, **shared}
    return {"lexiseg": ours, **{name: {**ours, **changes} for name, changes in columns.items()}}


def _change(value: Value, settings: Mapping[str, Any], prefix: str) -> Value:
    """prefix: of the keys in messages, for a dataclass in another."""
    kinds = typing.get_type_hints(type(value))
    changed: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for key, given in settings.items():
        name, _, rest = key.partition(".")
        if rest:
            inner.setdefault(name, {})[rest] = given
        else:
            read = _read if not _is_open(kinds[name]) else partial(_group, now=getattr(value, name))
            changed[name] = read(kinds[name], prefix + name, given)
    for name, given in inner.items():
        changed[name] = _change(changed.get(name, getattr(value, name)), given, f"{prefix}{name}.")
    return dataclasses.replace(value, **changed)  # type: ignore[type-var]


def _is_open(kind: Any) -> bool:
    """Whether the annotation is a protocol, or one or nothing: any dataclass that satisfies it will do."""
    return any(getattr(one, "_is_protocol", False) for one in (kind, *typing.get_args(kind)))


def _group(kind: Any, key: str, given: object, *, now: object) -> Any:
    """`given` where it is a dataclass; a text cannot say one."""
    nothing = given is None and type(None) in typing.get_args(kind)
    if nothing or (dataclasses.is_dataclass(given) and not isinstance(given, type)):
        return given
    inner = f", for example {key}.{names(now)[0]}" if dataclasses.is_dataclass(now) else ""
    raise SettingError(f"{key}={given!r} does not fit: {key} has settings of its own; change one of them{inner}")


def _read(kind: Any, key: str, given: object) -> Any:
    """`given` as a value of type `kind`.

    Texts are read as JSON ("1e-3", "[1, 2]", "null") if that fits, else as they are, else as a list ("a, b").
    """
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(kind)
    candidates = [given, os.fspath(given)] if isinstance(given, os.PathLike) else [given]
    if isinstance(given, str):
        lowered = {"none": None, "true": True, "false": False}
        try:
            candidates = [json.loads(given), given]
        except json.JSONDecodeError:
            candidates = [lowered[given.lower()], given] if given.lower() in lowered else [given]
        candidates.append([part.strip() for part in given.split(",") if part.strip()])
    reason = ""
    for candidate in candidates:
        try:
            value = adapter.validate_python(candidate)
        except ValidationError as error:
            _raise_own(error)
            reason = reason or _reason(error)
            continue
        if isinstance(candidate, bool) and not isinstance(value, bool):
            reason = "true and false are no numbers"  # pydantic would take them for 1 and 0
            continue
        _refuse_unknown(value, candidate, f"{key}.")
        return value
    raise SettingError(f"{key}={given!r} does not fit {_type_name(kind)}: {reason}")


def _refuse_unknown(value: object, data: object, prefix: str = "") -> None:
    """Raises `UnknownName` for a key of `data` that the dataclass `value`, or one inside it, lacks.

    pydantic drops such keys without a word.
    """
    if dataclasses.is_dataclass(value) and isinstance(data, Mapping):
        known = [prefix + field.name for field in dataclasses.fields(value)]
        for key, inner in data.items():
            if prefix + key not in known:
                raise UnknownName("setting", prefix + key, known)
            _refuse_unknown(getattr(value, key), inner, f"{prefix}{key}.")
    elif isinstance(value, (list, tuple)) and isinstance(data, (list, tuple)):
        for one, given in zip(value, data, strict=False):
            _refuse_unknown(one, given, prefix)


def _raise_own(error: Any) -> None:
    """Raises what a dataclass of ours said about its values, which pydantic would only quote."""
    for each in error.errors():
        found = each.get("ctx", {}).get("error")
        if isinstance(found, SettingError):
            raise found from error


def _reason(error: Any) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _type_name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind).replace("typing.", "")
