"""Reads the messages that our Comet tracker wrote back into events: the inverse of tracking/comet/tracker.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mnist_jax import events
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as comet_archive
from mnist_jax.convert.comet import messages
from mnist_jax.tracking import values

READ_ERRORS = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError)  # of messages that are not ours

AUTOMATIC_METRIC = "process duration"  # the client adds it at the end
_NAME_CHARACTERS = 100
_ORIGIN = ("version", "step", "sha256", "scores", "datasets", "parents")
_NOT_EVENTS = ("run/", "datasets/", "source/")
_NOT_OURS = ("dataset_info", *messages.AUTOMATIC_OTHERS)


def read(archive: comet_archive.Archive, contents: messages.Messages,
         write_blob: untrusted.WriteBlob) -> Iterator[events.Event]:
    """Yield the events that our tracker wrote, and remove their messages from `contents`.

    Raises:
      One of READ_ERRORS: a message or a file is not as our tracker writes it.
    """

    def content(file: messages.UploadedFile) -> bytes:
        data = archive.content(file.member, file.name)
        if data is None:
            raise ValueError("one of its files is missing")
        return data

    def take(kind: str, prefix: str = "") -> list[messages.UploadedFile]:
        matches: list[messages.UploadedFile] = []
        rest: list[messages.UploadedFile] = []
        for file in contents.files:
            (matches if file.kind == kind and file.name.startswith(prefix) else rest).append(file)
        contents.files = rest
        return matches

    others = {name: values.decode(value) for name, value in contents.others.items()}
    if contents.system:
        yield events.Environment({name: values.decode(value) for name, value in contents.system.items()})
    if "source/commit" in others:
        code = [(file.name, content(file)) for file in take("source_code")]
        for name in [name for name, data in code if b"\xef\xbf\xbd" in data]:
            archive.account.change("source files with bytes that are not UTF-8: Comet stored a mark in their place", name)
        sources = tuple(write_blob(data, name) for name, data in code)
        patches = [write_blob(content(file), str(file.metadata.get("file_name", "uncommitted.diff")))
                   for file in take("asset", "source/patch.diff")]
        yield events.Source(others["source/commit"], others["source/branch"], others["source/remote"],
                            bool(others["source/dirty"]), patches[0] if patches else None, sources)
    for split in dict.fromkeys(name.split("/")[1] for name in others if name.startswith("datasets/")):
        prefix = f"datasets/{split}/"
        yield untrusted.dataset(split, {name.removeprefix(prefix): value for name, value in others.items()
                                        if name.startswith(prefix)})
    if contents.parameters:
        long = {file.name.removeprefix("parameters/").removesuffix(".txt"): content(file).decode()
                for file in take("asset", "parameters/")}
        yield events.Hyperparameters({name: values.decode(long.get(name, value))
                                      for name, value in contents.parameters.items()})
    if "run/status" in others:
        yield events.Status(int(others["run/status_step"]), str(others["run/status"]))
    for name in {metric.name for metric in contents.metrics if len(metric.name) == _NAME_CHARACTERS}:
        archive.account.change(f"metric names that Comet may have truncated at {_NAME_CHARACTERS} characters", name)
    yield from _metrics([metric for metric in contents.metrics if metric.name != AUTOMATIC_METRIC])
    for file in take("visualization"):
        blob = write_blob(content(file), str(file.metadata.get("file", file.name)))
        yield events.Image(file.name, _integer(file.step), blob, str(file.metadata.get("caption", "")))
    for file in take("asset", "artifacts/"):
        name = file.name.removeprefix("artifacts/")
        facts = {key: values.decode(value) for key, value in file.metadata.items()}
        kind, title = str(facts.pop("kind")), str(facts.pop("file_name", name))
        facts.pop("sha256", None)
        yield events.Artifact(name, write_blob(content(file), title), kind, facts)
    for file in take("model-element"):
        facts = dict(file.metadata)
        scores = {name: values.decode(value) for name, value in facts["scores"].items()}
        yield events.Model(file.group, str(facts["version"]), _integer(facts["step"]), write_blob(content(file), file.name),
                           tuple(facts["datasets"]), tuple(facts["parents"]), scores,
                           {key: values.decode(value) for key, value in facts.items() if key not in _ORIGIN})
    for file in take("text-sample"):
        yield events.Text(str(file.metadata["name"]), _integer(file.step), content(file).decode())
    contents.others = {name: value for name, value in contents.others.items()
                       if not name.startswith(_NOT_EVENTS) and name not in _NOT_OURS}
    contents.system, contents.packages, contents.parameters, contents.metrics = {}, {}, {}, []


def _metrics(metrics: list[messages.Metric]) -> Iterator[events.Metrics]:
    """Yield one Metrics for each group of series with the same steps."""
    if not metrics:
        return
    series: dict[str, list[messages.Metric]] = {}
    for metric in metrics:
        series.setdefault(metric.name, []).append(metric)
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, points in series.items():
        groups.setdefault(tuple(_integer(point.step) for point in points), []).append(name)
    for steps, names in groups.items():
        columns = {name: np.array([point.value for point in series[name]], np.float64) for name in names}
        yield events.Metrics(np.array(steps, np.int64), columns, np.array([point.time for point in series[names[0]]]))


def _integer(step: Any) -> int:
    if isinstance(step, bool) or not isinstance(step, int | float) or abs(step) > untrusted.STEP_LIMIT or step != int(step):
        raise ValueError(f"expected an integer step, found {step!r}")
    return int(step)
