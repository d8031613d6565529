"""What the Neptune loopback has received, as plain data, and what each operation of the wire does to it.

A series takes a point only if its step is greater than the last, as the real service does: the others are refused,
the operation is answered with one error, and the client only logs that (or raises it, in sync mode).
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import threading
import time
import uuid
from typing import Any, NamedTuple


class NeptunePoint(NamedTuple):
    """One entry of a series; `value` is a float, a string or a StoredImage."""

    step: float
    value: Any
    time_ms: int


class StoredImage(NamedTuple):
    """One entry of an image series."""

    content: bytes
    name: str | None
    description: str | None


class StoredFile(NamedTuple):
    """An uploaded file; `extension` has no dot."""

    content: bytes
    extension: str


@dataclasses.dataclass
class Field:
    """One attribute. The value by kind: a series has list[NeptunePoint], stringSet set[str], file StoredFile, fileSet
    {path: bytes}, artifact its hash (see `NeptuneStore.artifacts`), datetime unix milliseconds, gitRef the commit and its
    surroundings as they came, the rest the value itself."""

    kind: str
    value: Any
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)  # of a float series: min, max, unit


class Rejected(NamedTuple):
    """An operation that was refused, wholly or for some of its points."""

    path: str
    operation: str
    points: int  # of a series, how many; else 0
    description: str  # as the client was told


@dataclasses.dataclass
class StoredRun:
    """Everything known of one run."""

    id: str  # as in the URLs of the wire
    sys_id: str
    project: str
    custom_run_id: str | None
    fields: dict[str, Field] = dataclasses.field(default_factory=dict)
    rejected: list[Rejected] = dataclasses.field(default_factory=list)

    def value(self, path: str) -> Any:
        """Return the value of a field, whatever its kind."""
        return self.fields[path].value

    def of_kind(self, path: str, kind: str, empty: Any) -> Field:
        """Return the field, created empty if it is new; a field never changes its kind."""
        field = self.fields.setdefault(path, Field(kind, empty))
        if field.kind != kind:
            raise OperationRefused(f"Attribute {path} is of type {field.kind}, not {kind}")
        return field


@dataclasses.dataclass
class NeptuneStore:
    """Everything a server has received. Hold `lock` where requests may still arrive."""

    runs: dict[str, StoredRun] = dataclasses.field(default_factory=dict)  # by StoredRun.id, in order of creation
    artifacts: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)  # hash -> files' metadata
    uploads: dict[str, dict[int, bytes]] = dataclasses.field(default_factory=dict)  # unfinished: id -> start -> part
    calls: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # operationId -> answered
    unknown: list[str] = dataclasses.field(default_factory=list)  # requests this server does not understand
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)

    def run(self, name: str) -> StoredRun | None:
        """Return the run with this id, sys/id, custom_run_id or project/sys-id."""
        for run in self.runs.values():
            if name in (run.id, run.sys_id, run.custom_run_id, f"{run.project}/{run.sys_id}"):
                return run
        return None

    def open_run(self, project: str, custom_run_id: str | None) -> StoredRun:
        """Return the project's run with this custom_run_id, or a new one."""
        for run in self.runs.values():
            if custom_run_id and (run.project, run.custom_run_id) == (project, custom_run_id):
                return run
        run = StoredRun(str(uuid.uuid4()), f"RUN-{len(self.runs) + 1}", project, custom_run_id)
        now = int(time.time() * 1000)
        system_fields = {"id": ("string", run.sys_id), "creation_time": ("datetime", now), "owner": ("string", "loopback")}
        system_fields |= {"state": ("experimentState", "running"), "trashed": ("bool", False)}
        system_fields |= {"custom_run_id": ("string", custom_run_id)} if custom_run_id else {}
        run.fields.update((f"sys/{name}", Field(*field)) for name, field in system_fields.items())
        self.runs[run.id] = run
        return run


class OperationRefused(Exception):
    """The service would not carry out this operation, or not all its points; the message is what it would say."""

    def __init__(self, description: str, points: int = 0) -> None:
        super().__init__(description)
        self.description = description
        self.points = points


_ASSIGN = {
    "assignFloat": "float",
    "assignInt": "int",
    "assignBool": "bool",
    "assignString": "string",
    "assignDatetime": "datetime",
    "assignArtifact": "artifact",
}
_LOG = {"logFloats": "floatSeries", "logStrings": "stringSeries", "logImages": "imageSeries"}
_CLEAR = {"clearFloatSeries": "floatSeries", "clearStringSeries": "stringSeries", "clearImageSeries": "imageSeries"}


def apply(run: StoredRun, operation: dict[str, Any]) -> str | None:
    """Carry out one entry of executeOperations and return the error the client is told, if any."""
    path = operation["path"]
    name = next(key for key in operation if key != "path")
    content = operation[name]
    try:
        if name in _LOG:
            _log(run.of_kind(path, _LOG[name], []), path, content["entries"])
        else:
            _set(run, path, name, content)
    except OperationRefused as refused:
        run.rejected.append(Rejected(path, name, refused.points, refused.description))
        return refused.description
    return None


def _set(run: StoredRun, path: str, name: str, content: dict[str, Any]) -> None:
    match name:
        case _ if name in _ASSIGN:
            field = run.of_kind(path, _ASSIGN[name], None)
            (field.value,) = content.values()  # value, valueMilliseconds or hash
        case _ if name in _CLEAR:
            run.of_kind(path, _CLEAR[name], []).value = []
        case "configFloatSeries":
            run.of_kind(path, "floatSeries", []).settings = content
        case "insertStrings":
            run.of_kind(path, "stringSet", set()).value.update(content["values"])
        case "removeStrings":
            run.of_kind(path, "stringSet", set()).value.difference_update(content["values"])
        case "clearStringSet":
            run.of_kind(path, "stringSet", set()).value.clear()
        case "deleteFiles":
            files = run.of_kind(path, "fileSet", {}).value
            for gone in [file for file in files if file in content["filePaths"]]:
                del files[gone]
        case "deleteAttribute" | "clearArtifact":
            run.fields.pop(path, None)  # the client deletes a new file set before its first upload: no error
        case _:
            raise OperationRefused(f"Unknown operation {name}")


def _log(field: Field, path: str, entries: list[dict[str, Any]]) -> None:
    invalid = []
    for entry in entries:
        last = field.value[-1].step if field.value else -1.0
        step = last + 1 if entry["step"] is None else entry["step"]
        if field.value and step <= last:
            invalid.append(step)
            continue
        value = entry["value"]
        if field.kind == "imageSeries":
            value = StoredImage(base64.b64decode(value["data"]), value["name"], value["description"])
        field.value.append(NeptunePoint(step, value, entry["timestampMilliseconds"]))
    if invalid:
        raise OperationRefused(
            f"X-coordinates (step) must be strictly increasing for series attribute: {path}. "
            f"Invalid point: {float(invalid[0])}",
            len(invalid),
        )
