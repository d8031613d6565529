"""Counts the contents of a Comet experiment, on a server or in an offline archive, by the same keys.

A key is ("metric", name, step), ("image", name, step), ("text", name, step), or (Comet's type of a file, its name).
"""

from __future__ import annotations

import collections
import json
import zipfile
from pathlib import Path
from typing import Any

METRIC_NAME_CHARACTERS = 100  # the client cuts a longer name, and appends " [truncated]"


def metric(name: str, step: int) -> tuple:
    """Return the key of a point."""
    return "metric", name[:METRIC_NAME_CHARACTERS - len(" [truncated]")], step


def on_server(api: Any, experiment: str) -> collections.Counter[tuple]:
    """Return the contents on a server, read through comet_ml.API."""
    remote = api.get_experiment_by_key(experiment)
    counts: collections.Counter[tuple] = collections.Counter()
    for point in remote.get_metrics():
        counts[metric(point["metricName"], point["step"])] += 1
    for asset in remote.get_asset_list("all"):
        metadata = json.loads(asset["metadata"] or "{}") if isinstance(asset["metadata"], str) else asset["metadata"] or {}
        match asset["type"]:
            case "text-sample":
                counts["text", metadata.get("name"), asset["step"]] += 1  # its file name is generated
            case "image":
                counts["image", asset["fileName"], asset["step"]] += 1
            case kind:
                counts[kind, asset["fileName"]] += 1
    return counts


def in_archive(path: Path) -> collections.Counter[tuple]:
    """Return the contents of an offline archive that our tracker wrote."""
    counts: collections.Counter[tuple] = collections.Counter()
    with zipfile.ZipFile(path) as archive:
        for line in archive.read("messages.json").split(b"\n"):
            message: Any = json.loads(line) if line else {"type": ""}
            if message["type"] == "metric_msg":
                point = message["payload"]["metric"]
                counts[metric(point["metricName"], point["step"])] += 1
            elif message["type"] == "file_upload":
                upload = message["payload"]
                parameters, kind = upload["additional_params"], upload["upload_type"]
                if kind == "text-sample":
                    counts["text", upload["metadata"]["name"], parameters["step"]] += 1
                elif kind == "visualization":
                    counts["image", parameters["figName"], parameters["step"]] += 1
                else:
                    counts[kind, parameters["fileName"]] += 1
    return counts
