"""The methods of the Comet loopback that take and give files: assets, images, patches, the models of an experiment.

A model of an experiment is nothing but the assets of type model-element that share a group.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from mnist_jax.compare.servers import comet_call, comet_store, server

_TYPES = {"git-patch/upload": "git-patch", "visualizations/upload": "image"}
_PLACED = {"experimentId", "experimentKey", "projectId", "assetId", "type", "fileName", "figName", "step"}
_PLACED |= {"metadata", "groupingName", "artifactVersionId", "link"}


def _upload(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    values = call.values
    asset = comet_store.Asset(
        id=values.get("assetId") or values.get("imageId") or comet_store.new_id(),
        type=values.get("type") or _TYPES.get(call.name, "asset"),
        name=values.get("fileName") or values.get("figName") or call.name.partition("/")[0],
        content=call.file,
        step=int(values["step"]) if values.get("step") else None,
        metadata=json.loads(values["metadata"]) if values.get("metadata") else None,
        group=values.get("groupingName"),
        link=values.get("link"),
        details={name: value for name, value in values.items() if name not in _PLACED},
    )
    if "artifactVersionId" in values:
        version_of(store, values["artifactVersionId"]).assets.append(asset)
    else:
        experiment.assets.append(asset)
    return {"assetId": asset.id, "imageId": asset.id, "link": asset.link}


def version_of(store: comet_store.CometStore, version_id: str) -> comet_store.ArtifactVersion:
    """Return the artifact version with this id."""
    for artifact in store.artifacts:
        for version in artifact.versions:
            if version.id == version_id:
                return version
    raise comet_call.CallRefused(400, 624523, f"No artifact version {version_id}")


def description(asset: comet_store.Asset, url: str, experiment_key: str) -> dict[str, Any]:
    """Return an asset as lists show it; its bytes lie behind the link."""
    link = f"{url}/api/rest/v2/experiment/asset/get-asset?experimentKey={experiment_key}&assetId={asset.id}"
    return {
        "assetId": asset.id,
        "experimentKey": experiment_key,
        "fileName": asset.name,
        "fileSize": len(asset.content),
        "type": asset.type,
        "step": asset.step,
        "runContext": asset.details.get("context"),
        "metadata": None if asset.metadata is None else json.dumps(asset.metadata),
        "createdAt": asset.created,
        "remote": asset.link is not None,
        "link": asset.link or link,
        "dir": f"models/{asset.group}" if asset.group else "others",
        "image": asset.type == "image",
        "audio": asset.type == "audio",
        "video": asset.type == "video",
        "histogram": asset.type == "histogram3d",
        "canView": False,
        "tags": [],
    }


def _list(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    wanted, name = call.values.get("type", "all"), call.values.get("assetName")
    assets = [asset for asset in experiment.assets if wanted in ("all", asset.type) and name in (None, asset.name)]
    return {"assets": [description(asset, call.url, experiment.key) for asset in assets]}


def _content(store: comet_store.CometStore, call: comet_call.CometCall) -> server.Response:
    if "artifactVersionId" in call.values:
        assets = version_of(store, call.values["artifactVersionId"]).assets
    else:
        versions = [version for model in store.models for version in model.versions]
        assets = comet_call.experiment_of(store, call).assets + [asset for version in versions for asset in version.assets]
    for asset in assets:
        if asset.id == call.values["assetId"]:
            return server.Response(200, "application/octet-stream", asset.content)
    raise comet_call.CallRefused(404, 0, f"No asset {call.values['assetId']}")


def _patch(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    patches = [asset for asset in comet_call.experiment_of(store, call).assets if asset.type == "git-patch"]
    if not patches:
        return {"msg": "no patch"}
    return server.Response(200, "application/octet-stream", patches[-1].content)


def model(experiment: comet_store.Experiment, name: str) -> list[comet_store.Asset]:
    """Return the assets of one model of an experiment."""
    return [asset for asset in experiment.assets if asset.type == "model-element" and asset.group == name]


def _models(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    names = dict.fromkeys(asset.group for asset in experiment.assets if asset.type == "model-element")
    ids = {name: f"{experiment.key}/{name}" for name in names}
    rows = [{"experimentModelId": ids[name], "experimentKey": experiment.key, "modelName": name} for name in names]
    return {"models": rows}


def _model_list(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    assets = model(experiment, call.values["modelName"])
    return {"assets": [description(asset, call.url, experiment.key) for asset in assets]}


def zip_response(assets: list[comet_store.Asset]) -> server.Response:
    """Return assets as one archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for asset in assets:
            archive.writestr(asset.name, asset.content)
    return server.Response(200, "application/zip", content.getvalue())


METHODS: dict[str, comet_call.Method] = {
    "asset/upload": _upload,
    "visualizations/upload": _upload,
    "git-patch/upload": _upload,
    "write/experiment/upload-asset": _upload,
    "experiment/asset/list": _list,
    "experiment/asset/get-by-name": _list,
    "experiment/asset/get-asset": _content,
    "experiment/git/patch": _patch,
    "experiment/model": _models,
    "experiment/model/asset/list": _model_list,
    "experiment/model/download": lambda store, call: zip_response(
        model(comet_call.experiment_of(store, call), call.values["modelName"])
    ),
}
