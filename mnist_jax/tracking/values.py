"""Encodes values for the fields of a tracker: a value that a field cannot hold becomes JSON text.

`decode` is the exact inverse of `encode`: the text "null" and the value None stay apart.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from mnist_jax import events

Field = str | int | float | bool

_EXACT = 2**53  # a server rounds a larger integer to a float
_FIRST_CHARACTERS = frozenset('"[{nNI-0123456789')


def encode(value: Any) -> Field:
    """Return a value that a field holds exactly: itself, or JSON text for a list, None, a non-finite or large number."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if _is_encoded(value) else value
    if isinstance(value, int) and abs(value) < _EXACT:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else events.float_word(value)
    return json.dumps(value)


def decode(field: Any) -> Any:
    """Return the value that `encode` put into a field."""
    return json.loads(field) if isinstance(field, str) and _is_encoded(field) else field


def _is_encoded(text: str) -> bool:
    if text[:1] not in _FIRST_CHARACTERS:
        return False
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(parsed, bool):
        return False
    if isinstance(parsed, int):
        return abs(parsed) >= _EXACT
    return not math.isfinite(parsed) if isinstance(parsed, float) else True


def seal(event: events.Event) -> str:
    """Return the SHA-256 of an event's kind and JSON, for a format without checksums; it covers blobs by their digests."""
    text = json.dumps([type(event).__name__, events.to_json(event)], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
