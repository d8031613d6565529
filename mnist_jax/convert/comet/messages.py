"""The messages of a Comet experiment, sorted by what they state: metrics, parameters, others, files, texts.

One message may say several things (the older `ws_msg`), and one fact may be said by several types.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from mnist_jax.convert import untrusted

_AUTOMATIC = ("curr_step", "curr_epoch")  # parameters that the client keeps for itself
AUTOMATIC_OTHERS = ("Name", "offline_experiment", "hasNestedParams", "sys.already_imported_modules")
_DETAILS = ("hostname", "machine", "os", "os_release", "os_type", "processor", "python_version", "python_version_verbose",
            "python_exe", "user", "pid", "ip")


class Metric(NamedTuple):
    name: str
    value: float
    step: Any
    time: float  # unix seconds of the sending


class UploadedFile(NamedTuple):
    """A file as uploaded; `place` is its name in the archive."""

    kind: str
    name: str
    step: int | None
    place: Any
    metadata: dict[str, Any]
    group: str = ""  # of a model's files
    extension: str = ""


@dataclasses.dataclass
class Messages:
    """What some messages state, in order."""

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
        """Return what is stated, for a line of the account."""
        return [*dict.fromkeys([metric.name for metric in self.metrics]), *self.parameters, *self.others, *self.system,
                *(file.name for file in self.files)]


def read(messages: Iterable[tuple[str, dict[str, Any]]], account: untrusted.Account) -> Messages:
    """Return what messages state; what cannot be carried is said in the account."""
    stated = Messages()
    for kind, payload in messages:
        try:
            _state(stated, kind, payload, account)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            account.skip(f"messages of type {kind[:40]} that could not be read", str(error)[:100])
    return stated


def _state(stated: Messages, kind: str, payload: dict[str, Any], account: untrusted.Account) -> None:
    match kind:
        case "metric_msg":
            _metric(stated, payload, account)
        case "parameter_msg":
            said = payload.get("param") or payload.get("params")
            if said and not (said["paramName"] in _AUTOMATIC and said.get("source") == "auto-logged"):
                if stated.parameters.get(said["paramName"], said["paramValue"]) != said["paramValue"]:
                    account.change("the last value kept of a parameter that was given again", str(said["paramName"]))
                stated.parameters[str(said["paramName"])] = said["paramValue"]
        case "log_other":
            stated.others[str(payload["key"])] = payload["value"]
        case "system_info":
            stated.system[str(payload["system_info"]["key"])] = payload["system_info"]["value"]
        case "log_dependency":
            stated.packages[str(payload["name"])] = payload["version"]
        case "installed_packages":
            for line in payload["installed_packages"]:
                name, _, version = str(line).partition("==")
                stated.packages.setdefault(name, version)
        case "file_upload":
            stated.files.append(_file(payload))
        case "3d-image":
            for item in payload["items"]:
                metadata = payload.get("metadata") or {}
                name = f"{payload['name']}/{item['file_name']}"
                stated.files.append(UploadedFile("3d-image", name, _step(payload.get("step")), item["file_path"], metadata))
        case "standard_output":
            stated.output.append(str(payload["output"]))
        case "html" | "htmlOverride" | "graph":
            stated.texts.append((kind, str(payload[kind])))
        case "file_name":
            stated.system["file_name"] = payload["file_name"]
        case "git_metadata":
            stated.git.update(payload["git_metadata"])
        case "system_details":
            _details(stated, payload, account)
        case "os_packages" | "gpu_static_info":
            stated.texts.append((kind, json.dumps(payload[kind])))
        case "cloud_details":
            stated.texts.append((kind, json.dumps({"provider": payload["provider"], "metadata": payload["cloud_metadata"]})))
        case "register_model":
            facts = {name: value for name, value in payload.items() if name != "message_id" and value is not None}
            stated.texts.append((f"registered_model/{payload['model_name']}", json.dumps(facts)))
        case "remote_file" | "remote_model":
            address = payload.get("remote_uri") or payload.get("model_name")
            account.skip("files that lie elsewhere, by their address", untrusted.without_secrets(str(address)))
        case "ws_msg":
            _older(stated, payload, account)
        case "close":
            pass
        case _:
            account.skip("messages of a type that is not known", kind[:40])


def _metric(stated: Messages, payload: dict[str, Any], account: untrusted.Account) -> None:
    said = payload["metric"]
    name, context = str(said["metricName"]), payload.get("context")
    if isinstance(context, str) and context and not name.startswith(context):
        name = f"{context}/{name}"
    time = payload.get("local_timestamp", 0)
    if isinstance(said["metricValue"], bool) or not isinstance(time, int | float) or not abs(time) <= sys.float_info.max:
        raise ValueError(f"{name} has no number")
    try:
        value = float(said["metricValue"])
    except (TypeError, ValueError):
        account.skip("metric values that are no numbers", name)
        return
    stated.metrics.append(Metric(name, value, said.get("step"), time / 1000))


def _file(payload: dict[str, Any]) -> UploadedFile:
    about, metadata = payload.get("additional_params") or {}, payload.get("metadata") or {}
    if not isinstance(metadata, dict) or not isinstance(about, dict):
        raise ValueError("its metadata are no object")
    name = about.get("fileName") or about.get("figName") or payload["upload_type"]
    return UploadedFile(str(payload["upload_type"]), str(name), _step(about.get("step")), payload["file_path"], metadata,
                str(about.get("groupingName") or ""), str(about.get("extension") or ""))


def _details(stated: Messages, payload: dict[str, Any], account: untrusted.Account) -> None:
    for name in _DETAILS:
        if isinstance(payload.get(name), str | int):
            stated.system[name] = payload[name]
    command = payload.get("command")
    if command:
        words = " ".join(map(str, command)) if isinstance(command, list) else str(command)
        stated.system["command"] = untrusted.without_secrets(words)
    if payload.get("env"):
        account.skip("environment variables, which may hold secrets", "system details")


def _older(stated: Messages, payload: dict[str, Any], account: untrusted.Account) -> None:
    """State what a message of older clients says: any of the newer types as a field."""
    renamed = {"stdout": "standard_output", "fileName": "file_name", "git_meta": "git_metadata",
               "env_details": "system_details", "log_system_info": "system_info"}
    for name, value in payload.items():
        if value is None or name in ("local_timestamp", "context", "message_id", "stderr", "code"):
            continue
        kind = renamed.get(name, name)
        match kind:
            case "log_other":
                _state(stated, kind, {"key": value["key"], "value": value["val"]}, account)
            case "log_dependency" | "system_details":
                _state(stated, kind, value, account)
            case "standard_output":
                _state(stated, kind, {"output": value}, account)
            case _:
                _state(stated, kind, {kind: value}, account)


def _step(step: Any) -> int | None:
    whole = isinstance(step, int | float) and abs(step) <= untrusted.STEP_LIMIT and int(step) == step
    return int(step) if whole and not isinstance(step, bool) else None
