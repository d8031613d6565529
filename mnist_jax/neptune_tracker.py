"""Neptune 1.x as a replica: our fact on the left, their call on the right.

Every upload is given as bytes: the client's offline mode keeps other uploads as an absolute path, not the bytes.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import os
import shlex
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnist_jax import errors, events, field, tracking
from mnist_jax.tracking import Receipt, Support

_TEXT_CHARACTERS = 1_000  # a longer entry of a string series is cut by the client, without an error
_STRING_CHARACTERS = 16_384  # and so is a longer string field
_SENT = Receipt("sent")

SUPPORT = {
    events.Environment: Support("native", "fields under environment/"),
    events.Source: Support("translated", "fields and a zip under source/: the client's offline mode drops its own git facts"),
    events.Dataset: Support("translated", "fields under datasets/<split>/: no data set type"),
    events.Hyperparameters: Support("native", "fields under parameters/; lists and None as JSON text"),
    events.Metrics: Support("native", "float series; a non-finite value is said in words under notes/"),
    events.Image: Support("native", "image series under images/"),
    events.Artifact: Support("translated", "a file under artifacts/: Neptune's own artifacts keep only a path offline"),
    events.Model: Support("translated", "file and fields under model/: the hosted model registry was switched off"),
    events.Text: Support("native", "string series under texts/; over 1,000 characters as a file"),
    events.Status: Support("native", "string series run/status"),
}


def destination(mode: tracking.Mode) -> tracking.Destination:
    """Return where a run would go: `auto` is online when NEPTUNE_API_TOKEN is set, to the address inside it."""
    token = os.environ.get("NEPTUNE_API_TOKEN", "")
    if mode == "offline" or (mode == "auto" and not token):
        return tracking.Destination("neptune", "offline")
    try:
        address = json.loads(base64.b64decode(token))["api_address"]
    except (ValueError, KeyError, TypeError):
        raise errors.UserError("NEPTUNE_API_TOKEN: expected base64 JSON with an api_address, found another text; "
                               "copy the token again, or use --tracker_mode=offline") from None
    return tracking.Destination("neptune", "online", urllib.parse.urlsplit(address).netloc)


def create(where: tracking.Destination, folder: Path) -> NeptuneTracker:
    """Return an unopened tracker that keeps its offline data in `folder`."""
    import neptune  # noqa: F401  (1.3 s: paid here, where the delivery counts it)

    return NeptuneTracker(where, folder)


class NeptuneTracker:
    """One Neptune run. Not thread-safe; use it from the thread that opened it."""

    name = "neptune"
    support = SUPPORT

    def __init__(self, where: tracking.Destination, folder: Path):
        self._where, self._folder = where, folder
        self._run: Any = None
        self._written = 0
        self._path_of: Callable[[events.Blob], Path]

    def open(self, run: events.Run, path_of: Callable[[events.Blob], Path], *, resume: bool) -> str:
        import neptune

        self._path_of = path_of
        with _environment(NEPTUNE_DATA_DIRECTORY=str(self._folder)):
            self._run = neptune.init_run(
                mode="offline" if self._where.mode == "offline" else "async", custom_run_id=run.id, name=run.name,
                tags=list(run.tags), description=run.description, capture_stdout=False, capture_stderr=False,
                capture_hardware_metrics=False, capture_traceback=False, source_files=[], git_ref=False)
        # The client's offline mode drops the custom id and the project: said again as fields.
        self._assign("run", {"id": run.id, "name": run.name, "created": run.created, "command": shlex.join(run.command),
                             "parent": run.parent, "steps_per_epoch": run.steps_per_epoch, "tags": list(run.tags),
                             "config": dict(run.config), "events": 0})
        return str(self._folder) if self._where.mode == "offline" else self._run.get_url()

    def write(self, event: events.Event) -> Receipt:
        try:
            receipt = self._write(event)
            self._written += 1
            return receipt
        finally:  # in the log this ends the event's operations: an import finds the very events again
            self._run["run/events"] = self._written

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
                return Receipt("translated", "kept as fields: Neptune has no data set type")
            case events.Hyperparameters(values=values):
                paths = {name: name.replace(".", "/") for name in values}
                if any(path.strip("/").replace("/", ".") != name or "//" in path for name, path in paths.items()):
                    self._assign("run", {"parameter_names": list(values)})  # a path alone does not give them back
                return self._assign("parameters", {paths[name]: value for name, value in values.items()})
            case events.Metrics():
                return self._write_metrics(event)
            case events.Image(name=name, step=step, blob=blob, caption=caption):
                self._run[f"images/{name}"].append(self._file(blob), step=step, name=blob.name, description=caption)
                return _SENT
            case events.Artifact(name=name, blob=blob, kind=kind, metadata=metadata):
                self._run[f"artifacts/{name}"].upload(self._file(blob))
                self._assign(f"artifacts_metadata/{name}",
                             {"kind": kind, "sha256": blob.sha256, "file_name": blob.name, **metadata})
                return Receipt("translated", "kept as a file of this run")
            case events.Model(blob=blob):
                self._run["model/file"].upload(self._file(blob))
                facts = {name: getattr(event, name) for name in ("name", "version", "step")}
                lists = {"datasets": list(event.datasets), "parents": list(event.parents)}
                self._assign("model", {**facts, "sha256": blob.sha256, "file_name": blob.name, **lists})
                self._assign("model/scores", event.scores)
                self._assign("model/metadata", event.metadata)
                return Receipt("translated", "kept as a file of this run: Neptune's model registry is gone")
            case events.Text(name=name, step=step, text=text):
                if len(text) > _TEXT_CHARACTERS:
                    self._run[f"texts/{name}"].upload(_content(text.encode(), "txt"))
                    self._assign(f"texts_metadata/{name}", {"step": step})
                    return Receipt("translated", f"kept as a file: longer than {_TEXT_CHARACTERS} characters")
                self._run[f"texts/{name}"].append(text, step=step)
                return _SENT
            case events.Status(step=step, state=state):
                self._run["run/status"].append(state, step=step)
                return _SENT

    def flush(self, timeout_s: float) -> bool:
        self._run.wait()
        return True

    def close(self, outcome: str, timeout_s: float) -> None:
        if self._run is not None:
            self._run["run/outcome"] = outcome
            self._run["sys/failed"] = outcome != "finished"
            self._run.stop(seconds=timeout_s)
            self._run = None

    def _write_metrics(self, metrics: events.Metrics) -> Receipt:
        missing = 0
        for name, values in metrics.values.items():
            points = list(zip(metrics.steps.tolist(), values.tolist(), metrics.times.tolist(), strict=True))
            finite = [point for point in points if math.isfinite(point[1])]
            if finite:
                steps, numbers, times = zip(*finite, strict=True)
                self._run[name].extend(list(numbers), steps=list(steps), timestamps=list(times))
            for step, value, time in points:
                if not math.isfinite(value):  # a NaN in their log breaks `neptune sync`
                    words = f"{name} is {events.float_word(value)} at step {step}"
                    self._run[f"notes/{name}_not_finite"].append(words, step=step, timestamp=time)
                    missing += 1
        return Receipt("translated", f"{missing} non-finite values said in words under notes/") if missing else _SENT

    def _write_source(self, source: events.Source) -> Receipt:
        self._assign("source", {"commit": source.commit, "branch": source.branch, "remote": source.remote,
                                "dirty": source.dirty})
        if source.patch is not None:
            self._run["source/patch"].upload(_content(self._bytes(source.patch), "diff"))
            self._assign("source", {"patch_name": source.patch.name})
        if source.files:
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for blob in source.files:
                    archive.writestr(zipfile.ZipInfo(blob.name), self._bytes(blob))
            self._run["source/files"].upload(_content(stream.getvalue(), "zip"))
        return Receipt("translated", "fields, patch and a zip of the files")

    def _assign(self, namespace: str, values: Any) -> Receipt:
        notes = []
        for name, value in values.items():
            path = f"{namespace}/{name}"
            stored = field.stored(value)
            if isinstance(stored, str) and len(stored) > _STRING_CHARACTERS:
                self._run[path].upload(_content(stored.encode(), "txt"))
                notes.append(f"{path} as a file")
            else:
                self._run[path] = stored
                if stored is not value:
                    notes.append(f"{path} as text")
        return Receipt("translated", "; ".join(notes)) if notes else _SENT

    def _bytes(self, blob: events.Blob) -> bytes:
        return self._path_of(blob).read_bytes()

    def _file(self, blob: events.Blob) -> Any:
        if blob.size > 32 * 2**20:  # the client's bound for content
            from neptune.types import File

            return File(str(self._path_of(blob)))
        return _content(self._bytes(blob), Path(blob.name).suffix.lstrip("."))


def _content(data: bytes, extension: str) -> Any:
    from neptune.types import File

    return File.from_content(data, extension=extension or "bin")


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
