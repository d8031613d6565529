"""A run of anybody's own training loop: recorded, and synced to trackers beside it.

    with mnist_jax.track("mine", {"learning_rate": 0.1}, tracker="neptune,comet") as run:
        for step in range(1, 101):
            run.log({"train/loss": 1 / step}, step=step)

The record may stop the loop (a full disk), a tracker never does.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mnist_jax import errors, events, secrets
from mnist_jax.provenance import differences, environment, source
from mnist_jax.record import nested, reader, replay, writer
from mnist_jax.tracking import protocol, receipts, sync


class Run:
    """A run being recorded; a context manager. `status` may be set before the end; it is "finished" by default.

    Raises (in every method that records):
      RecordError: the record cannot be written. What was recorded before stays readable.
    """

    def __init__(self, recorder: writer.RunWriter, destinations: Sequence[protocol.Destination],
                 existing_run: reader.RunRecord | None = None, exact: bool = True):
        began = time.perf_counter()
        self.directory = recorder.directory
        self.status = "finished"
        self.sync: list[receipts.SyncStatus] = []  # what each tracker holds, once the run is closed
        self.last: dict[str, float] = existing_run.last() if existing_run else {}  # last value of every metric
        self._writer, self._closed = recorder, False
        self._replay = replay.Replay(existing_run, exact) if existing_run else None
        self._step = existing_run.steps if existing_run else 0
        self._syncing = sync.start(recorder.directory, destinations)
        self._start_s = time.perf_counter() - began

    def __repr__(self) -> str:
        return f"<Run {self.info.name!r} in {str(self.directory)!r}, {'closed' if self._closed else 'recording'}>"

    @property
    def info(self) -> events.RunInfo:
        """Who the run is."""
        return self._writer.run

    @property
    def event_count(self) -> int:
        """How many events are recorded."""
        return self._writer.count

    @property
    def tracking_seconds(self) -> float:
        """Seconds that this process has spent on recording and on starting trackers."""
        return self._writer.seconds + self._start_s

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self.status = "interrupted"
        elif error is not None:
            self.status = "failed"
            with contextlib.suppress(errors.RecordError):
                self.text("error", secrets.mask(f"{type(error).__name__}: {error}"), step=self._step)
        self.close()

    def append(self, *facts: events.Event) -> None:
        """Record events and wait until they are on disk; what a resumed run has recorded before is not recorded again."""
        if self._replay:
            facts = tuple(new for fact in facts for new in self._replay.new(fact))
        if facts:
            self._writer.append(*facts)
        for fact in facts:
            if isinstance(fact, events.Metrics) and len(fact.steps):
                self._step = max(self._step, int(fact.steps.max()))
                self.last.update({name: float(values[-1]) for name, values in fact.values.items()})

    def blob(self, data: bytes, name: str) -> events.Blob:
        """Write bytes into the run's directory, for an event that refers to them."""
        return self._writer.blob(data, name)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Record one value of each series after `step` updates."""
        self.append(events.Metrics(np.array([step]), {name: np.array([value]) for name, value in values.items()},
                                   np.array([time.time()])))

    def image(self, name: str, png: bytes, *, step: int, caption: str = "") -> None:
        """Record an image, given as the bytes of a PNG file."""
        if not png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise errors.UserError(f"image {name!r}: expected the bytes of a PNG file, found {png[:8]!r}; encode it first")
        self.append(events.Image(name, step, self.blob(png, f"{Path(name).name}.png"), caption))

    def artifact(self, name: str, file: Path | str | bytes, kind: str = "file",
                 metadata: Mapping[str, events.Scalar] | None = None) -> None:
        """Record a file, given by its path or as bytes."""
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
        blob = self.blob(data, Path(name if isinstance(file, bytes) else file).name)
        self.append(events.Artifact(name, blob, kind, dict(metadata or {})))

    def text(self, name: str, text: str, *, step: int) -> None:
        """Record a text."""
        self.append(events.Text(name, step, text))

    def close(self) -> None:
        """Record the status, end the record, and wait for the trackers within their bounds. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(errors.RecordError):
                self._writer.append(events.Status(self._step, self.status))
            self._writer.close(self.status)
        finally:
            self.sync = sync.finish(self._syncing)
            for line in receipts.left_over(self.directory, receipts.sync_statuses(self.directory), self._writer.count):
                print(line, file=sys.stderr)


def track(name: str, config: Mapping[str, Any] | None = None, *, tracker: protocol.Choice = "local",
          tracker_mode: str = "auto", workdir: str | Path | None = None, tags: Sequence[str] = (), description: str = "",
          parent: str | None = None, resume: bool = False, steps_per_epoch: int | None = None, command: Sequence[str] = (),
          script: Sequence[str | Path] = (), created: float | None = None,
          existing_run: reader.RunRecord | None = None) -> Run:
    """Start to record a run: who it is, its environment, source and hyperparameters.

    Args:
      config: hyperparameters, nested or not; recorded under their dotted names.
      tracker: comma-separated names, or third parties' objects; "local" is the record alone.
      tracker_mode: "offline", "online", or "auto": online where the tracker's credentials are in the environment.
      workdir: the run's directory; by default a new one, runs/<time>-<name>.
      parent: id of the run that this one starts from.
      resume: resume the run in `workdir`, if there is one. What it states a second time is not recorded again; if it
        states something else than the record does, that is a RecordError.
      steps_per_epoch: updates in an epoch, so that a tracker that shows epochs can count them.
      command: the command line that started the run; credentials in it are masked.
      script: files to record as source beside this package.
      created: unix time at which the run began, by default now.
      existing_run: the run in `workdir`, where the caller has read it; it is resumed.

    Raises:
      UserError: the tracker or the directory is not as expected, or the config holds a credential.
      RecordError: the record cannot be written.
    """
    values = dict(nested.flatten(config or {}))
    secrets.refuse(values)
    destinations = protocol.destinations(tracker, tracker_mode)
    for line in [line for destination in destinations for line in destination.announcements()]:
        print(line, file=sys.stderr)
    try:
        json.dumps(dict(config or {}))
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.UserError(f"config: expected values that JSON can hold, found others ({error}); convert them") from error
    info = events.RunInfo(writer.new_id(), name, created or time.time(), dict(config or {}),
                          secrets.command_line(list(command)), parent, tuple(tags), description, steps_per_epoch)
    surroundings = environment.environment()
    if existing_run or (resume and workdir and (Path(workdir) / "run.json").exists()):
        recorder, existing_run = writer.reopen(existing_run.directory if existing_run else Path(workdir or ""), existing_run)
    else:
        recorder = writer.create(Path(workdir), info) if workdir else _new_directory(info)
    run = Run(recorder, destinations, existing_run, exact=not existing_run or not _changes(existing_run, [surroundings]))
    with contextlib.ExitStack() as stack:
        stack.enter_context(run)
        code, warnings = source.source(run.directory, [Path(path) for path in script])
        if warnings:
            print(f"warning: {warnings}", file=sys.stderr)
        run.append(events.Status(run._step, "running"), surroundings, code, *([events.Text("warning", 0, warnings)] if warnings
                                                                              else []), events.Hyperparameters(values))
        if existing_run and (changes := _changes(existing_run, [surroundings, code])):
            print(f"warning: since this run was begun, {changes}; its bits may differ", file=sys.stderr)
            run.text("warning", f"resumed after {changes}", step=run._step)
        stack.pop_all()
    return run


def _changes(existing_run: reader.RunRecord, facts: Sequence[events.Event]) -> str:
    """Return in words how environment and source differ from those that a run began with; "" if they do not."""
    return "; ".join(difference for fact in facts for before in existing_run.of(type(fact))[:1]
                     for difference in differences.between(before, fact))


def _new_directory(info: events.RunInfo) -> writer.RunWriter:
    base = f"{time.strftime('%Y%m%d-%H%M%S')}-{info.name}"
    for number in range(1, 10_000):
        directory = Path("runs") / (base if number == 1 else f"{base}-{number}")
        with contextlib.suppress(writer.DirectoryTaken):
            return writer.create(directory, info)
    raise errors.UserError(f"runs/{base}: expected a free name, found 10,000 runs of this second; name a workdir")
