"""Converts any program's Comet messages to the nearest kind of event; the account names the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as comet_archive
from mnist_jax.convert.comet import messages

_PATCHES = ("git-patch", "git_patch", "patch")


def read(archive: comet_archive.Archive, contents: messages.Messages, write_blob: untrusted.WriteBlob,
         account: untrusted.Account) -> Iterator[events.Event]:
    """Yield events of all contents of the messages."""
    facts = {name: _fact(value) for name, value in contents.system.items()}
    facts |= {f"packages/{name}": _fact(version) for name, version in contents.packages.items()}
    if facts:
        yield events.Environment(facts)
    yield from _source(archive, contents, write_blob)
    parameters: dict[str, Any] = {}
    for name, value in contents.parameters.items():
        dotted = name.replace("|", ".")  # the client joins the names of nested parameters so
        name = name if dotted in parameters else dotted
        parameters[name] = untrusted.parameter(name, _number(value), account)
    for name, value in contents.others.items():
        if name not in messages.AUTOMATIC_OTHERS:
            parameters[f"other.{name}"] = untrusted.parameter(name, value, account)
    if parameters:
        yield events.Hyperparameters(parameters)
    series: dict[str, list[untrusted.ForeignPoint]] = {}
    for metric in contents.metrics:
        series.setdefault(metric.name, []).append(untrusted.ForeignPoint(metric.value, metric.step, metric.time))
    for name, points in series.items():
        yield from untrusted.metrics(name, points, write_blob, account)
    if contents.output:
        account.change("lines of output joined, without their times", "output")
        yield events.Text("output", 0, "".join(contents.output))
    yield from (events.Text(name, 0, text) for name, text in contents.texts)
    for file in contents.files:
        data = archive.content(file.member, file.name)
        if data is not None:
            yield _of_file(file, data, write_blob)


def _of_file(file: messages.UploadedFile, data: bytes, write_blob: untrusted.WriteBlob) -> events.Event:
    step = 0 if file.step is None else file.step
    title = file.name.rpartition("/")[2] or file.name
    match file.kind:
        case "text-sample":
            return events.Text(str(file.metadata.get("name") or "text"), step, untrusted.text(data))
        case "visualization":
            title = title if "." in title else f"{title}.{file.extension or 'png'}"
            return untrusted.picture(file.name, step, data, title, str(file.metadata.get("caption") or ""), write_blob)
        case "model-element":
            return events.Model(file.group or file.name, "", step, write_blob(data, title), (), (), {}, _metadata(file))
    metadata = _metadata(file)
    if file.step is not None:
        metadata.setdefault("step", file.step)
    return events.Artifact(file.name, write_blob(data, title), file.kind, metadata)


def _source(archive: comet_archive.Archive, contents: messages.Messages,
            write_blob: untrusted.WriteBlob) -> Iterator[events.Source]:
    """Yield the source where there are code, a patch or git facts; the client packs a patch as a zip, which stays so."""
    code = [file for file in contents.files if file.kind == "source_code"]
    patches = [file for file in contents.files if file.kind in _PATCHES]
    contents.files = [file for file in contents.files if file.kind not in ("source_code", *_PATCHES)]
    if not (code or patches or contents.git):
        return
    files = [(file, data) for file in code + patches if (data := archive.content(file.member, file.name)) is not None]
    patch = next((write_blob(data, file.name) for file, data in files if file.kind in _PATCHES), None)
    git = {name: value for name, value in contents.git.items() if isinstance(value, str) and value}
    remote = untrusted.without_secrets(git["origin"]) if "origin" in git else None
    yield events.Source(git.get("parent"), git.get("branch"), remote, patch is not None or git.get("status", "") != "",
                        patch, tuple(write_blob(data, file.name) for file, data in files if file.kind == "source_code"))


def _metadata(file: messages.UploadedFile) -> dict[str, Any]:
    return {str(name): _fact(value) for name, value in file.metadata.items()}


def _fact(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _number(value: Any) -> Any:
    return {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.get(value, value) \
        if isinstance(value, str) else value
