"""A run of anybody's own training loop: recorded, and delivered to trackers beside it.

    with mnist_jax.track("mine", {"learning_rate": 0.1}, tracker="neptune,comet") as run:
        for step in range(1, 101):
            run.metrics(step, {"train/loss": 1 / step})

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

from mnist_jax import (
    background,
    credentials,
    differences,
    errors,
    events,
    nested,
    overlap,
    provenance,
    receipts,
    record,
    show,
    tracking,
)


class Tracked:
    """A run being recorded; a context manager. `outcome` may be set before the end; it is "finished" by default.

    Raises (in every method that records):
      RecordError: the record cannot be written. What was recorded before stays readable.
    """

    def __init__(self, recorder: record.Record, destinations: Sequence[tracking.Destination],
                 known: overlap.Overlap | None = None, step: int = 0):
        began = time.perf_counter()
        self.directory = recorder.directory
        self.outcome = "finished"
        self.deliveries: list[receipts.Replica] = []
        self._recorder, self._closed = recorder, False
        self._overlap, self._step = known, step
        self._delivering = background.start(recorder.directory, destinations)
        self._start_s = time.perf_counter() - began

    @property
    def run(self) -> events.Run:
        return self._recorder.run

    @property
    def tracking_seconds(self) -> float:
        """Seconds that this process has spent on recording and on starting deliveries."""
        return self._recorder.seconds + self._start_s

    def __enter__(self) -> Tracked:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self.outcome = "interrupted"
        elif error is not None:
            self.outcome = "failed"
            with contextlib.suppress(errors.RecordError):
                self.text("error", self._step, credentials.mask(f"{type(error).__name__}: {error}"))
        self.close()

    def append(self, *facts: events.Event) -> None:
        """Record events and wait until they are on disk; what a resumed run has recorded before is not recorded again."""
        if self._overlap:
            facts = tuple(new for fact in facts for new in self._overlap.new(fact))
        if facts:
            self._recorder.append(*facts)
        self._step = max([self._step, *(_last_step(fact) for fact in facts if isinstance(fact, events.Metrics))])

    def blob(self, data: bytes, name: str) -> events.Blob:
        """Keep bytes in the run's directory, for an event that refers to them."""
        return self._recorder.blob(data, name)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record one value of each series after `step` updates."""
        self.append(events.Metrics(np.array([step]), {name: np.array([value]) for name, value in values.items()},
                                   np.array([time.time()])))

    def image(self, name: str, step: int, png: bytes, caption: str = "") -> None:
        """Record an image, given as the bytes of a PNG file."""
        if not png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise errors.UserError(f"image {name!r}: expected the bytes of a PNG file, found {png[:8]!r}; encode it first")
        self.append(events.Image(name, step, self.blob(png, f"{Path(name).name}.png"), caption))

    def artifact(self, name: str, file: Path | str | bytes, kind: str = "file",
                 metadata: Mapping[str, events.Scalar] | None = None) -> None:
        """Record a file, given by its path or as bytes."""
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
        kept = self.blob(data, Path(name if isinstance(file, bytes) else file).name)
        self.append(events.Artifact(name, kept, kind, dict(metadata or {})))

    def text(self, name: str, step: int, text: str) -> None:
        """Record a text."""
        self.append(events.Text(name, step, text))

    def close(self) -> None:
        """Record the outcome, end the record, and wait for the deliveries within their bounds. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(errors.RecordError):
                self._recorder.append(events.Status(self._step, self.outcome))
            self._recorder.close(self.outcome)
        finally:
            self.deliveries = background.finish(self._delivering)
            with contextlib.suppress(errors.UserError, errors.RecordError):
                for line in show.left_over(self.directory):
                    print(line, file=sys.stderr)


def track(name: str, config: Mapping[str, Any] | None = None, *, tracker: tracking.Choice = "local",
          tracker_mode: str = "auto", workdir: str | Path | None = None, tags: Sequence[str] = (), description: str = "",
          parent: str | None = None, resume: bool = False, steps_per_epoch: int | None = None, command: Sequence[str] = (),
          script: Sequence[str | Path] = (), created: float | None = None) -> Tracked:
    """Start to record a run: who it is, its environment, source and hyperparameters.

    Args:
      config: hyperparameters, nested or not; recorded under their dotted names.
      tracker: comma-separated names, or third parties' objects; "local" is the record alone.
      tracker_mode: "offline", "online", or "auto": online where the tracker's credentials are in the environment.
      workdir: the run's directory; by default a new one, runs/<time>-<name>.
      parent: id of the run that this one goes on from.
      resume: go on with the run in `workdir`, if there is one. What it states a second time is not recorded again; if it
        states something else than the record does, that is a RecordError.
      steps_per_epoch: updates in an epoch, so that a tracker that shows epochs can count them.
      command: the command line that started the run; credentials in it are masked.
      script: files to keep as source beside this package.
      created: unix time at which the run began, by default now.

    Raises:
      UserError: the tracker or the directory is not as expected, or the config holds a credential.
      RecordError: the record cannot be written.
    """
    values = dict(nested.flatten(config or {}))
    provenance.refuse_secrets(values)
    destinations = tracking.destinations(tracker, tracker_mode)
    for line in [said for destination in destinations for said in destination.said()]:
        print(line, file=sys.stderr)
    try:
        json.dumps(dict(config or {}))
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.UserError(f"config: expected values that JSON can hold, found others ({error}); convert them") from error
    identity = events.Run(record.new_id(), name, created or time.time(), dict(config or {}),
                          provenance.command_line(list(command)), parent, tuple(tags), description, steps_per_epoch)
    environment, before, known, step = provenance.environment(), None, None, 0
    if resume and workdir and (Path(workdir) / "run.json").exists():
        recorder, before = record.reopen(Path(workdir))
        known = overlap.Overlap(before, exact=not _changes(before, [environment]))
        step = max((_last_step(fact) for fact in before.of(events.Metrics)), default=0)
    else:
        recorder = record.create(Path(workdir), identity) if workdir else _new_directory(identity)
    tracked = Tracked(recorder, destinations, known, step)
    with contextlib.ExitStack() as stack:
        stack.enter_context(tracked)
        facts = [environment, *_source(tracked, script)]
        tracked.append(events.Status(tracked._step, "running"), *facts, events.Hyperparameters(values))
        if before and (changes := _changes(before, facts)):
            print(f"warning: since this run was begun, {changes}; its bits may differ", file=sys.stderr)
            tracked.text("warning", tracked._step, f"resumed after {changes}")
        stack.pop_all()
    return tracked


def _changes(before: record.Recorded, facts: Sequence[events.Event]) -> str:
    """Return in words how environment and source differ from those that a run began with; "" if they do not."""
    return "; ".join(difference for fact in facts for was in before.of(type(fact))[:1]
                     for difference in differences.between(was, fact))


def _new_directory(identity: events.Run) -> record.Record:
    base = f"{time.strftime('%Y%m%d-%H%M%S')}-{identity.name}"
    for number in range(1, 10_000):
        directory = Path("runs") / (base if number == 1 else f"{base}-{number}")
        with contextlib.suppress(record.DirectoryTaken):
            return record.create(directory, identity)
    raise errors.UserError(f"runs/{base}: expected a free name, found 10,000 runs of this second; name a workdir")


def _last_step(fact: events.Metrics) -> int:
    return int(fact.steps.max()) if len(fact.steps) else 0


def _source(tracked: Tracked, script: Sequence[str | Path]) -> list[events.Event]:
    commit, branch, remote, dirty, patch = provenance.git_facts(Path.cwd())
    files, warnings = [], []
    for name, path in provenance.source_files([Path(path) for path in script]).items():
        content = path.read_bytes()
        if found := provenance.holds_secret(content):
            warnings.append(f"{name} holds the value of {', '.join(found)} and is not recorded")
            continue
        if lines := provenance.literal_secrets(content.decode(errors="replace")):
            warnings.append(f"{name}, line {lines[0]}, looks as if it held a credential, and source is recorded and sent; "
                            f"move it to the environment")
        files.append(tracked.blob(content, name))
    if provenance.literal_secrets("\n".join(line for line in patch.decode(errors="replace").split("\n") if line[:1] == "+")):
        warnings.append("the uncommitted changes look as if they held a credential, and they are recorded and sent; move it "
                        "to the environment")
    kept_patch = tracked.blob(patch, "uncommitted.diff") if patch else None
    facts: list[events.Event] = [events.Source(commit, branch, remote, dirty, kept_patch, tuple(files))]
    if warnings:
        print(f"warning: {'; '.join(warnings)}", file=sys.stderr)
        facts.append(events.Text("warning", 0, "; ".join(warnings)))
    return facts
