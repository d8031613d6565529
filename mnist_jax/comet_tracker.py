"""Comet 3.x as a replica: our fact on the left, their call on the right.

Their step and epoch are sticky: every metric carries both, or it inherits those of the metric before it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import events, field, tracking
from mnist_jax.tracking import Receipt, Support

_PARAMETER_CHARACTERS = 1_000  # a longer one is cut by the client
_METRIC_NAME_CHARACTERS = 100
_SENT = Receipt("sent")

SUPPORT = {
    events.Environment: Support("native", "system information, and each package as an installed package"),
    events.Source: Support("native", "code tab; commit, branch and patch as others and an asset"),
    events.Dataset: Support("translated", "data set information and others: a data set is an artifact, and that only online"),
    events.Hyperparameters: Support("native", "parameters under their dotted names; lists and None as JSON text"),
    events.Metrics: Support("native", "metrics with step and epoch; the time is that of the sending, not ours"),
    events.Image: Support("native", "graphics tab"),
    events.Artifact: Support("translated", "an asset: artifacts are refused offline"),
    events.Model: Support("native", "logged model"),
    events.Text: Support("native", "text tab"),
    events.Status: Support("translated", "other: status"),
}


def destination(mode: tracking.Mode) -> tracking.Destination:
    """Return where a run would go: `auto` is online when COMET_API_KEY is set."""
    if mode == "offline" or (mode == "auto" and not os.environ.get("COMET_API_KEY")):
        return tracking.Destination("comet", "offline", why="COMET_API_KEY is not set" if mode == "auto" else "")
    address = os.environ.get("COMET_URL_OVERRIDE", "https://www.comet.com/clientlib/")
    return tracking.Destination("comet", "online", urllib.parse.urlsplit(address).netloc)


def create(where: tracking.Destination, folder: Path) -> CometTracker:
    """Return an unopened tracker that keeps its offline data in `folder`."""
    os.environ.setdefault("COMET_ERROR_TRACKING_ENABLE", "false")  # read at import; else it calls home
    import comet_ml  # noqa: F401  (1.2 s: paid here, where the delivery counts it)

    return CometTracker(where, folder)


class CometTracker:
    """One Comet experiment. Not thread-safe; use it from the thread that opened it."""

    name = "comet"
    support = SUPPORT

    def __init__(self, where: tracking.Destination, folder: Path):
        self._where, self._folder = where, folder
        self._experiment: Any = None
        self._written = 0
        self._run: events.Run
        self._path_of: Callable[[events.Blob], Path]

    def open(self, run: events.Run, path_of: Callable[[events.Blob], Path], *, earlier: Sequence[events.Event] | None) -> str:
        import comet_ml

        self._run, self._path_of = run, path_of
        quiet: dict[str, Any] = dict(
            log_code=False, log_graph=False, parse_args=False, log_git_metadata=False, log_git_patch=False,
            log_env_details=False, auto_output_logging=False, auto_param_logging=False, auto_metric_logging=False,
            display_summary_level=0, experiment_key=run.id)
        if self._where.mode == "offline":
            with _temporary_files_in(self._folder / "open"):  # a killed client leaves its data there
                self._experiment = comet_ml.OfflineExperiment(offline_directory=str(self._folder), **quiet)
        else:
            self._experiment = comet_ml.Experiment(**quiet)
        if not self._experiment.alive:  # a bad key or a dead server raises nothing
            raise ConnectionError(f"Comet did not accept the experiment at {self._where.host or self._folder}")
        self._experiment.set_name(run.name)
        self._experiment.add_tags(list(run.tags))
        self._others("run", {"id": run.id, "created": run.created, "command": shlex.join(run.command), "parent": run.parent,
                             "steps_per_epoch": run.steps_per_epoch, "description": run.description, "name": run.name,
                             "tags": list(run.tags), "config": dict(run.config)})
        if self._where.mode == "offline":
            self._others("run", {"events": 0})
            return str(self._folder / f"{run.id}.zip")
        return self._experiment.url

    def write(self, event: events.Event) -> Receipt:
        try:
            receipt = self._write(event)
            self._written += 1
            return receipt
        finally:
            if self._where.mode == "offline":  # this ends the event's messages: an import finds the very events again
                self._others("run", {"events": self._written})

    def _write(self, event: events.Event) -> Receipt:
        experiment = self._experiment
        match event:
            case events.Environment(facts=facts):
                for name, value in facts.items():
                    experiment.log_system_info(name, field.stored(value))
                    if name.startswith("packages/"):
                        experiment.log_dependency(name.removeprefix("packages/"), value)
                return _SENT
            case events.Source():
                self._others("source", {"commit": event.commit, "branch": event.branch, "remote": event.remote,
                                        "dirty": event.dirty})
                for blob in event.files:
                    experiment.log_code(code=self._text_of(blob), code_name=blob.name)
                if event.patch is not None:
                    self._asset(event.patch, "source/patch.diff", {"file_name": event.patch.name})
                return _SENT
            case events.Dataset():
                names = ("name", "version", "digest", "examples", "origin", "shape", "class_counts")
                self._others(f"datasets/{event.split}", {name: getattr(event, name) for name in names})
                if event.split == "train":  # one per experiment: the last call would win
                    experiment.log_dataset_info(name=event.name, version=event.version, path=event.origin)
                return Receipt("translated", "data set information and others")
            case events.Hyperparameters(values=values):
                return self._write_parameters(values)
            case events.Metrics():
                return self._write_metrics(event)
            case events.Image(name=name, step=step, blob=blob, caption=caption):
                with self._path_of(blob).open("rb") as file:
                    experiment.log_image(file, name=name, step=step, metadata={"caption": caption, "file": blob.name})
                return _SENT
            case events.Artifact(name=name, blob=blob, kind=kind, metadata=metadata):
                facts = {"kind": kind, "sha256": blob.sha256, "file_name": blob.name, **metadata}
                self._asset(blob, f"artifacts/{name}", {key: field.stored(value) for key, value in facts.items()})
                return Receipt("translated", "kept as an asset of this experiment")
            case events.Model(name=name, blob=blob):
                origin = {"version": event.version, "step": event.step, "sha256": blob.sha256,
                          "scores": {score: field.stored(value) for score, value in event.scores.items()},
                          "datasets": list(event.datasets), "parents": list(event.parents)}
                experiment.log_model(name, str(self._path_of(blob)), file_name=blob.name, metadata={
                    **{key: field.stored(value) for key, value in event.metadata.items()}, **origin})
                return _SENT
            case events.Text(name=name, step=step, text=text):
                experiment.log_text(text, step=step, metadata={"name": name})
                return _SENT
            case events.Status(step=step, state=state):
                self._others("run", {"status": state, "status_step": step})
                return Receipt("translated", "kept as other: run/status")

    def flush(self, timeout_s: float) -> bool:
        return self._where.mode == "offline" or bool(self._experiment.flush())

    def close(self, outcome: str, timeout_s: float) -> None:
        if self._experiment is not None:
            if self._where.mode == "online":  # one message, where the offline archive has a mark an event
                self._others("run", {"events": self._written})
            self._others("run", {"outcome": outcome})
            self._experiment.end()
            self._experiment = None
            with contextlib.suppress(OSError):
                (self._folder / "open").rmdir()

    def _write_metrics(self, metrics: events.Metrics) -> Receipt:
        long_names = [name for name in metrics.values if len(name) > _METRIC_NAME_CHARACTERS]
        columns = [values.tolist() for values in metrics.values.values()]
        for step, *row in zip(metrics.steps.tolist(), *columns, strict=True):
            # Their epochs count from 0: the epoch that an update belongs to is the one before it completed.
            epoch = self._run.epoch(max(0, step - 1))
            self._experiment.log_metrics(dict(zip(metrics.values, row, strict=True)), step=step, epoch=epoch)
        return Receipt("translated", f"names cut at {_METRIC_NAME_CHARACTERS}: {long_names}") if long_names else _SENT

    def _write_parameters(self, values: Any) -> Receipt:
        notes = []
        for name, value in values.items():
            stored = field.stored(value)
            if isinstance(stored, str) and len(stored) > _PARAMETER_CHARACTERS:
                self._experiment.log_asset_data(stored, name=f"parameters/{name}.txt")
                notes.append(f"{name} as an asset")
                stored = stored[:_PARAMETER_CHARACTERS]
            elif stored is not value:
                notes.append(f"{name} as text")
            self._experiment.log_parameter(name, stored)
        return Receipt("translated", "; ".join(notes)) if notes else _SENT

    def _others(self, namespace: str, values: Any) -> None:
        for name, value in values.items():
            self._experiment.log_other(f"{namespace}/{name}", field.stored(value))

    def _asset(self, blob: events.Blob, name: str, metadata: dict[str, Any]) -> None:
        self._experiment.log_asset(str(self._path_of(blob)), file_name=name, metadata=metadata)

    def _text_of(self, blob: events.Blob) -> str:
        return self._path_of(blob).read_text(errors="replace")


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
