"""The methods of the Neptune loopback that create runs, execute operations and read fields back.

A refused point leaves no trace that a client can read back: only `StoredRun.rejected` lists it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

from mnist_jax.compare.servers import neptune_store, server

Method = Callable[[neptune_store.NeptuneStore, server.Request], Any]  # what goes back as JSON, or a Response


class NotFound(Exception):
    """Answered 404; the message is the error type that the client may know."""


def _description(run: neptune_store.StoredRun) -> Any:
    workspace, _, project = run.project.rpartition("/")
    names = {"organizationName": workspace, "projectName": project}
    return {"id": run.id, "type": "run", "shortId": run.sys_id, "trashed": False, **names}


def run_of(store: neptune_store.NeptuneStore, request: server.Request) -> neptune_store.StoredRun:
    """Return the run that a request is about."""
    run = store.run(request.query.get("experimentId") or request.query["experimentIdentifier"])
    if run is None:
        raise NotFound("EXPERIMENT_NOT_FOUND")
    return run


def _create(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    body = json.loads(request.body)
    run = store.open_run(body["projectIdentifier"], body.get("customId"))
    if body.get("gitInfo"):
        run.fields["source_code/git"] = neptune_store.Field("gitRef", body["gitInfo"])
    return _description(run)


def _execute(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    run = run_of(store, request)
    errors = [neptune_store.apply(run, operation) for operation in json.loads(request.body)]
    return [{"errorDescription": error} for error in errors if error]


def _attributes(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    fields = run_of(store, request).fields.items()
    return {
        "attributes": [
            {"name": path, "type": field.kind, f"{field.kind}Properties": _properties(path, field)}
            for path, field in fields
        ]
    }


def _properties(path: str, field: neptune_store.Field) -> Any:
    value = field.value
    match field.kind:
        case "floatSeries" | "stringSeries":
            return {"last": value[-1].value if value else None}
        case "imageSeries" | "fileSet":
            return {}
        case "gitRef":
            return {name: value for name, value in field.value.items() if name != "commit"} | field.value["commit"]
        case "stringSet":
            return {"values": sorted(value)}
        case "file":
            name = path.rpartition("/")[2] + (f".{value.extension}" if value.extension else "")
            return {"name": name, "ext": value.extension, "size": len(value.content)}
        case "artifact":
            return {"hash": value}
        case "datetime":
            return {"value": datetime.datetime.fromtimestamp(value / 1000, datetime.UTC).isoformat()}
        case _:
            return {"value": value}


def field_of(store: neptune_store.NeptuneStore, request: server.Request, kind: str) -> neptune_store.Field:
    """Return the field that a request is about. Raises NotFound, also where its kind is another."""
    field = run_of(store, request).fields.get(request.query["attribute"])
    if field is None or field.kind != kind:
        raise NotFound("ATTRIBUTE_NOT_FOUND")
    return field


def _get(kind: str) -> Method:
    return lambda store, request: _properties(request.query["attribute"], field_of(store, request, kind))


def _values(kind: str) -> Method:
    def values(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
        points = field_of(store, request, kind).value
        first, limit = int(request.query["offset"]), int(request.query["limit"])
        page = [] if kind == "imageSeries" else points[first : first + limit]
        rows = [{"step": point.step, "value": point.value, "timestampMillis": point.time_ms} for point in page]
        return {"totalItemCount": len(points), "values": rows}

    return values


METHODS: dict[str, Method] = {
    "createExperiment": _create,
    "getExperiment": lambda store, request: _description(run_of(store, request)),
    "getExperimentAttributes": _attributes,
    "executeOperations": _execute,
    "ping": lambda store, request: run_of(store, request) and None,
    "getFloatAttribute": _get("float"),
    "getIntAttribute": _get("int"),
    "getBoolAttribute": _get("bool"),
    "getStringAttribute": _get("string"),
    "getDatetimeAttribute": _get("datetime"),
    "getFileAttribute": _get("file"),
    "getStringSetAttribute": _get("stringSet"),
    "getArtifactAttribute": _get("artifact"),
    "getFloatSeriesAttribute": _get("floatSeries"),
    "getStringSeriesAttribute": _get("stringSeries"),
    "getFloatSeriesValues": _values("floatSeries"),
    "getStringSeriesValues": _values("stringSeries"),
    "getImageSeriesValues": _values("imageSeries"),
}
