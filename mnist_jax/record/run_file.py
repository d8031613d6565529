"""run.json: the identity and the status of a run, sealed by a digest over its contents."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.record import files

FORMAT = 2
_LIMIT = 2**26  # bytes; a config may be long
_LAST_SECOND = 253_402_300_800  # of the year 9999


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_TEXT, _TEXTS = ("text", lambda value: isinstance(value, str)), ("a list of texts", _is_texts)
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "id": _TEXT, "name": _TEXT, "description": _TEXT, "status": _TEXT, "command": _TEXTS, "tags": _TEXTS,
    "nondeterministic": _TEXTS,
    "created": ("unix seconds", lambda value: isinstance(value, int | float) and -_LAST_SECOND / 4 < value < _LAST_SECOND),
    "config": ("an object", lambda value: isinstance(value, dict)),
    "parent": ("an id or null", lambda value: value is None or isinstance(value, str)),
    "steps_per_epoch": ("a number or null", lambda value: value is None or (isinstance(value, int) and value > 0)),
    "events": ("a seal or null", lambda value: value is None or (
        isinstance(value, dict) and isinstance(value.get("count"), int) and isinstance(value.get("sha256"), str)))}


def read(directory: Path) -> dict[str, Any]:
    """Return the fields of run.json. Raises UserError where there is no run, RecordError where it is damaged."""
    path = directory / "run.json"
    try:
        fields = json.loads(files.read(path, _LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        raise errors.UserError(f"{directory}: expected a run's directory, found no run.json in it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise errors.RecordError(f"{path}: damaged or not readable: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        version = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        raise errors.RecordError(f"{path}: expected record format {FORMAT}, found {version!r}")
    body = {key: value for key, value in fields.items() if key != "sha256"}
    try:
        matches = fields.get("sha256") == digest(body)
    except RecursionError:
        matches = False
    if not matches:
        raise errors.RecordError(f"{path}: damaged: its digest does not match its contents")
    for name, (expected, holds) in _FIELDS.items():
        if name not in fields or not holds(fields[name]):
            raise errors.RecordError(f"{path}: damaged: expected {expected} as {name!r}, found {str(fields.get(name))[:80]!r}")
    return fields


def run(fields: dict[str, Any]) -> events.RunInfo:
    """Return the RunInfo in the fields of run.json."""
    names = [field.name for field in dataclasses.fields(events.RunInfo)]
    values = {name: fields[name] for name in names}
    return events.RunInfo(**{**values, "command": tuple(values["command"]), "tags": tuple(values["tags"]),
                              "nondeterministic": tuple(values["nondeterministic"])})


def write(directory: Path | files.Folder, run: events.RunInfo, status: str, sealed: dict[str, Any] | None) -> None:
    """Write run.json; `sealed` says how many events there are and the digest of the last."""
    writer = {"pid": os.getpid(), "host": socket.gethostname()}
    body = {"format": FORMAT, **dataclasses.asdict(run), "status": status, "events": sealed, "writer": writer}
    body = json.loads(json.dumps(body))
    text = json.dumps({**body, "sha256": digest(body)}, indent=1)
    if isinstance(directory, Path):
        files.write_atomically(directory / "run.json", text.encode())
    else:
        directory.write("run.json", text.encode())


def digest(body: dict[str, Any]) -> str:
    """Return the digest of everything in run.json but the digest."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
