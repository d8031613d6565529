"""Writes the contents of a loopback server as evidence, one fact a line: {"kind", "name", "value"}, and perhaps "note"."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnist_jax.compare.servers import comet_store, neptune_store

Dump = Callable[[Path], None]
First = Callable[[], str]
Fact = tuple[str, str, Any] | tuple[str, str, Any, str]  # the last: a note on what is stored, if not all
_SHOWN = 5  # of a series


def neptune(store: neptune_store.NeptuneStore, folder: Path) -> None:
    """Write the contents of a Neptune server to `folder`."""
    with store.lock:
        _write(folder, [fact for run in store.runs.values() for fact in _neptune(run)])


def comet(store: comet_store.CometStore, folder: Path) -> None:
    """Write the contents of a Comet server to `folder`."""
    with store.lock:
        _write(folder, [*(fact for experiment in store.experiments.values() for fact in _comet(experiment)), *_project(store)])


def _neptune(run: neptune_store.StoredRun) -> Iterator[Fact]:
    for path, field in run.fields.items():
        match field.value:
            case neptune_store.StoredFile(content, extension):
                yield field.kind, path, f"{len(content):,} bytes, .{extension}"
            case list():
                yield field.kind, path, [_plain(point.value) for point in field.value[:_SHOWN]]
            case _ if field.kind == "artifact":
                yield field.kind, path, field.value, "its path and digest, not its bytes"
            case dict() if field.kind == "fileSet":
                yield field.kind, path, sorted(field.value)
            case _:
                yield field.kind, path, _plain(field.value)


def _comet(experiment: comet_store.Experiment) -> Iterator[Fact]:
    for name in dict.fromkeys(point.name for point in experiment.metrics):
        yield "metric", name, experiment.values(name)[:_SHOWN]
    yield from (("parameter", entry.name, entry.value) for entry in experiment.parameters)
    yield from (("other", entry.name, entry.value) for entry in experiment.others)
    yield from (("tag", f"tag {tag}", tag) for tag in experiment.tags)
    yield from ((asset.type, _asset_name(asset), f"{len(asset.content):,} bytes") for asset in experiment.assets)
    yield from (("system_details", name, value) for name, value in experiment.system.items())
    yield from (("system_info", name, value) for name, value in experiment.system_info)
    yield from (("installed_packages", name, version) for name, version in experiment.dependencies)
    yield from (("html", "html", text) for text in experiment.html)
    if experiment.output:
        yield "standard_output", "output", [line.text for line in experiment.output[:_SHOWN]]
    if experiment.graph:
        yield "graph", "graph", experiment.graph
    yield from (("git_metadata", name, value) for name, value in experiment.git.items())


def _project(store: comet_store.CometStore) -> Iterator[Fact]:
    for artifact in store.artifacts:
        for version in artifact.versions:
            yield "artifact", artifact.name, {"version": version.version, "state": version.state, "files": len(version.assets),
                                              "used by": len(version.consumers)}
    for model in store.models:
        for each in model.versions:
            yield "registry", f"registered {model.name}", {"version": each.version, "files": len(each.assets)}


def _asset_name(asset: comet_store.Asset) -> str:
    return f"{asset.group}/{asset.name}" if asset.group else asset.name


def _plain(value: Any) -> Any:
    if isinstance(value, neptune_store.StoredImage):
        return f"{len(value.content):,} bytes"
    return sorted(value) if isinstance(value, set) else value


def _write(folder: Path, facts: list[Fact]) -> None:
    lines = [json.dumps(dict(zip(("kind", "name", "value", "note"), fact, strict=False)), default=str) for fact in facts]
    (folder / "server.jsonl").write_text("".join(line + "\n" for line in lines))
