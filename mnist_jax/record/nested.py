"""Configs as a record holds them: nested mappings of JSON values, by one function, and their dotted paths."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import enum
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from mnist_jax import errors

_DEPTH = 50  # groups inside groups


def normalized(config: Any) -> dict[str, Any]:
    """Return a config as nested dicts of JSON values.

    Takes mappings (ConfigDict among them), dataclasses and argparse.Namespace; with values that are None, bool, numbers of
    Python and numpy, text, paths, enums (by name), dates and times (ISO 8601), and lists, tuples, sets (sorted) and arrays of
    these.

    Raises:
      UserError: a value is of another kind, two keys are the same text, or groups nest without end; the message names the key.
    """
    if config is None:
        return {}
    group = _as_mapping(config)
    if group is None:
        raise errors.UserError(f"config: expected a mapping, a dataclass or a Namespace, found {type(config).__name__}")
    result = _group(group, "", 0)
    paths: set[str] = set()
    for path, _ in flatten(result):
        if path in paths:
            raise errors.UserError(f"config.{path}: expected each dotted path once, found two settings of it; rename one")
        paths.add(path)
    return result


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of a nested mapping; a group without values is a value of its own, {}."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def put(values: dict[str, Any], path: str, value: Any) -> None:
    """Replace the value at a dotted path. Raises KeyError if there is none."""
    *groups, key = path.split(".")
    for group in groups:
        values = values[group]
        if not isinstance(values, dict):
            raise KeyError(path)
    if key not in values:
        raise KeyError(path)
    values[key] = value


def _as_mapping(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, argparse.Namespace):
        return vars(value)
    if hasattr(value, "to_dict") and hasattr(value, "keys"):  # ml_collections.ConfigDict, which is no Mapping
        return {key: value[key] for key in value.keys()}  # noqa: SIM118
    return None


def _group(values: Mapping[Any, Any], prefix: str, depth: int) -> dict[str, Any]:
    if depth > _DEPTH:
        raise errors.UserError(f"config.{prefix[:60]}...: expected at most {_DEPTH} groups inside each other, found more; a "
                               f"group that contains itself, perhaps")
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = key.name if isinstance(key, enum.Enum) else str(key)
        path = f"{prefix}{name}"
        if not isinstance(key, str | int | float | bool | enum.Enum | None | np.generic):
            raise errors.UserError(f"config.{path}: expected a key that is text, found {type(key).__name__}")
        if name in result:
            raise errors.UserError(f"config.{path}: expected each key once, found two that are {name!r} as text; rename one")
        group = _as_mapping(value)
        result[name] = _value(value, path, depth) if group is None else _group(group, f"{path}.", depth + 1)
    return result


def _value(value: Any, path: str, depth: int) -> Any:
    match value:
        case enum.Enum():
            return value.name
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float() | np.floating():
            return float(value)
        case np.bool_():
            return bool(value)
        case np.integer() if value.dtype.kind in "iu":
            return int(value)
        case PurePath():
            return str(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case set() | frozenset():
            return sorted((_value(item, path, depth) for item in value), key=repr)
        case np.ndarray():
            return _value(value.tolist(), path, depth)
        case list() | tuple():
            if depth > _DEPTH:
                raise errors.UserError(f"config.{path}: expected at most {_DEPTH} lists inside each other, found more")
            return [_value(item, f"{path}[{number}]", depth + 1) if _as_mapping(item) is None
                    else _group(_as_mapping(item) or {}, f"{path}[{number}].", depth + 1) for number, item in enumerate(value)]
    raise errors.UserError(f"config.{path}: expected a value that JSON can hold, a path, an enum, a date or a numpy scalar, "
                           f"found {type(value).__module__}.{type(value).__qualname__}; convert it")
