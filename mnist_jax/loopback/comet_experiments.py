"""The methods of the Comet loopback that open experiments, take what they log, and give it back.

Numbers go back as strings, as the service sends them; a repeated point or parameter goes back as often as it came.
"""

from __future__ import annotations

import json
from typing import Any

from mnist_jax.loopback import comet_call, comet_store

_DETAILS = {"key", "experimentKey", "logAdditionalSystemInfoList", "apiKey"}
_OK: dict[str, Any] = {"msg": "OK", "code": 200, "data": None, "sdk_error_code": 0}


def _handshake(experiment: comet_store.Experiment, url: str) -> Any:
    return {
        "runId": experiment.key,
        "project_id": _project_id(experiment),
        "projectName": experiment.project,
        "teamName": experiment.workspace,
        "focusUrl": f"{url}/{experiment.workspace}/{experiment.project}/",
        "name": _name(experiment),
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


def _project_id(experiment: comet_store.Experiment) -> str:
    return f"{experiment.workspace}/{experiment.project}"


def _name(experiment: comet_store.Experiment) -> str | None:
    return next((other.value for other in reversed(experiment.others) if other.name == "Name"), None)


def _add(store: comet_store.Store, call: comet_call.Call) -> Any:
    key = call.values["experimentKey"]
    experiment = store.experiments.get(key)
    if experiment is None:
        workspace = call.values.get("teamName") or comet_store.WORKSPACE
        experiment = comet_store.Experiment(key, workspace, call.values.get("projectName") or "general")
        experiment.offline = bool(call.values.get("offline"))
        store.experiments[key] = experiment
    elif not call.values.get("getOrCreateEnabled"):
        raise comet_call.Refused(400, 90999, "Experiment already exists")
    return _handshake(experiment, call.url)


def _get(store: comet_store.Store, call: comet_call.Call) -> Any:
    key = call.values["previousExperiment"]
    if key not in store.experiments:
        raise comet_call.Refused(400, 90210, f"No experiment {key}")
    experiment = store.experiments[key]
    experiment.resumed += 1
    experiment.alive = True
    return _handshake(experiment, call.url)


def _status(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    experiment.alive = call.values["is_alive"]
    experiment.ended = None if experiment.alive else comet_store.now_ms()
    # The client takes the rhythm of its heart from here.
    intervals = ("is_alive_beat_duration_millis", "gpu_monitor_interval_millis", "cpu_monitor_interval_millis")
    return {**dict.fromkeys(intervals, 10_000), "parameter_update_interval_millis": 2_000, "pending_rpcs": False}


def _offline_times(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    experiment.started = call.values["startTimestamp"] or experiment.started
    experiment.ended = call.values["endTimestamp"]
    experiment.alive = False
    return _OK


def _error(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    if call.values["error"]:
        experiment.errors.append(call.values["error"])
    experiment.crashed |= call.values["hasCrashed"]
    return _OK


def _metrics(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    for entry in call.values["values"]:
        names = ("metricName", "metricValue", "step", "epoch", "timestamp", "context")
        experiment.metrics.append(comet_store.Point(*(entry.get(name) for name in names)))
    return _OK


def _parameters(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    for entry in call.values["values"]:
        names = ("parameterName", "parameterValue", "step", "timestamp")
        experiment.parameters.append(comet_store.Setting(*(entry.get(name) for name in names)))
    return _OK


def _other(store: comet_store.Store, call: comet_call.Call) -> Any:
    setting = comet_store.Setting(call.values["key"], call.values["value"], None, comet_store.now_ms())
    comet_call.experiment_of(store, call).others.append(setting)
    return _OK


def _tags(store: comet_store.Store, call: comet_call.Call) -> Any:
    comet_call.experiment_of(store, call).tags += call.values["addedTags"]
    return _OK


def _details(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    experiment.system.update((name, value) for name, value in call.values.items() if name not in _DETAILS)
    for entry in call.values.get("logAdditionalSystemInfoList", []):
        experiment.system_info.append((entry["key"], entry["value"]))
    return _OK


def _dependencies(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    experiment.dependencies += [(entry["name"], entry["version"]) for entry in call.values["logDependencies"]]
    return _OK


def _html(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    if call.values["override"]:
        experiment.html.clear()
    experiment.html.append(call.values["html"])
    return _OK


def _output(store: comet_store.Store, call: comet_call.Call) -> Any:
    lines = [comet_store.Line(line["output"], line["stderr"]) for line in call.values["outputLines"]]
    comet_call.experiment_of(store, call).output += lines
    return _OK


def _graph(store: comet_store.Store, call: comet_call.Call) -> Any:
    comet_call.experiment_of(store, call).graph = call.values["graph"]
    return _OK


def _git(store: comet_store.Store, call: comet_call.Call) -> Any:
    parts = ("user", "root", "branch", "parent", "origin")
    comet_call.experiment_of(store, call).git.update({part: call.values.get(part) for part in parts})
    return _OK


def _metadata(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    ended = experiment.ended or comet_store.now_ms()
    return {
        "experimentKey": experiment.key,
        "experimentName": _name(experiment),
        "workspaceName": experiment.workspace,
        "projectName": experiment.project,
        "projectId": _project_id(experiment),
        "archived": False,
        "optimizationId": None,
        "fileName": experiment.system.get("filePath"),
        "filePath": experiment.system.get("filePath"),
        "startTimeMillis": experiment.started,
        "endTimeMillis": ended,
        "durationMillis": ended - experiment.started,
        "running": experiment.alive,
        "hasCrashed": experiment.crashed,
        "throttle": experiment.throttled is not None,
        "throttleMessage": experiment.throttled,
        "throttleReasons": [experiment.throttled] if experiment.throttled else [],
    }


def _points(store: comet_store.Store, call: comet_call.Call) -> Any:
    wanted = call.values.get("metricName")
    points = enumerate(comet_call.experiment_of(store, call).metrics)
    return {"metrics": [_point(point, at) for at, point in points if wanted in (None, point.name)]}


def _point(point: comet_store.Point, offset: int) -> Any:
    where = {"step": point.step, "epoch": point.epoch, "runContext": point.context}
    return {"metricName": point.name, "metricValue": str(point.value), "timestamp": point.timestamp, **where, "offset": offset}


def _metric_summaries(store: comet_store.Store, call: comet_call.Call) -> Any:
    points = comet_call.experiment_of(store, call).metrics
    return {"values": _summaries([comet_store.Setting(*point[:3], point.timestamp) for point in points])}


def _summaries(settings: list[comet_store.Setting]) -> list[dict[str, Any]]:
    of_name: dict[str, list[comet_store.Setting]] = {}
    for setting in settings:
        of_name.setdefault(setting.name, []).append(setting)
    summaries = []
    for name, entries in of_name.items():
        numbers = all(isinstance(entry.value, int | float) for entry in entries)
        ordered = sorted(entries, key=lambda entry: entry.value if numbers else str(entry.value))
        summary: dict[str, Any] = {"name": name, "editable": False}
        for which, entry in (("Max", ordered[-1]), ("Min", ordered[0]), ("Current", entries[-1])):
            text = entry.value if isinstance(entry.value, str) else json.dumps(entry.value)
            summary |= {f"value{which}": text, f"step{which}": entry.step, f"timestamp{which}": entry.timestamp}
        summaries.append(summary)
    return summaries


def _system(store: comet_store.Store, call: comet_call.Call) -> Any:
    experiment = comet_call.experiment_of(store, call)
    additional = [{"key": key, "value": value} for key, value in experiment.system_info]
    return {"experimentKey": experiment.key, **experiment.system, "logAdditionalSystemInfoList": additional}


def _experiments(store: comet_store.Store, call: comet_call.Call) -> Any:
    there = (call.values["workspaceName"], call.values["projectName"])
    keys = [found.key for found in store.experiments.values() if (found.workspace, found.project) == there]
    return {"experiments": [_metadata(store, call._replace(values={"experimentKey": key})) for key in keys]}


METHODS: dict[str, comet_call.Method] = {
    "logger/add/run": _add,
    "logger/get/run": _get,
    "status-report/update": _status,
    "status-report/offline-metadata": _offline_times,
    "write/experiment/update-status": _error,
    "batch/logger/experiment/metric": _metrics,
    "batch/logger/experiment/parameter": _parameters,
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
    "experiment/metadata": _metadata,
    "experiment/metrics/get-all": _points,
    "experiment/metrics/get-metric": _points,
    "experiment/metrics/summary": _metric_summaries,
    "experiment/parameters": lambda store, call: {"values": _summaries(comet_call.experiment_of(store, call).parameters)},
    "experiment/log-other": lambda store, call: {"values": _summaries(comet_call.experiment_of(store, call).others)},
    "experiment/tags": lambda store, call: {"tags": comet_call.experiment_of(store, call).tags},
    "experiment/system-details": _system,
    "experiment/html": lambda store, call: {"html": "".join(comet_call.experiment_of(store, call).html)},
    "experiment/output": lambda store, call: {
        "output": "".join(line.text for line in comet_call.experiment_of(store, call).output)
    },
    "experiment/graph": lambda store, call: {"graph": comet_call.experiment_of(store, call).graph},
    "experiment/git/metadata": lambda store, call: comet_call.experiment_of(store, call).git,
    "experiments": _experiments,
}
