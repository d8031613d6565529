"""Neptune 1.x as a replica: each event on the left, the client's calls on the right.

Uploads are bytes, not paths: of a path, the client's offline mode stores the absolute path, not the bytes.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shlex
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors, events, secrets
from mnist_jax.tracking import protocol, values
from mnist_jax.tracking.neptune import client
from mnist_jax.tracking.protocol import Receipt, Support

_TEXT_CHARACTERS = 1_000  # the client cuts a longer entry of a string series, without an error
_STRING_CHARACTERS = 16_384  # and a longer string field
_SENT = Receipt("sent")
_HOSTED = ("neptune.ai", "neptune.ml")  # domains of the hosted service, which has ended

SUPPORT = {
    events.Environment: Support("native", "fields under environment/"),
    events.Source: Support("converted", "fields and a zip under source/: the client's offline mode drops its own git facts"),
    events.Dataset: Support("converted", "fields under datasets/<split>/: no data set type"),
    events.Hyperparameters: Support("native", "fields under parameters/; lists and None as JSON text"),
    events.Metrics: Support("native", "float series; non-finite values as text under notes/"),
    events.Image: Support("native", "image series under images/"),
    events.Artifact: Support("converted", "a file under artifacts/, of this run: Neptune's own artifacts store no bytes, "
                                           "only a path and a digest"),
    events.Model: Support("converted", "file and fields under model/: the hosted model registry was switched off"),
    events.Text: Support("native", "string series under texts/; over 1,000 characters as a file"),
    events.Status: Support("native", "string series run/status"),
}


def destination(mode: protocol.Mode) -> protocol.Destination:
    """Return where a run would go: `auto` is online when NEPTUNE_API_TOKEN is set, to the address inside it.

    Raises:
      UserError: online, and the token has no address, or NEPTUNE_PROJECT is not set.
    """
    token = os.environ.get("NEPTUNE_API_TOKEN", "")
    if mode == "offline" or (mode == "auto" and not token):
        return protocol.Destination("neptune", "offline", reason="NEPTUNE_API_TOKEN is not set" if mode == "auto" else "")
    try:
        host = secrets.host(json.loads(base64.b64decode(token))["api_address"])
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = "another text; copy the token again" if token else "none; set it"
        raise errors.UserError(f"NEPTUNE_API_TOKEN: expected a token, base64 JSON with an api_address, found {problem}, or use "
                               f"--tracker_mode=offline") from None
    project = os.environ.get("NEPTUNE_PROJECT", "")
    if project.count("/") != 1:
        raise errors.UserError(f"NEPTUNE_PROJECT: expected workspace/project, found {project or 'none'!r}; set it, or use "
                               f"--tracker_mode=offline")
    ended = any(host == domain or host.endswith(f".{domain}") for domain in _HOSTED)
    warning = (f"neptune: the token leads to {host}, but Neptune's hosted service ended on 2026-03-05; use the token of a "
               f"self-hosted or compatible server, or --tracker_mode=offline") if ended else ""
    reason = "NEPTUNE_API_TOKEN is set" if mode == "auto" else ""
    return protocol.Destination("neptune", "online", host, reason, warning, project=project)


def prepare() -> None:
    """Import the client, for the attempts of this process and of its forks."""
    client.prepare()


def create(destination: protocol.Destination, folder: Path) -> NeptuneTracker:
    """Return an unopened tracker that keeps its offline data, or its temporary online data, in `folder`."""
    prepare()
    return NeptuneTracker(destination, folder)


class NeptuneTracker:
    """One Neptune run. Not thread-safe; use it from the thread that opened it."""

    name = "neptune"
    support = SUPPORT

    def __init__(self, destination: protocol.Destination, folder: Path):
        self._folder, self._offline, self._written = folder, destination.mode == "offline", 0
        self._client = client.NeptuneClient(self._offline)
        self._open = False
        self._path_of: Callable[[events.Blob], Path]

    def open(self, run: events.RunInfo, path_of: Callable[[events.Blob], Path], *,
             earlier: Sequence[events.Event] | None) -> str:
        self._path_of = path_of
        for event in earlier or ():
            self.write(event)  # only counted, since the client has not started
        where = self._client.start(run, self._folder, resumed=earlier is not None)
        # The client's offline mode drops the custom id and the project, so they are fields, too.
        self._assign("run", {"id": run.id, "name": run.name, "created": run.created, "command": shlex.join(run.command),
                             "parent": run.parent, "steps_per_epoch": run.steps_per_epoch, "tags": list(run.tags),
                             "config": dict(run.config), **({"events": 0} if self._offline else {})})
        self._open = True
        return where

    def write(self, event: events.Event) -> Receipt:
        try:
            receipt = self._write(event)
            self._written += 1
            if self._offline:  # the client's log has no checksums
                self._client.assign("run/event_sha256", values.seal(event))
            return receipt
        finally:
            if self._offline:  # marks the end of the event's operations, so that an import reads the same events
                self._client.assign("run/events", self._written)

    def _write(self, event: events.Event) -> Receipt:
        match event:
            case events.Environment(facts=facts):
                return self._assign("environment", facts)
            case events.Source():
                return self._write_source(event)
            case events.Dataset():
                facts = {name: getattr(event, name) for name in ("name", "version", "digest", "examples", "origin")}
                lists: dict[str, Any] = {"shape": list(event.shape), "class_counts": list(event.class_counts)}
                self._assign(f"datasets/{event.split}", {**facts, **lists})
                return Receipt("converted", "stored as fields: Neptune has no data set type")
            case events.Hyperparameters(values=parameters):
                paths = {name: name.replace(".", "/") for name in parameters}
                if any(path.strip("/").replace("/", ".") != name or "//" in path for name, path in paths.items()):
                    self._assign("run", {"parameter_names": list(parameters)})  # the paths alone are ambiguous
                return self._assign("parameters", {paths[name]: value for name, value in parameters.items()})
            case events.Metrics():
                return self._write_metrics(event)
            case events.Image(name=name, step=step, blob=blob, caption=caption):
                if blob.size > client.CONTENT_BYTES:
                    self._upload(f"large_images/{name}/{step}", blob)
                    self._assign(f"large_images_metadata/{name}/{step}", {"file_name": blob.name, "caption": caption})
                    return Receipt("converted", f"stored as a file: over {client.CONTENT_BYTES} bytes")
                return self._client.extend(f"images/{name}", [self._content(blob)], [step], image=(blob.name, caption))
            case events.Artifact(name=name, blob=blob, kind=kind, metadata=metadata):
                self._upload(f"artifacts/{name}", blob)
                self._assign(f"artifacts_metadata/{name}",
                             {"kind": kind, "sha256": blob.sha256, "file_name": blob.name, **metadata})
                return Receipt("converted", "stored as a file of this run")
            case events.Model(blob=blob):
                self._upload("model/file", blob)
                facts = {name: getattr(event, name) for name in ("name", "version", "step")}
                lists = {"datasets": list(event.datasets), "parents": list(event.parents)}
                self._assign("model", {**facts, "sha256": blob.sha256, "file_name": blob.name, **lists})
                self._assign("model/scores", event.scores)
                self._assign("model/metadata", event.metadata)
                return Receipt("converted", "stored as a file of this run: Neptune has no model registry any more")
            case events.Text(name=name, step=step, text=text):
                if len(text) > _TEXT_CHARACTERS:
                    self._client.upload(f"long_texts/{name}/{step}", text.encode(), "txt")
                    return Receipt("converted", f"stored as a file: longer than {_TEXT_CHARACTERS} characters")
                return self._client.extend(f"texts/{name}", [text], [step])
            case events.Status(step=step, state=state):
                return self._client.extend("run/status", [state], [step])

    def flush(self, timeout_s: float) -> bool:
        self._client.wait()
        return True  # online, each call was confirmed when it returned

    def close(self, status: str, timeout_s: float) -> None:
        if self._open:
            self._open = False
            if not self._offline:  # once, where the offline log has a mark for each event
                self._client.assign("run/events", self._written)
            self._client.assign("run/final_status", status)
            self._client.assign("sys/failed", status != "finished")
            self._client.stop(timeout_s)

    def _write_metrics(self, metrics: events.Metrics) -> Receipt:
        notes, dropped = [], 0
        for name, series in metrics.values.items():
            points = list(zip(metrics.steps.tolist(), series.tolist(), metrics.times.tolist(), strict=True))
            finite = [point for point in points if math.isfinite(point[1])]
            non_finite = [(step, f"{name} is {events.float_word(value)} at step {step}", time)
                          for step, value, time in points if not math.isfinite(value)]  # a NaN in the log breaks `neptune sync`
            for path, entries in ((name, finite), (f"notes/{name}_not_finite", non_finite)):
                if entries:
                    steps, entry_values, times = zip(*entries, strict=True)
                    receipt = self._client.extend(path, entry_values, steps, times)
                    dropped += receipt.total - receipt.count
                    notes += [receipt.note] if receipt.note else []
            if non_finite:
                notes.append(f"{name}: {len(non_finite)} non-finite values as text under notes/")
        total = len(metrics.steps) * len(metrics.values)
        if dropped:
            return Receipt("sampled", "; ".join(notes), total - dropped, total)
        return Receipt("converted", "; ".join(notes)) if notes else _SENT

    def _write_source(self, source: events.Source) -> Receipt:
        self._assign("source", {"commit": source.commit, "branch": source.branch, "remote": source.remote,
                                "dirty": source.dirty})
        if source.patch is not None:
            self._upload("source/patch", source.patch)
            self._assign("source", {"patch_name": source.patch.name})
        if source.files and not self._client.is_counting:
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for blob in source.files:
                    archive.writestr(zipfile.ZipInfo(blob.name), self._path_of(blob).read_bytes())
            self._client.upload("source/files", stream.getvalue(), "zip")
        return Receipt("converted", "fields, patch and a zip of the files")

    def _assign(self, namespace: str, facts: Any) -> Receipt:
        notes = []
        for name, value in facts.items():
            path = f"{namespace}/{name}"
            encoded = values.encode(value)
            if isinstance(encoded, str) and len(encoded) > _STRING_CHARACTERS:
                self._client.upload(path, encoded.encode(), "txt")
                notes.append(f"{path} as a file")
            else:
                self._client.assign(path, encoded)
                if encoded is not value:
                    notes.append(f"{path} as text")
        return Receipt("converted", "; ".join(notes)) if notes else _SENT

    def _upload(self, path: str, blob: events.Blob) -> None:
        self._client.upload(path, self._content(blob), Path(blob.name).suffix.lstrip("."))

    def _content(self, blob: events.Blob) -> bytes | Path:
        if self._client.is_counting:  # a confirmed event, whose bytes may be gone
            return b""
        path = self._path_of(blob)
        return path if blob.size > client.CONTENT_BYTES else path.read_bytes()
