"""The methods of the Comet loopback that give back what experiments logged, files apart.

Numbers go back as strings, as the service sends them; a repeated point or parameter goes back as often as it came.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mnist_jax.compare.servers import comet_call, comet_store

_SYSTEM = ["command", "env", "executable", "hostname", "ip", "machine", "os", "osRelease", "osType", "pid", "processor"]
_SYSTEM += ["pythonVersion", "pythonVersionVerbose", "user", "osPackages", "installedPackages", "gpuStaticInfoList"]


def _metadata(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    ended = experiment.ended or comet_store.now_ms()
    return {
        "experimentKey": experiment.key,
        "experimentName": experiment.name,
        "workspaceName": experiment.workspace,
        "projectName": experiment.project,
        "projectId": experiment.project_id,
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


def _points(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    wanted = call.values.get("metricName")
    points = enumerate(comet_call.experiment_of(store, call).metrics)
    return {"metrics": [_point(point, at) for at, point in points if wanted in (None, point.name)]}


def _point(point: comet_store.CometPoint, offset: int) -> Any:
    where = {"step": point.step, "epoch": point.epoch, "runContext": point.context}
    return {"metricName": point.name, "metricValue": str(point.value), "timestamp": point.timestamp, **where, "offset": offset}


def _metric_summaries(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
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


def _system(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    experiment = comet_call.experiment_of(store, call)
    additional = [{"key": key, "value": value} for key, value in experiment.system_info]
    details = {**dict.fromkeys(_SYSTEM), **experiment.system}  # the client expects each name, known or not
    return {"experimentKey": experiment.key, **details, "logAdditionalSystemInfoList": additional}


def _experiments(store: comet_store.CometStore, call: comet_call.CometCall) -> Any:
    project = (call.values["workspaceName"], call.values["projectName"])
    keys = [each.key for each in store.experiments.values() if (each.workspace, each.project) == project]
    return {"experiments": [_metadata(store, call._replace(values={"experimentKey": key})) for key in keys]}


def _part(name: str, read: Callable[[comet_store.Experiment], Any]) -> comet_call.Method:
    return lambda store, call: {name: read(comet_call.experiment_of(store, call))}


METHODS: dict[str, comet_call.Method] = {
    "experiment/metadata": _metadata,
    "experiment/metrics/get-all": _points,
    "experiment/metrics/get-metric": _points,
    "experiment/metrics/summary": _metric_summaries,
    "experiment/parameters": _part("values", lambda experiment: _summaries(experiment.parameters)),
    "experiment/log-other": _part("values", lambda experiment: _summaries(experiment.others)),
    "experiment/tags": _part("tags", lambda experiment: experiment.tags),
    "experiment/system-details": _system,
    "experiment/html": _part("html", lambda experiment: "".join(experiment.html)),
    "experiment/output": _part("output", lambda experiment: "".join(line.text for line in experiment.output)),
    "experiment/graph": _part("graph", lambda experiment: experiment.graph),
    "experiment/git/metadata": lambda store, call: comet_call.experiment_of(store, call).git,
    "experiments": _experiments,
}
