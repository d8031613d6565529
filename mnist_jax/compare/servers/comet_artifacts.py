"""The methods of the Comet loopback for artifacts: versions that one experiment logs and others fetch.

A version is open until all its files have arrived, when the client closes it; until then it can't be fetched by name.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from mnist_jax.compare.servers import comet_assets, comet_call, comet_store

_LATEST = "Latest"


def _upsert(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    name, values = call.values["artifactName"], call.values
    artifact = _find(store, experiment.workspace, name)
    if artifact is None:
        artifact = comet_store.StoredArtifact(comet_store.new_id(), experiment.workspace, name, values["artifactType"])
        store.artifacts.append(artifact)
    previous = artifact.versions[-1].version if artifact.versions else None
    number = values["version"] or next_version(previous)
    if number in [version.version for version in artifact.versions]:
        raise comet_call.CallRefused(400, 90399, f"Version {number} of {name} exists")
    aliases = [*(values["alias"] or []), _LATEST]
    for version in artifact.versions:
        version.aliases = [alias for alias in version.aliases if alias not in aliases]
    artifact.versions.append(
        comet_store.ArtifactVersion(
            id=comet_store.new_id(),
            version=number,
            experiment_key=experiment.key,
            aliases=aliases,
            tags=values["versionTags"] or [],
            metadata=values["versionMetadata"],
        )
    )
    ids = {"artifactId": artifact.id, "artifactVersionId": artifact.versions[-1].id}
    return {**ids, "currentVersion": number, "previousVersion": previous}


def next_version(previous: str | None) -> str:
    """Return the version that the service gives where the client names none: the next major one."""
    return f"{int(previous.partition('.')[0]) + 1 if previous else 1}.0.0"


def _find(store: comet_store.CometStore, workspace: str, name: str) -> comet_store.StoredArtifact | None:
    for artifact in store.artifacts:
        if (artifact.workspace, artifact.name) == (workspace, name):
            return artifact
    return None


def _artifact(store: comet_store.CometStore, call: comet_call.CometCall) -> comet_store.StoredArtifact:
    identity = call.values.get("artifactId") or call.values.get("artifact_id")
    for artifact in store.artifacts:
        if artifact.id == identity:
            return artifact
    # The client quotes a name, and then its HTTP library does.
    name = urllib.parse.unquote(call.values.get("artifactName") or "")
    named_artifact = _find(store, call.values.get("workspace") or comet_store.WORKSPACE, name)
    if named_artifact is None:
        raise comet_call.CallRefused(400, 624523, f"No artifact {name or identity}")
    return named_artifact


def _version(artifact: comet_store.StoredArtifact, call: comet_call.CometCall) -> comet_store.ArtifactVersion:
    names = ("version", "alias", "versionOrAlias")
    wanted = next((call.values[name] for name in names if call.values.get(name)), _LATEST)
    for version in artifact.versions:
        if wanted == version.version or wanted.lower() in [alias.lower() for alias in version.aliases]:
            return version
    raise comet_call.CallRefused(400, 624523, f"No version {wanted} of artifact {artifact.name}")


def _get_version(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    artifact = _artifact(store, call)
    if identity := call.values.get("versionId"):
        version = comet_assets.version_of(store, identity)  # the client that logs it looks at it while it is open
    else:
        version = _version(artifact, call)
        if version.state != "CLOSED":
            raise comet_call.CallRefused(400, 90403, f"Version {version.version} of {artifact.name} is {version.state}")
        if consumer := call.values.get("consumerExperimentKey") or call.values.get("experimentKey"):
            version.consumers.append(consumer)
    return {
        **_row(version),
        "artifactVersion": version.version,
        "experimentKey": version.experiment_key,
        "artifact": {
            "artifactId": artifact.id,
            "artifactName": artifact.name,
            "artifactType": artifact.type,
            "workspaceName": artifact.workspace,
            "tags": [],
        },
    }


def _row(version: comet_store.ArtifactVersion) -> dict[str, Any]:
    return {
        "artifactVersionId": version.id,
        "version": version.version,
        "metadata": version.metadata,
        "alias": version.aliases,
        "tags": version.tags,
        "state": version.state,
        "added": version.created,
        "sizeInBytes": sum(len(asset.content) for asset in version.assets),
    }


def _details(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    return _description(_artifact(store, call))


def _description(artifact: comet_store.StoredArtifact) -> dict[str, Any]:
    return {
        "artifactId": artifact.id,
        "name": artifact.name,
        "type": artifact.type,
        "latestVersion": artifact.versions[-1].version,
        "versions": [_row(version) for version in artifact.versions],
    }


def _list(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    wanted = call.values.get("type")
    artifacts = [artifact for artifact in store.artifacts if artifact.workspace == call.values["workspace"]]
    return {"artifacts": [_description(artifact) for artifact in artifacts if wanted in (None, artifact.type)]}


def _files(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    artifact = _artifact(store, call)
    version = _version(artifact, call)
    ids = {"artifactId": artifact.id, "artifactVersionId": version.id}
    rows = [comet_assets.description(asset, call.url, version.experiment_key) for asset in version.assets]
    return {"files": [{**row, **ids, "link": row["link"] if row["remote"] else None} for row in rows]}


def _state(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    comet_assets.version_of(store, call.values["artifactVersionId"]).state = call.values["state"]
    return {}


def _labels(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    version = comet_assets.version_of(store, call.values["artifactVersionId"])
    if call.values["alias"] is not None:
        version.aliases = call.values["alias"]
    if call.values["versionTags"] is not None:
        version.tags = call.values["versionTags"]
    if call.values["versionMetadata"] is not None:
        version.metadata = call.values["versionMetadata"]
    return {}


METHODS: dict[str, comet_call.Method] = {
    "write/artifacts/upsert": _upsert,
    "write/artifacts/state": _state,
    "write/artifacts/version/labels": _labels,
    "artifacts/version": _get_version,
    "artifacts/version/files": _files,
    "artifacts/get": _details,
    "artifacts/get-all": _list,
}
