"""The way back of comet_tracker: their messages on the left, our event on the right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as convert_archive
from mnist_jax.convert.comet import messages
from mnist_jax.tracking import values as field_values

NOT_READ = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError)  # of messages that are not ours

AUTOMATIC_METRIC = "process duration"  # the client's own, at the end
_NAME_CHARACTERS = 100
_ORIGIN = ("version", "step", "sha256", "scores", "datasets", "parents")
_NOT_EVENTS = ("run/", "datasets/", "source/")
_NOT_OURS = ("dataset_info", *messages.AUTOMATIC_OTHERS)


def read(archive: convert_archive.Archive, stated: messages.Messages, keep: untrusted.Keep) -> Iterator[events.Event]:
    """Yield the events that our tracker wrote, and take what they were read from out of `stated`.

    Raises:
      One of NOT_READ: a message or a file is not as our tracker writes it.
    """

    def content(file: messages.UploadedFile) -> bytes:
        data = archive.content(file.place, file.name)
        if data is None:
            raise ValueError("a file of it is not there")
        return data

    def take(kind: str, prefix: str = "") -> list[messages.UploadedFile]:
        taken: list[messages.UploadedFile] = []
        left: list[messages.UploadedFile] = []
        for file in stated.files:
            (taken if file.kind == kind and file.name.startswith(prefix) else left).append(file)
        stated.files = left
        return taken

    others = {name: field_values.value(held) for name, held in stated.others.items()}
    if stated.system:
        yield events.Environment({name: field_values.value(held) for name, held in stated.system.items()})
    if "source/commit" in others:
        code = [(file.name, content(file)) for file in take("source_code")]
        for name in [name for name, data in code if b"\xef\xbf\xbd" in data]:
            archive.account.change("source files with bytes that are no text: Comet kept a mark in their place", name)
        sources = tuple(keep(data, name) for name, data in code)
        patches = [keep(content(file), str(file.metadata.get("file_name", "uncommitted.diff")))
                   for file in take("asset", "source/patch.diff")]
        yield events.Source(others["source/commit"], others["source/branch"], others["source/remote"],
                            bool(others["source/dirty"]), patches[0] if patches else None, sources)
    for split in dict.fromkeys(name.split("/")[1] for name in others if name.startswith("datasets/")):
        prefix = f"datasets/{split}/"
        yield untrusted.dataset(split, {name.removeprefix(prefix): held for name, held in others.items()
                                      if name.startswith(prefix)})
    if stated.parameters:
        long = {file.name.removeprefix("parameters/").removesuffix(".txt"): content(file).decode()
                for file in take("asset", "parameters/")}
        yield events.Hyperparameters({name: field_values.value(long.get(name, held)) for name, held in stated.parameters.items()})
    if "run/status" in others:
        yield events.Status(int(others["run/status_step"]), str(others["run/status"]))
    for name in {metric.name for metric in stated.metrics if len(metric.name) == _NAME_CHARACTERS}:
        archive.account.change(f"metric names that Comet may have cut at {_NAME_CHARACTERS} characters", name)
    yield from _metrics([metric for metric in stated.metrics if metric.name != AUTOMATIC_METRIC])
    for file in take("visualization"):
        blob = keep(content(file), str(file.metadata.get("file", file.name)))
        yield events.Image(file.name, _whole(file.step), blob, str(file.metadata.get("caption", "")))
    for file in take("asset", "artifacts/"):
        name = file.name.removeprefix("artifacts/")
        facts = {key: field_values.value(held) for key, held in file.metadata.items()}
        kind, title = str(facts.pop("kind")), str(facts.pop("file_name", name))
        facts.pop("sha256", None)
        yield events.Artifact(name, keep(content(file), title), kind, facts)
    for file in take("model-element"):
        facts = dict(file.metadata)
        scores = {name: field_values.value(held) for name, held in facts["scores"].items()}
        yield events.Model(file.group, str(facts["version"]), _whole(facts["step"]), keep(content(file), file.name),
                           tuple(facts["datasets"]), tuple(facts["parents"]), scores,
                           {key: field_values.value(held) for key, held in facts.items() if key not in _ORIGIN})
    for file in take("text-sample"):
        yield events.Text(str(file.metadata["name"]), _whole(file.step), content(file).decode())
    stated.others = {name: held for name, held in stated.others.items()
                     if not name.startswith(_NOT_EVENTS) and name not in _NOT_OURS}
    stated.system, stated.packages, stated.parameters, stated.metrics = {}, {}, {}, []


def _metrics(metrics: list[messages.Metric]) -> Iterator[events.Metrics]:
    """Yield the rows that log_metrics was given: all names at one step, then all at the next."""
    if not metrics:
        return
    series: dict[str, list[messages.Metric]] = {}
    for metric in metrics:
        series.setdefault(metric.name, []).append(metric)
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, points in series.items():
        groups.setdefault(tuple(_whole(point.step) for point in points), []).append(name)
    for steps, names in groups.items():
        values = {name: np.array([point.value for point in series[name]], np.float64) for name in names}
        yield events.Metrics(np.array(steps, np.int64), values, np.array([point.time for point in series[names[0]]]))


def _whole(step: Any) -> int:
    if isinstance(step, bool) or not isinstance(step, int | float) or abs(step) > untrusted.STEP_LIMIT or step != int(step):
        raise ValueError(f"expected a whole step, found {step!r}")
    return int(step)
