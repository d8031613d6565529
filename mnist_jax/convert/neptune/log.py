"""Applies the operations log of a Neptune 1.x offline folder: the final value of every attribute of the run.

The log is a sequence of JSON objects without separators. An incomplete tail is the sign of a killed client; damage before it
is skipped up to the next valid operation, and counted in the account.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mnist_jax import errors
from mnist_jax.convert import untrusted

_SCALARS = {"AssignFloat": float, "AssignInt": int, "AssignBool": bool, "AssignString": str, "AssignDatetime": int,
            "AssignArtifact": str}
_SERIES = {"LogFloats": "float_series", "LogStrings": "string_series", "LogImages": "image_series"}
_CLEARS = {"ClearFloatLog": "float_series", "ClearStringLog": "string_series", "ClearImageLog": "image_series",
           "ClearStringSet": "string_set", "ClearArtifact": "artifact"}
_DAMAGES = 1000  # in one file; each costs a search through the rest of it
_DESTRUCTIVE = {"DeleteAttribute", "RemoveStrings", "DeleteFiles", "CopyAttribute", *_CLEARS}


class Attribute(NamedTuple):
    """A field or a series: its kind, as Neptune names it, and its value; a series has (value, step, unix seconds)."""

    kind: str
    value: Any


State = dict[str, Attribute]  # by path, in the order of the first write


@dataclasses.dataclass
class Log:
    """The state after a run's log, and for a run of our tracker the states between its marks, one piece per event."""

    folder: Path
    container: str
    created: float  # unix seconds
    whole: State
    pieces: list[State]  # the last one is what follows the last mark
    marks: list[Any]  # the number of events written by the end of each piece but the last
    torn: bool  # the client did not write everything that it counted
    broken: set[int]  # pieces of which operations are missing
    destructive: bool  # something was deleted, cleared or copied, so the pieces are not independent


def is_folder(path: Path) -> bool:
    """Return whether a folder is that of one Neptune run."""
    return path.is_dir() and any(path.glob("data-*.log"))


def read(folder: Path, account: untrusted.Account, budget: untrusted.Budget) -> Log:
    """Return the log of the run in `folder`.

    Raises:
      UserError: a file of it cannot be read, or is too damaged.
    """
    metadata = _json_file(folder / "metadata.json", budget)
    records = list(operations(folder, account, budget))
    records.sort(key=lambda record: record["version"])
    created = _seconds(metadata.get("createdAt")) or (records[0].get("at", 0.0) if records else 0.0)
    log = Log(folder, str(metadata.get("containerId", "")), created, {}, [{}], [], False, set(), False)
    expected = records[0]["version"] if records else 1
    if expected > 1:
        account.skip("operations that were synced to a server before", f"versions 1 to {expected - 1}")
    for record in records:
        if record["version"] < expected:
            account.skip("operations with a repeated version", str(record["version"]))
            continue
        if record["version"] > expected:
            account.skip("operations that are not in the log", f"versions {expected} to {record['version'] - 1}")
            log.broken.add(len(log.pieces) - 1)
        expected = record["version"] + 1
        _apply(log, record["obj"], account)
    last = _number(folder / "last_put_version", budget)
    log.torn = last is not None and last >= expected
    if log.torn:
        account.skip("operations that did not reach the disk before the client was killed", f"versions {expected} to {last}")
    return log


def operations(folder: Path, account: untrusted.Account, budget: untrusted.Budget) -> Iterator[dict[str, Any]]:
    """Yield the valid records of a run's logs, in the order of the files: {"obj", "version", "at"}."""
    decoder = json.JSONDecoder()
    paths = [path for path in folder.glob("data-*.log") if re.fullmatch(r"data-\d{1,18}\.log", path.name)]
    for path in sorted(paths, key=lambda path: int(path.stem.partition("-")[2])):
        try:
            text = untrusted.text(untrusted.read_file(path, budget))
        except OSError as error:
            raise errors.UserError(f"{path}: expected a readable log, found: {error.strerror}") from error
        position = damages = 0
        while (start := text.find("{", position)) >= 0:
            try:
                record, position = decoder.raw_decode(text, start)
            except RecursionError:
                raise errors.UserError(f"{path}, character {start}: expected an operation, found values nested too deeply "
                                       f"to read") from None
            except ValueError:
                damages += 1
                if damages > _DAMAGES:
                    raise errors.UserError(f"{path}, character {start}: expected operations, found more than "
                                           f"{_DAMAGES} damaged places; restore the file") from None
                position = start + 1
                if text.find('{"obj"', position) < 0:
                    break  # an incomplete tail
                account.skip("damage in the log", f"{path.name} at character {start}")
                position = text.find('{"obj"', position)
                continue
            if _is_operation(record):
                yield record
            else:
                account.skip("damage in the log", f"{path.name} at character {start}")


def _is_operation(record: Any) -> bool:
    return (isinstance(record, dict) and isinstance(record.get("obj"), dict) and isinstance(record.get("version"), int)
            and _is_number(record.get("at", 0.0)) and _path(record["obj"]) is not None)


def _path(operation: dict[str, Any]) -> str | None:
    names = operation.get("path")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return "/".join(names)


def _apply(log: Log, operation: dict[str, Any], account: untrusted.Account) -> None:
    path, kind = _path(operation) or "", str(operation.get("type"))
    log.destructive |= kind in _DESTRUCTIVE
    try:
        if kind in _SERIES:
            operation = {**operation, "values": [_point(kind, item) for item in operation["values"]]}
        for state in (log.whole, log.pieces[-1]):
            _change(state, path, operation, log.container)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        account.skip(f"operations of type {kind} that could not be applied", f"{path} ({error})")
    if path == "run/events":  # a mark: our tracker ends every event with it
        log.marks.append(operation.get("value"))
        log.pieces.append({})


def _change(state: State, path: str, operation: dict[str, Any], container: str) -> None:
    kind = str(operation.get("type"))
    if kind in _SCALARS:
        value = operation["hash" if kind == "AssignArtifact" else "value"]
        if kind == "AssignFloat" and _is_number(value):
            value = float(value)
        if type(value) is not _SCALARS[kind]:
            raise ValueError(f"its value is a {type(value).__name__}")
        state[path] = Attribute(kind.removeprefix("Assign").lower(), value)
    elif kind in _SERIES:
        attribute = state.get(path)
        points = attribute.value if attribute and attribute.kind == _SERIES[kind] else []
        points += operation["values"]
        state[path] = Attribute(_SERIES[kind], points)
    elif kind in _CLEARS:
        if path in state and state[path].kind == _CLEARS[kind]:
            state[path] = Attribute(_CLEARS[kind], [])
    elif kind == "DeleteAttribute":
        state.pop(path, None)
    elif kind in ("AddStrings", "RemoveStrings"):
        attribute = state.get(path, Attribute("string_set", []))
        values = [str(value) for value in operation["values"]]
        before = attribute.value if attribute.kind == "string_set" else []
        state[path] = Attribute("string_set", [value for value in before if value not in values]
                                + (sorted(values) if kind == "AddStrings" else []))
    elif kind in ("UploadFile", "UploadFileContent"):
        state[path] = Attribute("file", operation)
    elif kind in ("UploadFileSet", "DeleteFiles", "TrackFilesToArtifact"):
        group = "artifact_files" if kind == "TrackFilesToArtifact" else "file_set"
        attribute = state.get(path)
        if not all(isinstance(operation.get(names, []), list) for names in ("file_globs", "file_paths", "entries")):
            raise ValueError("its files are not a list")
        before = attribute.value if attribute and attribute.kind == group and operation.get("reset") != "True" else []
        state[path] = Attribute(group, [*before, operation])
    elif kind == "CopyAttribute":
        source = "/".join(operation["source_path"])
        if operation["container_id"] != container or source not in state:
            raise ValueError(f"its source {source} is in another run or not in the log")
        original = state[source]
        state[path] = Attribute(original.kind, list(original.value) if isinstance(original.value, list) else original.value)
    elif kind != "ConfigFloatSeries":  # a range and a unit for the chart
        raise ValueError("its type is unknown")


def _point(kind: str, item: dict[str, Any]) -> untrusted.ForeignPoint:
    value, step, time = item["value"], item.get("step"), item.get("ts", 0.0)
    if kind == "LogFloats":
        value = float(value)
    elif kind == "LogStrings" and not isinstance(value, str):
        raise ValueError(f"an entry is a {type(value).__name__}")
    if not _is_number(time) or not (step is None or isinstance(step, int | float)):
        raise ValueError("a step or a time is not a number")
    return untrusted.ForeignPoint(value, step, float(time))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _json_file(path: Path, budget: untrusted.Budget) -> dict[str, Any]:
    try:
        fields = untrusted.loads(untrusted.read_file(path, budget, 2**20), str(path))
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _seconds(moment: Any) -> float | None:
    try:
        return datetime.datetime.fromisoformat(moment).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _number(path: Path, budget: untrusted.Budget) -> int | None:
    try:
        digits = untrusted.read_file(path, budget, 1000)
    except OSError:
        return None
    return int(digits) if re.fullmatch(rb"\d{1,18}", digits) else None
