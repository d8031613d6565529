"""Comet 3.x as a replica: our fact on the left, their call on the right.

Their step and epoch are sticky: every metric carries both, or it inherits those of the metric before it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors, events, secrets
from mnist_jax.tracking import protocol, sampling
from mnist_jax.tracking import values as field_values
from mnist_jax.tracking.comet import client as tracking_client
from mnist_jax.tracking.comet import contents
from mnist_jax.tracking.protocol import Receipt, Support

_PARAMETER_CHARACTERS = 1_000  # a longer one is cut by the client
_SENT = Receipt("sent")
# https://www.comet.com/docs/v2/guides/experiment-management/limits-and-performance: 15,000 values a metric, 12,000 values a
# minute. The client adds a few of its own.
_LIMITS = sampling.Limits(values_per_metric=15_000, values_per_minute=11_000)

_SUPPORT = {
    events.Environment: Support("native", "system information, and each package as an installed package"),
    events.Source: Support("native", "code tab; commit, branch and patch as others and an asset"),
    events.Dataset: Support("converted", "data set information and others; its bytes, where recorded, as an artifact"),
    events.Hyperparameters: Support("native", "parameters under their dotted names; lists and None as JSON text"),
    events.Metrics: Support("native", "metrics with step and epoch; the time is that of the sending, not ours"),
    events.Image: Support("native", "graphics tab"),
    events.Text: Support("native", "text tab"),
    events.Status: Support("converted", "other: status"),
}
SUPPORT = {
    "offline": {**_SUPPORT,
                events.Artifact: Support("converted", "an asset: the client refuses artifacts offline"),
                events.Model: Support("native", "logged model; registered with a version only where it is delivered online")},
    "online": {**_SUPPORT,
               events.Artifact: Support("native", "artifact with a version, usable in other experiments"),
               events.Model: Support("native", "logged model, registered with a new version under its name")},
}


def destination(mode: protocol.Mode) -> protocol.Destination:
    """Return where a run would go: `auto` is online when COMET_API_KEY is set, to COMET_URL_OVERRIDE or Comet's service.

    Raises:
      UserError: online, and COMET_API_KEY is not set.
    """
    key = os.environ.get("COMET_API_KEY")
    if mode == "offline" or (mode == "auto" and not key):
        return protocol.Destination("comet", "offline", why="COMET_API_KEY is not set" if mode == "auto" else "")
    if not key:
        raise errors.UserError("COMET_API_KEY: expected the key of your account, found none; set it, or use "
                               "--tracker_mode=offline")
    address = os.environ.get("COMET_URL_OVERRIDE") or "https://www.comet.com/clientlib/"
    why = "COMET_API_KEY is set" if mode == "auto" else ""
    return protocol.Destination("comet", "online", secrets.host(address), why, limits=_LIMITS)


def prepare() -> None:
    """Import the client, for the attempts of this process and of its forks."""
    tracking_client.prepare()


def create(where: protocol.Destination, folder: Path) -> CometTracker:
    """Return an unopened tracker that keeps its offline data in `folder`."""
    prepare()
    return CometTracker(where, folder)


class CometTracker:
    """One Comet experiment. Not thread-safe; use it from the thread that opened it."""

    name = "comet"

    def __init__(self, where: protocol.Destination, folder: Path):
        self._folder, self._offline, self._written = folder, where.mode == "offline", 0
        self.support = SUPPORT["offline" if self._offline else "online"]
        self._client = tracking_client.CometClient(self._offline)
        self._open = False
        self._run: events.RunInfo
        self._path_of: Callable[[events.Blob], Path]

    def open(self, run: events.RunInfo, path_of: Callable[[events.Blob], Path], *, earlier: Sequence[events.Event] | None) -> str:
        self._run, self._path_of = run, path_of
        where = self._client.start(run.id, self._folder, resumed=earlier is not None)
        self._client.call("set_name", run.name)
        if run.tags:
            self._client.call("add_tags", list(run.tags))
        self._others("run", {"id": run.id, "created": run.created, "command": shlex.join(run.command), "parent": run.parent,
                             "steps_per_epoch": run.steps_per_epoch, "description": run.description, "name": run.name,
                             "tags": list(run.tags), "config": dict(run.config)})
        if self._offline:
            self._others("run", {"events": 0})
        for event in earlier or ():
            self._write(event)  # sends only what a server lost although its client believed it delivered
            self._written += 1
        self._open = True
        return where

    def write(self, event: events.Event) -> Receipt:
        try:
            with self._client.counting():
                receipt = self._write(event)
            self._written += 1
            return receipt
        finally:
            if self._offline:  # this ends the event's messages: an import finds the very events again
                self._others("run", {"events": self._written})

    def flush(self, timeout_s: float) -> bool:
        return self._client.flush(timeout_s)

    def close(self, status: str, timeout_s: float) -> None:
        if self._open:
            self._open = False
            if not self._offline:  # one message, where the offline archive has a mark an event
                self._others("run", {"events": self._written})
            self._others("run", {"final_status": status})
            self._client.stop(timeout_s)
            with contextlib.suppress(OSError):
                (self._folder / "open").rmdir()

    def _write(self, event: events.Event) -> Receipt:
        client = self._client
        match event:
            case events.Environment(facts=facts):
                for name, value in facts.items():
                    client.call("log_system_info", name, field_values.stored(value))
                    if name.startswith("packages/"):
                        client.call("log_dependency", name.removeprefix("packages/"), value)
                return _SENT
            case events.Source():
                self._others("source", {"commit": event.commit, "branch": event.branch, "remote": event.remote,
                                        "dirty": event.dirty})
                for blob in event.files:
                    if client.new("source_code", blob.name):
                        client.call("log_code", code=self._path_of(blob).read_text(errors="replace"), code_name=blob.name)
                if event.patch is not None:
                    self._asset(event.patch, "source/patch.diff", {"file_name": event.patch.name})
                return _SENT
            case events.Dataset():
                names = ("name", "version", "digest", "examples", "origin", "shape", "class_counts")
                self._others(f"datasets/{event.split}", {name: getattr(event, name) for name in names})
                if event.split == "train":  # one per experiment: the last call would win
                    client.call("log_dataset_info", name=event.name, version=event.version, path=event.origin)
                return Receipt("converted", "data set information and others")
            case events.Hyperparameters(values=values):
                return self._write_parameters(values)
            case events.Metrics():
                return self._write_metrics(event)
            case events.Image(name=name, step=step, blob=blob, caption=caption):
                if client.new("image", name, step):
                    with self._path_of(blob).open("rb") as file:
                        client.call("log_image", file, name=name, step=step, metadata={"caption": caption, "file": blob.name})
                return _SENT
            case events.Artifact(name=name, blob=blob, kind=kind, metadata=metadata):
                facts = {"kind": kind, "sha256": blob.sha256, "file_name": blob.name, **metadata}
                stored = {key: field_values.stored(value) for key, value in facts.items()}
                if self._offline:
                    self._asset(blob, f"artifacts/{name}", stored)
                    return Receipt("converted", "kept as an asset of this experiment")
                return client.artifact(name, kind, self._path_of(blob), blob, stored)
            case events.Model(name=name, blob=blob):
                origin = {"version": event.version, "step": event.step, "sha256": blob.sha256,
                          "scores": {score: field_values.stored(value) for score, value in event.scores.items()},
                          "datasets": list(event.datasets), "parents": list(event.parents)}
                known = {key: field_values.stored(value) for key, value in event.metadata.items()}
                if client.new("model-element", blob.name):
                    client.call("log_model", name, str(self._path_of(blob)), file_name=blob.name, metadata={**known, **origin})
                return _SENT if self._offline else client.register(name, f"run {self._run.id}, step {event.step}", blob.size)
            case events.Text(name=name, step=step, text=text):
                if client.new("text", name, step):
                    client.call("log_text", text, step=step, metadata={"name": name})
                return _SENT
            case events.Status(step=step, state=state):
                self._others("run", {"status": state, "status_step": step})
                return Receipt("converted", "kept as other: run/status")

    def _write_metrics(self, metrics: events.Metrics) -> Receipt:
        long_names = [name for name in metrics.values if len(name) > contents.METRIC_NAME_CHARACTERS]
        columns = [values.tolist() for values in metrics.values.values()]
        for step, *row in zip(metrics.steps.tolist(), *columns, strict=True):
            # Their epochs count from 0: the epoch that an update belongs to is the one before it completed.
            epoch = self._run.epoch(max(0, step - 1))
            new = {name: value for name, value in zip(metrics.values, row, strict=True)
                   if self._client.new(*contents.metric(name, step))}
            self._client.call("log_metrics", new, step=step, epoch=epoch)
        return Receipt("converted", f"names cut: {', '.join(long_names)}") if long_names else _SENT

    def _write_parameters(self, values: Any) -> Receipt:
        notes = []
        for name, value in values.items():
            stored = field_values.stored(value)
            if isinstance(stored, str) and len(stored) > _PARAMETER_CHARACTERS:
                if self._client.new("asset", f"parameters/{name}.txt"):
                    self._client.call("log_asset_data", stored, name=f"parameters/{name}.txt")
                notes.append(f"{name} as an asset")
                stored = stored[:_PARAMETER_CHARACTERS]
            elif stored is not value:
                notes.append(f"{name} as text")
            self._client.call("log_parameter", name, stored)
        return Receipt("converted", "; ".join(notes)) if notes else _SENT

    def _others(self, namespace: str, values: Any) -> None:
        for name, value in values.items():
            self._client.call("log_other", f"{namespace}/{name}", field_values.stored(value))

    def _asset(self, blob: events.Blob, name: str, metadata: dict[str, Any]) -> None:
        if self._client.new("asset", name):
            self._client.call("log_asset", str(self._path_of(blob)), file_name=name, metadata=metadata)
