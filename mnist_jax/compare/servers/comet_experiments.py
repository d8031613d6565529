"""The methods of the Comet loopback that open experiments and take what they log, files apart.

A handshake with a new key creates the experiment; only with `getOrCreateEnabled` does it return one that exists.
"""

from __future__ import annotations

from typing import Any

from mnist_jax.compare.servers import comet_call, comet_store

_DETAILS = {"key", "experimentKey", "logAdditionalSystemInfoList", "apiKey"}
_OK: dict[str, Any] = {"msg": "OK", "code": 200, "data": None, "sdk_error_code": 0}


def _handshake(experiment: comet_store.Experiment, url: str) -> Any:
    return {
        "runId": experiment.key,
        "project_id": experiment.project_id,
        "projectName": experiment.project,
        "teamName": experiment.workspace,
        "focusUrl": f"{url}/{experiment.workspace}/{experiment.project}/",
        "name": experiment.name,
        "lastOffset": len(experiment.output),
        "featureToggles": [],
        "s3DirectAccessEnabled": False,
        "cometWebAssetUrl": f"{url}/asset",
        "cometWebImageUrl": f"{url}/image",
        "cometRestApiAssetUrl": f"{url}/api/rest/v2/experiment/asset/get-asset",
        "cometRestApiImageUrl": f"{url}/api/rest/v2/experiment/asset/get-asset",
        # No limits: the client rejects larger files by itself and would not ask.
        "upload_file_size_limit_in_mb": 1000,
        "asset_upload_file_size_limit_in_mb": 1000,
        "uploadVideoMaxSizeMB": 1000,
    }


def _add(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    key = call.values["experimentKey"]
    experiment = store.experiments.get(key)
    if experiment is None:
        workspace = call.values.get("teamName") or comet_store.WORKSPACE
        experiment = comet_store.Experiment(key, workspace, call.values.get("projectName") or "general")
        experiment.offline = bool(call.values.get("offline"))
        store.experiments[key] = experiment
    elif not call.values.get("getOrCreateEnabled"):
        raise comet_call.CallRefused(400, 90999, "Experiment already exists")
    return _handshake(experiment, call.url)


def _get(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    key = call.values["previousExperiment"]
    if key not in store.experiments:
        raise comet_call.CallRefused(400, 90210, f"No experiment {key}")
    experiment = store.experiments[key]
    experiment.resumed += 1
    experiment.alive = True
    return _handshake(experiment, call.url)


def _status(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    experiment.alive = call.values["is_alive"]
    experiment.ended = None if experiment.alive else comet_store.now_ms()
    # The client takes the rhythm of its heart from here.
    intervals = ("is_alive_beat_duration_millis", "gpu_monitor_interval_millis", "cpu_monitor_interval_millis")
    return {**dict.fromkeys(intervals, 10_000), "parameter_update_interval_millis": 2_000, "pending_rpcs": False}


def _offline_times(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    experiment.started = call.values["startTimestamp"] or experiment.started
    experiment.ended = call.values["endTimestamp"]
    experiment.alive = False
    return _OK


def _error(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    if call.values["error"]:
        experiment.errors.append(call.values["error"])
    experiment.crashed |= call.values["hasCrashed"]
    return _OK


def _metrics(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    for entry in call.values.get("values", [call.values]):  # a batch, or one by itself
        names = ("metricName", "metricValue", "step", "epoch", "timestamp", "context")
        experiment.metrics.append(comet_store.CometPoint(*(entry.get(name) for name in names)))
    return _OK


def _parameters(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    for entry in call.values.get("values", [call.values]):
        names = ("parameterName", "parameterValue", "step", "timestamp")
        experiment.parameters.append(comet_store.Setting(*(entry.get(name) for name in names)))
    return _OK


def _other(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    setting = comet_store.Setting(call.values["key"], call.values["value"], None, comet_store.now_ms())
    comet_call.experiment_of(store, call).others.append(setting)
    return _OK


def _tags(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    comet_call.experiment_of(store, call).tags += call.values["addedTags"]
    return _OK


def _details(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    experiment.system.update((name, value) for name, value in call.values.items() if name not in _DETAILS)
    for entry in call.values.get("logAdditionalSystemInfoList", []):
        experiment.system_info.append((entry["key"], entry["value"]))
    return _OK


def _dependencies(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    experiment.dependencies += [(entry["name"], entry["version"]) for entry in call.values["logDependencies"]]
    return _OK


def _html(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    if call.values["override"]:
        experiment.html.clear()
    experiment.html.append(call.values["html"])
    return _OK


def _output(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    lines = [comet_store.OutputLine(line["output"], line["stderr"]) for line in call.values["outputLines"]]
    comet_call.experiment_of(store, call).output += lines
    return _OK


def _graph(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    comet_call.experiment_of(store, call).graph = call.values["graph"]
    return _OK


def _git(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    names = ("user", "root", "branch", "parent", "origin")
    comet_call.experiment_of(store, call).git.update({name: call.values.get(name) for name in names})
    return _OK


METHODS: dict[str, comet_call.Method] = {
    "logger/add/run": _add,
    "logger/get/run": _get,
    "status-report/update": _status,
    "status-report/offline-metadata": _offline_times,
    "write/experiment/update-status": _error,
    "batch/logger/experiment/metric": _metrics,
    "batch/logger/experiment/parameter": _parameters,
    "write/experiment/metric": _metrics,
    "write/experiment/parameter": _parameters,
    "write/experiment/log-other": _other,
    "tags/add-tags-to-experiment": _tags,
    "write/experiment/tags": _tags,
    "write/experiment/system-details": _details,
    "write/experiment/file-path": _details,
    "write/experiment/dependencies": _dependencies,
    "write/experiment/html": _html,
    "write/experiment/output": _output,
    "write/experiment/graph": _graph,
    "write/experiment/git/metadata": _git,
}
