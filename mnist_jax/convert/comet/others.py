"""Any program's Comet messages by the nearest kind of event; what has none is named in the account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as convert_archive
from mnist_jax.convert.comet import messages

_PATCHES = ("git-patch", "git_patch", "patch")


def read(archive: convert_archive.Archive, stated: messages.Messages, keep: untrusted.Keep,
         account: untrusted.Account) -> Iterator[events.Event]:
    """Yield events for everything that the messages state."""
    facts = {name: _fact(held) for name, held in stated.system.items()}
    facts |= {f"packages/{name}": _fact(version) for name, version in stated.packages.items()}
    if facts:
        yield events.Environment(facts)
    yield from _source(archive, stated, keep)
    parameters: dict[str, Any] = {}
    for name, held in stated.parameters.items():
        dotted = name.replace("|", ".")  # how the client joins the names of nested parameters
        name = name if dotted in parameters else dotted
        parameters[name] = untrusted.parameter(name, _number(held), account)
    for name, held in stated.others.items():
        if name not in messages.AUTOMATIC_OTHERS:
            parameters[f"other.{name}"] = untrusted.parameter(name, held, account)
    if parameters:
        yield events.Hyperparameters(parameters)
    series: dict[str, list[untrusted.ForeignPoint]] = {}
    for metric in stated.metrics:
        series.setdefault(metric.name, []).append(untrusted.ForeignPoint(metric.value, metric.step, metric.time))
    for name, points in series.items():
        yield from untrusted.metrics(name, points, keep, account)
    if stated.output:
        account.change("printed lines joined, without their times", "output")
        yield events.Text("output", 0, "".join(stated.output))
    yield from (events.Text(name, 0, text) for name, text in stated.texts)
    for file in stated.files:
        data = archive.content(file.place, file.name)
        if data is not None:
            yield _of_file(file, data, keep, account)


def _of_file(file: messages.UploadedFile, data: bytes, keep: untrusted.Keep, account: untrusted.Account) -> events.Event:
    step = 0 if file.step is None else file.step
    title = file.name.rpartition("/")[2] or file.name
    match file.kind:
        case "text-sample":
            return events.Text(str(file.metadata.get("name") or "text"), step, untrusted.text(data))
        case "visualization":
            title = title if "." in title else f"{title}.{file.extension or 'png'}"
            return untrusted.picture(file.name, step, data, title, str(file.metadata.get("caption") or ""), keep)
        case "model-element":
            return events.Model(file.group or file.name, "", step, keep(data, title), (), (), {}, _metadata(file))
    metadata = _metadata(file)
    if file.step is not None:
        metadata.setdefault("step", file.step)
    return events.Artifact(file.name, keep(data, title), file.kind, metadata)


def _source(archive: convert_archive.Archive, stated: messages.Messages, keep: untrusted.Keep) -> Iterator[events.Source]:
    """Yield the source where code, a patch or git facts are there; the client packs a patch as a zip, which is kept."""
    code = [file for file in stated.files if file.kind == "source_code"]
    patches = [file for file in stated.files if file.kind in _PATCHES]
    stated.files = [file for file in stated.files if file.kind not in ("source_code", *_PATCHES)]
    if not (code or patches or stated.git):
        return
    kept = [(file, data) for file in code + patches if (data := archive.content(file.place, file.name)) is not None]
    patch = next((keep(data, file.name) for file, data in kept if file.kind in _PATCHES), None)
    git = {name: held for name, held in stated.git.items() if isinstance(held, str) and held}
    remote = untrusted.without_secrets(git["origin"]) if "origin" in git else None
    yield events.Source(git.get("parent"), git.get("branch"), remote, patch is not None or git.get("status", "") != "",
                        patch, tuple(keep(data, file.name) for file, data in kept if file.kind == "source_code"))


def _metadata(file: messages.UploadedFile) -> dict[str, Any]:
    return {str(name): _fact(held) for name, held in file.metadata.items()}


def _fact(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _number(value: Any) -> Any:
    return {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.get(value, value) \
        if isinstance(value, str) else value
