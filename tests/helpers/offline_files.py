"""Reads what the two clients left on disk, by the formats alone: nothing here is shared with the code that wrote it."""

import base64
import json
import zipfile
from pathlib import Path
from typing import Any


def neptune(folder: Path) -> tuple[dict[str, Any], dict[str, list[tuple[int, Any]]]]:
    """Return fields (path -> value or bytes) and series (path -> [(step, value)]) of the one run in an offline folder."""
    (run,) = (folder / ".neptune" / "offline").iterdir()
    fields: dict[str, Any] = {}
    series: dict[str, list[tuple[int, Any]]] = {}
    for log in sorted(run.glob("data-*.log"), key=lambda path: int(path.stem.partition("-")[2])):
        decoder, text, position = json.JSONDecoder(), log.read_text(), 0
        while (position := text.find("{", position)) >= 0:
            line, position = decoder.raw_decode(text, position)
            operation = line["obj"]
            path = "/".join(operation["path"])
            match operation["type"]:
                case "AssignFloat" | "AssignInt" | "AssignBool" | "AssignString":
                    fields[path] = operation["value"]
                case "LogFloats" | "LogStrings":
                    series.setdefault(path, []).extend((item["step"], item["value"]) for item in operation["values"])
                case "LogImages":
                    series.setdefault(path, []).extend(
                        (item["step"], base64.b64decode(item["value"]["data"])) for item in operation["values"])
                case "UploadFileContent":
                    fields[path] = base64.b64decode(operation["file_content"])
                case "UploadFile":
                    fields[path] = (run / "upload_path" / operation["tmp_file_name"]).read_bytes()
                case "AddStrings":
                    fields[path] = operation["values"]
    return fields, series


class Comet:
    """What an offline archive holds."""

    def __init__(self, path: Path):
        self.metrics: dict[str, list[tuple[int, float, int]]] = {}  # (step, value, epoch)
        self.parameters: dict[str, Any] = {}
        self.others: dict[str, Any] = {}
        self.assets: list[tuple[str, str, int, bytes, Any]] = []  # (kind, name, step, data, metadata)
        self.system: dict[str, Any] = {}
        self.packages: dict[str, str] = {}
        with zipfile.ZipFile(path) as archive:
            self.experiment = json.loads(archive.read("experiment.json"))
            for line in archive.read("messages.json").decode().split("\n"):
                if not line:
                    continue
                message = json.loads(line)
                payload = message["payload"]
                match message["type"]:
                    case "metric_msg":
                        metric = payload["metric"]
                        self.metrics.setdefault(metric["metricName"], []).append(
                            (metric["step"], metric["metricValue"], metric["epoch"]))
                    case "parameter_msg":
                        param = payload["param"]
                        self.parameters[param["paramName"]] = param["paramValue"]
                    case "log_other":
                        self.others[payload["key"]] = payload["value"]
                    case "system_info":
                        self.system[payload["system_info"]["key"]] = payload["system_info"]["value"]
                    case "log_dependency":
                        self.packages[payload["name"]] = payload["version"]
                    case "file_upload":
                        name = payload["additional_params"].get("fileName") or payload["additional_params"].get("figName")
                        data = archive.read(payload["file_path"].rpartition("/")[2])
                        self.assets.append((payload["upload_type"], name, payload["additional_params"].get("step"), data,
                                            payload["metadata"]))

    def asset(self, kind: str, name: str) -> bytes:
        (data,) = [data for upload, title, _, data, _ in self.assets if (upload, title) == (kind, name)]
        return data
