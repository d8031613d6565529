"""Comet 3.x as a replica: each event on the left, the client's calls on the right.

The client's step and epoch are sticky: a metric without them inherits those of the metric before.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors, events, secrets
from mnist_jax.tracking import protocol, sampling, values
from mnist_jax.tracking.comet import client, contents
from mnist_jax.tracking.protocol import Receipt, Support

_PARAMETER_CHARACTERS = 1_000  # the client cuts a longer value
_SENT = Receipt("sent")
# https://www.comet.com/docs/v2/guides/experiment-management/limits-and-performance: 15,000 values a metric, 12,000 values a
# minute. The client adds a few of its own.
_LIMITS = sampling.Limits(values_per_metric=15_000, values_per_minute=11_000)

_SUPPORT = {
    events.Environment: Support("native", "system information, and each package as an installed package"),
    events.Source: Support("native", "code tab; commit, branch and patch as others and an asset"),
    events.Dataset: Support("converted", "data set information and others; its bytes, where recorded, as an artifact"),
    events.Hyperparameters: Support("native", "parameters under their dotted names; lists and None as JSON text"),
    events.Metrics: Support("native", "metrics with step and epoch; the time is that of the sync, not of the record"),
    events.Image: Support("native", "graphics tab"),
    events.Text: Support("native", "text tab"),
    events.Status: Support("converted", "other: status"),
}
SUPPORT = {
    "offline": {**_SUPPORT,
                events.Artifact: Support("converted", "an asset: the client refuses artifacts offline"),
                events.Model: Support("native", "logged model; registered with a version only online")},
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
        return protocol.Destination("comet", "offline", reason="COMET_API_KEY is not set" if mode == "auto" else "")
    if not key:
        raise errors.UserError("COMET_API_KEY: expected the key of your account, found none; set it, or use "
                               "--tracker_mode=offline")
    address = os.environ.get("COMET_URL_OVERRIDE") or "https://www.comet.com/clientlib/"
    reason = "COMET_API_KEY is set" if mode == "auto" else ""
    return protocol.Destination("comet", "online", secrets.host(address), reason=reason, limits=_LIMITS)


def prepare() -> None:
    """Import the client, for the attempts of this process and of its forks."""
    client.prepare()


def create(destination: protocol.Destination, folder: Path) -> CometTracker:
    """Return an unopened tracker that keeps its offline data in `folder`."""
    prepare()
    return CometTracker(destination, folder)


class CometTracker:
    """One Comet experiment. Not thread-safe; use it from the thread that opened it."""

    name = "comet"

    def __init__(self, destination: protocol.Destination, folder: Path):
        self._folder, self._offline, self._written = folder, destination.mode == "offline", 0
        self.support = SUPPORT["offline" if self._offline else "online"]
        self._client = client.CometClient(self._offline)
        self._open = False
        self._run: events.RunInfo
        self._path_of: Callable[[events.Blob], Path]

    def open(self, run: events.RunInfo, path_of: Callable[[events.Blob], Path], *,
             earlier: Sequence[events.Event] | None) -> str:
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
            self._write(event)  # sends only what a server lost although the client counted it as sent
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
            if self._offline:  # marks the end of the event's messages, so that an import reads the same events
                self._others("run", {"events": self._written})

    def flush(self, timeout_s: float) -> bool:
        return self._client.flush(timeout_s)

    def close(self, status: str, timeout_s: float) -> None:
        if self._open:
            self._open = False
            if not self._offline:  # once, where the offline archive has a mark for each event
                self._others("run", {"events": self._written})
            self._others("run", {"final_status": status})
            self._client.stop(timeout_s)
            with contextlib.suppress(OSError):
                (self._folder / "open").rmdir()

    def _write(self, event: events.Event) -> Receipt:
        match event:
            case events.Environment(facts=facts):
                for name, value in facts.items():
                    self._client.call("log_system_info", name, values.encode(value))
                    if name.startswith("packages/"):
                        self._client.call("log_dependency", name.removeprefix("packages/"), value)
                return _SENT
            case events.Source():
                self._others("source", {"commit": event.commit, "branch": event.branch, "remote": event.remote,
                                        "dirty": event.dirty})
                for blob in event.files:
                    if self._client.new("source_code", blob.name):
                        self._client.call("log_code", code=self._path_of(blob).read_text(errors="replace"), code_name=blob.name)
                if event.patch is not None:
                    self._asset(event.patch, "source/patch.diff", {"file_name": event.patch.name})
                return _SENT
            case events.Dataset():
                names = ("name", "version", "digest", "examples", "origin", "shape", "class_counts")
                self._others(f"datasets/{event.split}", {name: getattr(event, name) for name in names})
                if event.split == "train":  # one per experiment: the last call wins
                    self._client.call("log_dataset_info", name=event.name, version=event.version, path=event.origin)
                return Receipt("converted", "data set information and others")
            case events.Hyperparameters(values=parameters):
                return self._write_parameters(parameters)
            case events.Metrics():
                return self._write_metrics(event)
            case events.Image(name=name, step=step, blob=blob, caption=caption):
                if self._client.new("image", name, step):
                    with self._path_of(blob).open("rb") as file:
                        self._client.call("log_image", file, name=name, step=step,
                                          metadata={"caption": caption, "file": blob.name})
                return _SENT
            case events.Artifact(name=name, blob=blob, kind=kind, metadata=metadata):
                facts = {"kind": kind, "sha256": blob.sha256, "file_name": blob.name, **metadata}
                encoded = {key: values.encode(value) for key, value in facts.items()}
                if self._offline:
                    self._asset(blob, f"artifacts/{name}", encoded)
                    return Receipt("converted", "stored as an asset of this experiment")
                return self._client.artifact(name, kind, self._path_of, blob, encoded)
            case events.Model(name=name, blob=blob):
                origin = {"version": event.version, "step": event.step, "sha256": blob.sha256,
                          "scores": {score: values.encode(value) for score, value in event.scores.items()},
                          "datasets": list(event.datasets), "parents": list(event.parents)}
                metadata = {key: values.encode(value) for key, value in event.metadata.items()}
                if self._client.new("model-element", blob.name):
                    self._client.call("log_model", name, str(self._path_of(blob)), file_name=blob.name,
                                      metadata={**metadata, **origin})
                if self._offline:
                    return _SENT
                return self._client.register(name, f"run {self._run.id}, step {event.step}", blob.size)
            case events.Text(name=name, step=step, text=text):
                if self._client.new("text", name, step):
                    self._client.call("log_text", text, step=step, metadata={"name": name})
                return _SENT
            case events.Status(step=step, state=state):
                self._others("run", {"status": state, "status_step": step})
                return Receipt("converted", "stored as other: run/status")

    def _write_metrics(self, metrics: events.Metrics) -> Receipt:
        long_names = [name for name in metrics.values if len(name) > contents.METRIC_NAME_CHARACTERS]
        columns = [series.tolist() for series in metrics.values.values()]
        for step, *row in zip(metrics.steps.tolist(), *columns, strict=True):
            # Comet's epochs count from 0: an update belongs to the epoch that was not complete before it.
            epoch = self._run.epoch(max(0, step - 1))
            new = {name: value for name, value in zip(metrics.values, row, strict=True)
                   if self._client.new(*contents.metric(name, step))}
            self._client.call("log_metrics", new, step=step, epoch=epoch)
        return Receipt("converted", f"names truncated: {', '.join(long_names)}") if long_names else _SENT

    def _write_parameters(self, parameters: Any) -> Receipt:
        notes = []
        for name, value in parameters.items():
            encoded = values.encode(value)
            if isinstance(encoded, str) and len(encoded) > _PARAMETER_CHARACTERS:
                if self._client.new("asset", f"parameters/{name}.txt"):
                    self._client.call("log_asset_data", encoded, name=f"parameters/{name}.txt")
                notes.append(f"{name} as an asset")
                encoded = encoded[:_PARAMETER_CHARACTERS]
            elif encoded is not value:
                notes.append(f"{name} as text")
            self._client.call("log_parameter", name, encoded)
        return Receipt("converted", "; ".join(notes)) if notes else _SENT

    def _others(self, namespace: str, facts: Any) -> None:
        for name, value in facts.items():
            self._client.call("log_other", f"{namespace}/{name}", values.encode(value))

    def _asset(self, blob: events.Blob, name: str, metadata: dict[str, Any]) -> None:
        if self._client.new("asset", name):
            self._client.call("log_asset", str(self._path_of(blob)), file_name=name, metadata=metadata)
