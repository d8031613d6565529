"""The methods of the Comet loopback for the model registry: a version is an experiment's model, given a number.

A version that exists already is refused, as the service does; registering one is the last step, after its files.
"""

from __future__ import annotations

from typing import Any

from mnist_jax.compare.servers import comet_artifacts, comet_assets, comet_call, comet_store


def _create(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    values = call.values
    name, model_name = values["registryModelName"], values["experimentModelName"]
    assets = comet_assets.model(experiment, model_name)
    if not assets:
        raise comet_call.CallRefused(400, 0, f"Experiment {experiment.key} has no model {model_name}")
    models = [model for model in store.models if (model.workspace, model.name) == (experiment.workspace, name)]
    if not models:
        description, public = values.get("registryModelDescription"), bool(values.get("publicModel"))
        models = [comet_store.RegistryModel(comet_store.new_id(), experiment.workspace, name, description, public)]
        store.models += models
    model = models[0]
    number = values["version"] or comet_artifacts.next_version(model.versions[-1].version if model.versions else None)
    if number in [version.version for version in model.versions]:
        raise comet_call.CallRefused(400, 0, f"Version {number} of model {name} exists")
    version = comet_store.ModelVersion(
        id=comet_store.new_id(),
        version=number,
        experiment_key=experiment.key,
        model_name=model_name,
        comment=values.get("versionComment"),
        status=values.get("status"),
        tags=values.get("tags") or [],
        assets=assets,
    )
    model.versions.append(version)
    return {"registryModelId": model.id, "registryModelItemId": version.id}


def _model(store: comet_store.CometStore, call: comet_call.CometCall) -> comet_store.RegistryModel:
    wanted = (call.values["workspaceName"], call.values["modelName"])
    for model in store.models:
        if (model.workspace, model.name) == wanted:
            return model
    raise comet_call.CallRefused(400, 0, f"No model {wanted[1]} in workspace {wanted[0]}")


def _version(model: comet_store.RegistryModel, number: str | None) -> comet_store.ModelVersion:
    for version in reversed(model.versions):
        if number in (None, version.version):
            return version
    raise comet_call.CallRefused(400, 0, f"No version {number} of model {model.name}")


def _row(version: comet_store.ModelVersion, url: str) -> dict[str, Any]:
    return {
        "registryModelItemId": version.id,
        "version": version.version,
        "experimentKey": version.experiment_key,
        "experimentModel": {"experimentKey": version.experiment_key, "modelName": version.model_name},
        "comment": version.comment,
        "status": version.status,
        "stages": version.tags,
        "tags": version.tags,
        "createdAt": version.created,
        "assets": [comet_assets.description(asset, url, version.experiment_key) for asset in version.assets],
    }


def _description(model: comet_store.RegistryModel, url: str) -> dict[str, Any]:
    return {
        "registryModelId": model.id,
        "modelName": model.name,
        "description": model.description,
        "isPublic": model.public,
        # The newest first, as the service lists them.
        "versions": [_row(version, url) for version in reversed(model.versions)],
    }


def _list(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    models = [model for model in store.models if model.workspace == call.values["workspaceName"]]
    return {"registryModels": [_description(model, call.url) for model in models]}


def _details(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    return _description(_model(store, call), call.url)


def _item(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    return _row(_version(_model(store, call), call.values.get("version")), call.url)


def _items(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    model, values = _model(store, call), call.values
    rows = []
    for version in reversed(model.versions):
        fits = values.get("status") in (None, version.status) and values.get("tag") in (None, *version.tags)
        if fits and version.version.startswith(values.get("versionPrefix") or ""):
            rows.append(_row(version, call.url))
    return {"items": rows}


def _download(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    return comet_assets.zip_response(_version(_model(store, call), call.values.get("version")).assets)


def _change(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    for model in store.models:
        for version in model.versions:
            if version.id == call.values["modelItemId"]:
                version.metadata = call.values.get("metadata", version.metadata)
                version.status = call.values.get("status", version.status)
                return {}
    raise comet_call.CallRefused(400, 0, f"No model item {call.values['modelItemId']}")


METHODS: dict[str, comet_call.Method] = {
    "write/registry-model/item/create": _create,
    "write/registry-model/item/status": _change,
    "write/registry-model/item/metadata": _change,
    "registry-model": _list,
    "registry-model/count": lambda store, call: {"registryModelCount": len(_list(store, call)["registryModels"])},
    "registry-model/details": _details,
    "registry-model/compact-details": _details,
    "registry-model/items": _items,
    "registry-model/item/details": _item,
    "registry-model/item/download": _download,
    "registry-model/item/download-instructions": lambda store, call: {"versions": [_item(store, call)]},
}
