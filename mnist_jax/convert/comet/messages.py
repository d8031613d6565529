"""Sorts the messages of a Comet experiment by their contents: metrics, parameters, others, files, texts.

One message may hold several facts (the older `ws_msg`), and one fact may come as several types.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from mnist_jax.convert import untrusted

_AUTOMATIC = ("curr_step", "curr_epoch")  # parameters that the client adds by itself
AUTOMATIC_OTHERS = ("Name", "offline_experiment", "hasNestedParams", "sys.already_imported_modules")
_DETAILS = ("hostname", "machine", "os", "os_release", "os_type", "processor", "python_version", "python_version_verbose",
            "python_exe", "user", "pid", "ip")


class Metric(NamedTuple):
    name: str
    value: float
    step: Any
    time: float  # unix seconds, of the sending


class UploadedFile(NamedTuple):
    """An uploaded file; `member` is its name in the archive."""

    kind: str
    name: str
    step: int | None
    member: Any
    metadata: dict[str, Any]
    group: str = ""  # of a model's files
    extension: str = ""


@dataclasses.dataclass
class Messages:
    """The contents of some messages, in order."""

    metrics: list[Metric] = dataclasses.field(default_factory=list)
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    system: dict[str, Any] = dataclasses.field(default_factory=dict)
    packages: dict[str, Any] = dataclasses.field(default_factory=dict)
    git: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: list[UploadedFile] = dataclasses.field(default_factory=list)
    texts: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    output: list[str] = dataclasses.field(default_factory=list)

    def names(self) -> list[str]:
        """Return the names of the contents, for a line of the account."""
        return [*dict.fromkeys([metric.name for metric in self.metrics]), *self.parameters, *self.others, *self.system,
                *(file.name for file in self.files)]


def read(messages: Iterable[tuple[str, dict[str, Any]]], account: untrusted.Account) -> Messages:
    """Return the contents of messages; the account says what was skipped."""
    contents = Messages()
    for kind, payload in messages:
        try:
            _add(contents, kind, payload, account)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            account.skip(f"messages of type {kind[:40]} that could not be read", str(error)[:100])
    return contents


def _add(contents: Messages, kind: str, payload: dict[str, Any], account: untrusted.Account) -> None:
    match kind:
        case "metric_msg":
            _metric(contents, payload, account)
        case "parameter_msg":
            parameter = payload.get("param") or payload.get("params")
            if parameter and not (parameter["paramName"] in _AUTOMATIC and parameter.get("source") == "auto-logged"):
                name, value = parameter["paramName"], parameter["paramValue"]
                if contents.parameters.get(name, value) != value:
                    account.change("the last value of a parameter that was logged again", str(name))
                contents.parameters[str(name)] = value
        case "log_other":
            contents.others[str(payload["key"])] = payload["value"]
        case "system_info":
            contents.system[str(payload["system_info"]["key"])] = payload["system_info"]["value"]
        case "log_dependency":
            contents.packages[str(payload["name"])] = payload["version"]
        case "installed_packages":
            for line in payload["installed_packages"]:
                name, _, version = str(line).partition("==")
                contents.packages.setdefault(name, version)
        case "file_upload":
            contents.files.append(_file(payload))
        case "3d-image":
            for item in payload["items"]:
                metadata = payload.get("metadata") or {}
                name = f"{payload['name']}/{item['file_name']}"
                contents.files.append(UploadedFile("3d-image", name, _step(payload.get("step")), item["file_path"], metadata))
        case "standard_output":
            contents.output.append(str(payload["output"]))
        case "html" | "htmlOverride" | "graph":
            contents.texts.append((kind, str(payload[kind])))
        case "file_name":
            contents.system["file_name"] = payload["file_name"]
        case "git_metadata":
            contents.git.update(payload["git_metadata"])
        case "system_details":
            _details(contents, payload, account)
        case "os_packages" | "gpu_static_info":
            contents.texts.append((kind, json.dumps(payload[kind])))
        case "cloud_details":
            contents.texts.append((kind, json.dumps({"provider": payload["provider"], "metadata": payload["cloud_metadata"]})))
        case "register_model":
            facts = {name: value for name, value in payload.items() if name != "message_id" and value is not None}
            contents.texts.append((f"registered_model/{payload['model_name']}", json.dumps(facts)))
        case "remote_file" | "remote_model":
            address = payload.get("remote_uri") or payload.get("model_name")
            account.skip("remote files, of which only the address is known", untrusted.without_secrets(str(address)))
        case "ws_msg":
            _older(contents, payload, account)
        case "close":
            pass
        case _:
            account.skip("messages of an unknown type", kind[:40])


def _metric(contents: Messages, payload: dict[str, Any], account: untrusted.Account) -> None:
    metric = payload["metric"]
    name, context = str(metric["metricName"]), payload.get("context")
    if isinstance(context, str) and context and not name.startswith(context):
        name = f"{context}/{name}"
    time = payload.get("local_timestamp", 0)
    if isinstance(metric["metricValue"], bool) or not isinstance(time, int | float) or not abs(time) <= sys.float_info.max:
        raise ValueError(f"{name} has no number")
    try:
        value = float(metric["metricValue"])
    except (TypeError, ValueError):
        account.skip("metric values that are not numbers", name)
        return
    contents.metrics.append(Metric(name, value, metric.get("step"), time / 1000))


def _file(payload: dict[str, Any]) -> UploadedFile:
    about, metadata = payload.get("additional_params") or {}, payload.get("metadata") or {}
    if not isinstance(metadata, dict) or not isinstance(about, dict):
        raise ValueError("its metadata is not an object")
    name = about.get("fileName") or about.get("figName") or payload["upload_type"]
    return UploadedFile(str(payload["upload_type"]), str(name), _step(about.get("step")), payload["file_path"], metadata,
                        str(about.get("groupingName") or ""), str(about.get("extension") or ""))


def _details(contents: Messages, payload: dict[str, Any], account: untrusted.Account) -> None:
    for name in _DETAILS:
        if isinstance(payload.get(name), str | int):
            contents.system[name] = payload[name]
    command = payload.get("command")
    if command:
        line = " ".join(map(str, command)) if isinstance(command, list) else str(command)
        contents.system["command"] = untrusted.without_secrets(line)
    if payload.get("env"):
        account.skip("environment variables, which may hold secrets", "system details")


def _older(contents: Messages, payload: dict[str, Any], account: untrusted.Account) -> None:
    """Add a message of older clients, which has the newer types as fields."""
    renamed = {"stdout": "standard_output", "fileName": "file_name", "git_meta": "git_metadata",
               "env_details": "system_details", "log_system_info": "system_info"}
    for name, value in payload.items():
        if value is None or name in ("local_timestamp", "context", "message_id", "stderr", "code"):
            continue
        kind = renamed.get(name, name)
        match kind:
            case "log_other":
                _add(contents, kind, {"key": value["key"], "value": value["val"]}, account)
            case "log_dependency" | "system_details":
                _add(contents, kind, value, account)
            case "standard_output":
                _add(contents, kind, {"output": value}, account)
            case _:
                _add(contents, kind, {kind: value}, account)


def _step(step: Any) -> int | None:
    whole = isinstance(step, int | float) and abs(step) <= untrusted.STEP_LIMIT and int(step) == step
    return int(step) if whole and not isinstance(step, bool) else None
