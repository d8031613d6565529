"""What Comet holds of an experiment, on a server or in an offline archive, counted by the same keys.

A key is ("metric", name, step), ("image", name, step), ("text", name, step), or (their type of a file, its name).
"""

from __future__ import annotations

import collections
import json
import zipfile
from pathlib import Path
from typing import Any

METRIC_NAME_CHARACTERS = 100  # a longer name is cut by the client, and ends with the word " [truncated]"


def metric(name: str, step: int) -> tuple:
    """Return the key of a point."""
    return "metric", name[:METRIC_NAME_CHARACTERS - len(" [truncated]")], step


def on_server(api: Any, experiment: str) -> collections.Counter[tuple]:
    """Return what a server holds, asked through comet_ml.API."""
    found = api.get_experiment_by_key(experiment)
    held: collections.Counter[tuple] = collections.Counter()
    for point in found.get_metrics():
        held[metric(point["metricName"], point["step"])] += 1
    for asset in found.get_asset_list("all"):
        metadata = json.loads(asset["metadata"] or "{}") if isinstance(asset["metadata"], str) else asset["metadata"] or {}
        match asset["type"]:
            case "text-sample":
                held["text", metadata.get("name"), asset["step"]] += 1  # their own name of it says nothing
            case "image":
                held["image", asset["fileName"], asset["step"]] += 1
            case kind:
                held[kind, asset["fileName"]] += 1
    return held


def in_archive(path: Path) -> collections.Counter[tuple]:
    """Return what an offline archive of ours holds."""
    held: collections.Counter[tuple] = collections.Counter()
    with zipfile.ZipFile(path) as archive:
        for line in archive.read("messages.json").split(b"\n"):
            message: Any = json.loads(line) if line else {"type": ""}
            if message["type"] == "metric_msg":
                point = message["payload"]["metric"]
                held[metric(point["metricName"], point["step"])] += 1
            elif message["type"] == "file_upload":
                upload = message["payload"]
                named, kind = upload["additional_params"], upload["upload_type"]
                if kind == "text-sample":
                    held["text", upload["metadata"]["name"], named["step"]] += 1
                elif kind == "visualization":
                    held["image", named["figName"], named["step"]] += 1
                else:
                    held[kind, named["fileName"]] += 1
    return held
