"""Nested mappings, such as configs, by dotted path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of a nested mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping):
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
