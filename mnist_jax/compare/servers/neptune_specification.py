"""The swagger documents that tell a Neptune client which methods exist and what they answer.

The client builds its method table from these, so paths are ours to choose: `/api/<service>/<operationId>`.
Only nested objects need a model: the client reads them as attributes, and everything else passes through as it is.
"""

from __future__ import annotations

from typing import Any

FIELD_KINDS = (
    "float", "int", "bool", "string", "datetime", "file", "fileSet", "floatSeries", "stringSeries", "imageSeries",
    "stringSet", "experimentState", "artifact", "gitRef",
)  # fmt: skip

_TIME = {"type": "string", "format": "date-time"}
_MODELS: dict[str, dict[str, Any]] = {
    "Plain": {},
    "ClientConfig": {"pyLibVersions": "Plain", "artifacts": "Plain", "multiPartUpload": "Plain"},
    "Attributes": {"attributes": ["Attribute"]},
    "Attribute": {f"{kind}Properties": "Plain" for kind in FIELD_KINDS},
    "Points": {"values": ["Plain"]},
    "Moment": {"value": _TIME},
    "Creation": {"gitInfo": "Git"},
    "Git": {"commit": "Commit"},
    "Commit": {"commitDate": _TIME},  # the client gives a datetime, which only a declared one becomes text of
    "Upload": {"errors": ["Plain"]},
    "ArtifactFiles": {"files": ["ArtifactFile"]},
    "ArtifactFile": {"metadata": ["Plain"]},
}

# operationId -> (method, parameters, model of the answer). A parameter is in the query, unless it is marked;
# a body may have a model: body:name=Model.
_ONE_FIELD = "experimentId attribute"
_ONE_FILE = "experimentIdentifier attribute"
_ARTIFACT = "projectIdentifier hash"
_OPERATIONS: dict[str, dict[str, tuple[str, str, Any]]] = {
    "backend": {
        "getClientConfig": ("get", "header:X-Neptune-Api-Token alpha", "ClientConfig"),
        "exchangeApiToken": ("post", "header:X-Neptune-Api-Token", "Plain"),
        "getProject": ("get", "projectIdentifier", "Plain"),
    },
    "leaderboard": {
        "createExperiment": ("post", "header:X-Neptune-CliVersion body:experimentCreationParams=Creation",
                             "Plain"),
        "getExperiment": ("get", "experimentId", "Plain"),
        "getExperimentAttributes": ("get", "experimentId", "Attributes"),
        "executeOperations": ("post", "experimentId body:operations", ["Plain"]),
        "ping": ("post", "experimentId", None),
        "getFloatAttribute": ("get", _ONE_FIELD, "Plain"),
        "getIntAttribute": ("get", _ONE_FIELD, "Plain"),
        "getBoolAttribute": ("get", _ONE_FIELD, "Plain"),
        "getStringAttribute": ("get", _ONE_FIELD, "Plain"),
        "getDatetimeAttribute": ("get", _ONE_FIELD, "Moment"),
        "getFileAttribute": ("get", _ONE_FIELD, "Plain"),
        "getStringSetAttribute": ("get", _ONE_FIELD, "Plain"),
        "getArtifactAttribute": ("get", _ONE_FIELD, "Plain"),
        "getFloatSeriesAttribute": ("get", _ONE_FIELD, "Plain"),
        "getStringSeriesAttribute": ("get", _ONE_FIELD, "Plain"),
        "getFloatSeriesValues": ("get", _ONE_FIELD + " offset limit", "Points"),
        "getStringSeriesValues": ("get", _ONE_FIELD + " offset limit", "Points"),
        "getImageSeriesValues": ("get", _ONE_FIELD + " offset limit", "Points"),
        "getImageSeriesValue": ("get", _ONE_FIELD + " index", None),
        "downloadAttribute": ("get", _ONE_FIELD, None),
        "prepareForDownloadFileSetAttributeZip": ("post", _ONE_FIELD, "Plain"),
        "getDownloadPrepareRequest": ("get", "id", "Plain"),
        "fileAtomUpload": ("post", _ONE_FILE + " ext", None),
        "fileAtomMultipartUploadStart": ("post", _ONE_FILE + " ext totalLength", "Upload"),
        "fileAtomMultipartUploadPart": ("post", _ONE_FILE + " uploadId uploadPartIdx", None),
        "fileAtomMultipartUploadFinish": ("post", _ONE_FILE + " uploadId", "Upload"),
        "fileSetFileUpload": ("post", _ONE_FILE + " subPath", None),
        "fileSetFileMultipartUploadStart": ("post", _ONE_FILE + " subPath totalLength", "Upload"),
        "fileSetFileMultipartUploadPart": ("post", _ONE_FILE + " subPath uploadId uploadPartIdx", None),
        "fileSetFileMultipartUploadFinish": ("post", _ONE_FILE + " subPath uploadId", "Upload"),
        "uploadFileSetAttributeTar": ("post", "experimentId attribute reset", None),
    },
    "artifacts": {
        "createNewArtifact": ("post", _ARTIFACT + " size parentIdentifier", "Plain"),
        "uploadArtifactFilesMetadata": ("post", _ARTIFACT + " body:artifactFilesDTO", "Plain"),
        "createArtifactVersion": ("post", _ARTIFACT + " parentIdentifier body:artifactFilesDTO", "Plain"),
        "listArtifactFiles": ("get", _ARTIFACT, "ArtifactFiles"),
    },
}


def specification(service: str) -> dict[str, Any] | None:
    """Return the swagger document of a service, or None if there is no such service."""
    if service not in _OPERATIONS:
        return None
    paths = {
        f"/api/{service}/{name}": {
            method: {
                "tags": ["api"],
                "operationId": name,
                "consumes": ["application/json"],
                "produces": ["application/json"],
                "parameters": [_parameter(words) for words in parameters.split()],
                "responses": {"200": {"description": "", **({"schema": _schema(model)} if model else {})}},
            }
        }
        for name, (method, parameters, model) in _OPERATIONS[service].items()
    }
    models = {
        name: {"type": "object", "properties": {field: _schema(model) for field, model in fields.items()}}
        for name, fields in _MODELS.items()
    }
    return {"swagger": "2.0", "info": {"title": service, "version": "1"}, "paths": paths, "definitions": models}


def _schema(model: Any) -> dict[str, Any]:
    if isinstance(model, list):
        return {"type": "array", "items": _schema(model[0])}
    return {"$ref": f"#/definitions/{model}"} if isinstance(model, str) else model


def _parameter(words: str) -> dict[str, Any]:
    where, _, name = words.rpartition(":")
    if where == "body":
        name, _, model = name.partition("=")
        return {"name": name, "in": "body", "schema": _schema(model) if model else {}}
    return {"name": name, "in": where or "query", "type": "string", "required": False}
