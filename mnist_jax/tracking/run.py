"""Records a run of any training loop, and syncs it to trackers.

    with mnist_jax.track("mine", {"learning_rate": 0.1}, tracker="neptune,comet") as run:
        for step in range(1, 101):
            run.log({"train/loss": 1 / step}, step=step)

The record may stop the loop (a full disk); a tracker never does.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mnist_jax import errors, events, secrets
from mnist_jax.provenance import differences, environment, source
from mnist_jax.record import names, nested, reader, scalars, writer
from mnist_jax.tracking import protocol, receipts, sync


class Run:
    """A run being recorded; a context manager. `status` may be set before the end; it is "finished" by default.

    It belongs to the process that opened it, in any of its threads. A program that ends without closing it closes it then.

    Raises (in every method that records):
      UserError: the run is closed, or another process opened it.
      RecordError: the record cannot be written. Earlier events stay readable.
    """

    def __init__(self, run_writer: writer.RunWriter, destinations: Sequence[protocol.Destination],
                 existing_run: reader.RunRecord | None = None):
        started = time.perf_counter()
        self.directory = run_writer.directory
        self.status = "finished"
        self.sync: list[receipts.SyncStatus] = []  # the status of each tracker, once the run is closed
        self.last: dict[str, float] = existing_run.last() if existing_run else {}  # last value of every metric
        self._writer, self._closed, self._pid = run_writer, False, os.getpid()
        self._step = existing_run.steps if existing_run else 0
        self._syncs = sync.start(run_writer.directory, destinations)
        self._start_s = time.perf_counter() - started
        _open_runs.add(self)

    def __repr__(self) -> str:
        return f"<Run {self.info.name!r} in {str(self.directory)!r}, {'closed' if self._closed else 'recording'}>"

    @property
    def info(self) -> events.RunInfo:
        """The identity of the run."""
        return self._writer.run

    @property
    def event_count(self) -> int:
        """The number of recorded events."""
        return self._writer.count

    @property
    def tracking_seconds(self) -> float:
        """Seconds that this process has spent on recording and on starting trackers."""
        return self._writer.seconds + self._start_s

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and _is_signal(error.code)):
            self.status = "interrupted"
        elif isinstance(error, SystemExit) and not error.code:
            pass  # sys.exit() or sys.exit(0): the program has done what it wanted
        elif error is not None:
            self._fail(error)
        self.close()

    def append(self, *facts: events.Event) -> None:
        """Record events and wait until they are on disk; a resumed run does not record an event a second time.

        Metrics are safe from the end of the process when this returns, and on disk within a second.
        """
        for fact in self._writer.append(*facts):
            if isinstance(fact, events.Metrics) and len(fact.steps):
                self._step = max(self._step, int(fact.steps.max()))
                self.last.update({name: float(values[-1]) for name, values in fact.values.items()})

    def blob(self, data: bytes, name: str) -> events.Blob:
        """Write bytes into the run's directory, for an event that refers to them."""
        return self._writer.blob(data, name)

    def log(self, values: Mapping[str, Any], *, step: int) -> None:
        """Record one value of each series after `step` updates; it is safe from the end of the process when this returns.

        Args:
          values: real numbers of Python, numpy, jax or PyTorch, of shape () or (1,).
          step: an integer from 0 to 2**53.

        Raises:
          UserError: a value is no real number, or a series has another value at this step already.
        """
        new = self._writer.log(step, values)
        if new:
            self._step = max(self._step, int(step))
            self.last.update(new)

    def flush(self) -> None:
        """Wait until everything that was recorded is on disk. The run continues."""
        self._writer.flush()

    def image(self, name: str, png: bytes, *, step: int, caption: str = "") -> None:
        """Record an image, given as the bytes of a PNG file."""
        if not png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise errors.UserError(f"image {name!r}: expected the bytes of a PNG file, found {png[:8]!r}; encode it first")
        step = scalars.step(step)
        self.append(events.Image(scalars.name(name), step, self.blob(png, f"{Path(name).name}.png"), caption))

    def artifact(self, name: str, file: Path | str | bytes, kind: str = "file",
                 metadata: Mapping[str, events.Scalar] | None = None) -> None:
        """Record a file, given by its path or as bytes."""
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
        blob = self.blob(data, Path(name if isinstance(file, bytes) else file).name)
        self.append(events.Artifact(scalars.name(name), blob, kind, dict(metadata or {})))

    def text(self, name: str, text: str, *, step: int) -> None:
        """Record a text."""
        printable = text.encode("utf-8", "backslashreplace").decode()  # without lone surrogates
        self.append(events.Text(scalars.name(name), scalars.step(step), printable))

    def close(self) -> None:
        """Record the status, end the record, and wait for the trackers, at most so long. A second call does nothing."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        _open_runs.discard(self)
        try:
            self._writer.close(self.status, events.Status(self._step, self.status))
        finally:
            self.sync = sync.finish(self._syncs)
            for line in receipts.incomplete_lines(self.directory, receipts.sync_statuses(self.directory), self._writer.count):
                secrets.warn(line)

    def _fail(self, error: BaseException) -> None:
        """Record an error as the reason for which the run failed."""
        self.status = "failed"
        try:
            message = f"{type(error).__name__}: {error}"
        except Exception:  # its own __str__ raises
            message = type(error).__name__
        with contextlib.suppress(errors.RecordError, errors.UserError):
            self.text("error", secrets.mask(message), step=self._step)


def _is_signal(code: Any) -> bool:
    """Return whether an exit code says that a signal ended the program, as shells write it."""
    return isinstance(code, int) and code in (130, 143)


_open_runs: set[Run] = set()


@atexit.register
def _close_open_runs() -> None:
    """Close what a program has left open; it failed where an exception ended the program."""
    for run in list(_open_runs):
        with contextlib.suppress(errors.RecordError, errors.UserError):
            if run._pid == os.getpid() and not run._closed and (error := getattr(sys, "last_value", None)) is not None:
                run._fail(error)
            run.close()


def track(name: str, config: Any = None, *, tracker: protocol.Choice = "local",
          tracker_mode: str = "auto", workdir: str | Path | None = None, tags: Sequence[str] = (), description: str = "",
          parent: str | None = None, resume: bool = False, reopen: bool = False, nondeterministic: Sequence[str] = (),
          steps_per_epoch: int | None = None, command: Sequence[str] = (), script: Sequence[str | Path] = (),
          created: float | None = None, run_id: str | None = None, existing_run: reader.RunRecord | None = None) -> Run:
    """Start to record a run: its identity, environment, source and hyperparameters.

    Args:
      config: hyperparameters, nested or not: a mapping, a ConfigDict, a dataclass or a Namespace (record/nested.py says what
        its values may be); recorded under their dotted names.
      tracker: comma-separated names, or third parties' objects; "local" is the record alone.
      tracker_mode: "offline", "online", or "auto": online where the tracker's credentials are in the environment.
      workdir: the run's directory; by default a new one, runs/<time>-<name>.
      parent: id of the run that this one starts from.
      resume: resume the run in `workdir`, if there is one. Events that it repeats are not recorded again; one that differs
        from the record raises RecordError. Name and config must be those of the run.
      reopen: resume a run that has finished, too; its record says so.
      nondeterministic: patterns of series that no two runs share, such as "throughput*", beside time/* and system/*. They are
        not compared when the run is resumed or reproduced.
      steps_per_epoch: updates in an epoch, for trackers that show epochs.
      command: the command line that started the run; credentials in it are masked.
      script: files to record as source beside this package.
      created: unix time at which the run started, by default now.
      run_id: the id of a new run (writer.new_id), where the caller must know it; by default a new one.
      existing_run: the record in `workdir`, where the caller has read it; the run is resumed.

    Raises:
      UserError: the tracker or the directory is not as expected, the config holds a credential, or the run in `workdir` has
        another name or config, or has finished.
      RecordError: the record cannot be written.
    """
    settings = nested.normalized(config)
    values = dict(nested.flatten(settings))
    secrets.refuse(values)
    destinations = protocol.destinations(tracker, tracker_mode)
    for line in [line for destination in destinations for line in destination.announcements()]:
        secrets.warn(line)
    info = events.RunInfo(run_id or writer.new_id(), name, created or time.time(), settings,
                          secrets.command_line(list(command)), parent, tuple(tags), description, steps_per_epoch,
                          _patterns(nondeterministic))
    machine = environment.environment()
    reopened = ""
    if existing_run or ((resume or reopen) and workdir and (Path(workdir) / "run.json").exists()):
        directory = (existing_run.directory if existing_run else Path(workdir or "")).absolute()
        if not existing_run:
            existing_run = reader.read(directory)
            _refuse_another_run(existing_run, info)
        if existing_run.status == "finished":
            if not reopen:
                raise errors.UserError(f"{directory}: this run has finished and is not changed any more; choose another "
                                       f"workdir, or add to it with reopen=True, which its record then says")
            reopened = (f"reopened at {time.strftime('%Y-%m-%d %H:%M:%S')}, after it had finished with "
                        f"{existing_run.count} events")
        run_writer, existing_run = writer.reopen(directory, existing_run, exact=not _changes(existing_run, [machine]))
    else:
        run_writer = writer.create(Path(workdir).absolute(), info) if workdir else _new_directory(info)
    run = Run(run_writer, destinations, existing_run)
    with contextlib.ExitStack() as stack:
        stack.enter_context(run)
        code, warnings = source.source(run.blob, [Path(path) for path in script])
        if warnings:
            secrets.warn(f"warning: {warnings}")
        texts = [events.Text(kind, step, text)
                 for kind, step, text in (("reopened", run._step, reopened), ("warning", 0, warnings)) if text]
        known = existing_run and existing_run.of(events.Hyperparameters)  # equal, but perhaps in another order
        run.append(events.Status(run._step, "running"), machine, code, *texts,
                   *([] if known else [events.Hyperparameters(values)]))
        if existing_run and (changes := _changes(existing_run, [machine, code])):
            secrets.warn(f"warning: since this run started, {changes}; its bits may differ")
            run.text("warning", f"resumed after {changes}", step=run._step)
        stack.pop_all()
    return run


def _patterns(nondeterministic: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns of series that are not compared, the defaults first."""
    if isinstance(nondeterministic, str) or not all(isinstance(each, str) and each for each in nondeterministic):
        raise errors.UserError(f"nondeterministic: expected a list of patterns of series, found {nondeterministic!r}; write "
                               f"nondeterministic=(\"throughput*\",)")
    return tuple(dict.fromkeys((*events.RunInfo.nondeterministic, *nondeterministic)))


def _refuse_another_run(existing_run: reader.RunRecord, info: events.RunInfo) -> None:
    """Raise UserError where a run that shall be resumed has another name, config or list of series that are not compared."""
    there, here = _settings(existing_run.run), _settings(info)
    differing = [f"{key} ({there.get(key, 'not set')} there, {here.get(key, 'not set')} here)"
                 for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
    more = [repr(each) for each in info.nondeterministic if each not in existing_run.run.nondeterministic]
    differing += [f"nondeterministic ({', '.join(more)} only here)"] if more else []
    if differing:
        raise errors.UserError(f"{existing_run.directory}: expected the run of this name and config, found one with other "
                               f"settings: {', '.join(differing)}; choose another workdir")


def _settings(info: events.RunInfo) -> dict[str, str]:
    """Return name and config of a run as text, by dotted key."""
    return {"name": json.dumps(info.name), **{f"config.{key}": json.dumps(value, sort_keys=True)
                                              for key, value in nested.flatten(info.config)}}


def _changes(existing_run: reader.RunRecord, facts: Sequence[events.Event]) -> str:
    """Return how environment and source differ from those that a run started with, as text; "" if they do not."""
    return "; ".join(difference for fact in facts for before in existing_run.of(type(fact))[:1]
                     for difference in differences.between(before, fact))


def _new_directory(info: events.RunInfo) -> writer.RunWriter:
    base = f"{time.strftime('%Y%m%d-%H%M%S')}-{names.folder_name(info.name)}"
    for number in range(1, 10_000):
        directory = Path("runs").absolute() / (base if number == 1 else f"{base}-{number}")
        with contextlib.suppress(writer.DirectoryTaken):
            return writer.create(directory, info)
    raise errors.UserError(f"runs/{base}: expected a free name, found 10,000 runs of this second; choose a workdir")
