"""The one writer of a run's directory: one event a line, bytes content-addressed, from one process in any of its threads.

`events.jsonl` is a journal: what a call has returned from survives the death of the process.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.record import blobs, files, journal, reader, replay, run_file, scalars


class DirectoryTaken(errors.UserError):
    """The directory holds a run, or a run in it is being written."""


class RunWriter:
    """The one writer of a run directory. Close it, or use it as a context manager.

    Raises (in every method that records):
      UserError: the run is closed, or another process opened it; or a series has another value at a step already.
      RecordError: the disk is full or not writable. Earlier events stay readable.
    """

    def __init__(self, directory: Path, run: events.RunInfo, lines: journal.Journal, folder: files.Folder,
                 record: reader.RunRecord | None = None, exact: bool = True):
        self.directory, self.run, self._journal, self._folder = directory, run, lines, folder
        self._mutex, self._closed = threading.RLock(), False
        self._replay = replay.Replay(directory, run, record, exact)
        self._names: dict[str, str] = {}  # names of series as JSON
        self.seconds = 0.0  # spent in append, blobs included

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def count(self) -> int:
        """The number of events."""
        return self._journal.count

    def log(self, step: int, values: Mapping[str, Any]) -> dict[str, float]:
        """Write one value of each series at a step; return those that were not recorded before."""
        step = scalars.step(step)
        numbers = {scalars.name(name): scalars.value(name, value) for name, value in values.items()}
        now = time.time()
        with self._mutex, self._writing():
            new = self._replay.new_values(step, numbers)
            if new:
                self._journal.write([self._line(now, step, new)], sync=False)
                self._replay.add_values(step, new)
            return new

    def append(self, *facts: events.AnyEvent) -> list[events.AnyEvent]:
        """Write events, all of them or, on an error, none; return those that were not recorded before.

        Metrics are on disk within a second, as those of `log`; other events when this returns.
        """
        started, now = time.perf_counter(), time.time()
        with self._mutex, self._writing():
            new = [each for fact in facts for each in self._replay.new(fact)]
            if new:
                self._journal.append([_fields(now, event) for event in new],
                                     sync=not all(isinstance(event, events.Metrics) for event in new))
                for event in new:
                    self._replay.add(event)
        self.seconds += time.perf_counter() - started
        return new

    def blob(self, data: bytes, name: str) -> events.Blob:
        """Write bytes into the run's directory and return their address; the same bytes are stored once."""
        started = time.perf_counter()
        with self._mutex, self._writing():
            blob = blobs.write(self._folder, data, name)
        self.seconds += time.perf_counter() - started
        return blob

    def flush(self) -> None:
        """Wait until everything that was recorded is on disk."""
        with self._mutex, self._writing():
            self._journal.sync()

    def close(self, status: str | None = None, *facts: events.AnyEvent) -> None:
        """Write last events and, with the number of events and the last digest, the status into run.json.

        What other threads have recorded before is sealed, too; what they record after is an error there. A second call, or one
        in a forked child, does nothing.
        """
        with self._mutex:
            if self._closed or self._journal.pid != os.getpid():
                return
            self._closed = True
            try:
                with contextlib.suppress(OSError):
                    self._journal.append([_fields(time.time(), event) for event in facts])
                sealed = {"count": self._journal.count, "sha256": self._journal.digest}
                self._journal.sync()
                run_file.write(self._folder, self.run, status or "failed", sealed)
            except OSError as error:
                raise errors.RecordError(f"{self.directory / 'run.json'}: cannot record the status {status!r}: "
                                         f"{error.strerror}; free disk space or restore access") from error
            finally:
                self._journal.close()
                self._folder.close()

    def _line(self, now: float, step: int, values: dict[str, float]) -> str:
        """Return what `_fields` makes of one value of each series, as JSON without its first brace."""
        names = self._names
        pieces = []
        for name, value in values.items():
            if name not in names:
                names[name] = f"{json.dumps(name)}:["
            pieces.append(f"{names[name]}{value!r}]" if math.isfinite(value) else f'{names[name]}"{events.float_word(value)}"]')
        return (f'"time":{now!r},"kind":"Metrics","event":{{"steps":[{step}],"values":{{{",".join(pieces)}}},'
                f'"times":[{now!r}]}}}}')

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        first = self._journal.count
        try:
            yield
        except journal.Closed as error:
            raise errors.UserError(f"{self.directory}: the run cannot be recorded to: {error}; to add to a finished run, track "
                                   f"it again with reopen=True") from None
        except OSError as error:
            raise errors.RecordError(f"{self._journal.path}: cannot record event {first} and what follows: {error.strerror}; "
                                     f"free disk space or restore access, then start the run again") from error


def _fields(now: float, event: events.AnyEvent) -> dict[str, Any]:
    return {"time": now, "kind": events.kind_of(event), "event": events.to_json(event)}


def new_id() -> str:
    """Return a run id that Neptune (custom_run_id, at most 36 characters) and Comet (32 to 50) both take."""
    return secrets.token_hex(16)


def create(directory: Path, run: events.RunInfo) -> RunWriter:
    """Create a run directory and open its record for writing.

    Raises:
      DirectoryTaken: it holds a run, or another process writes it.
      UserError: it cannot be written.
    """
    with _opening(directory) as (lines, folder):
        if folder.exists("run.json"):
            raise DirectoryTaken(f"{directory}: expected an empty or new run directory, found a run in it; "
                                 f"choose another workdir")
        run_file.write(folder, run, "running", None)
    return RunWriter(directory, run, lines, folder)


def reopen(directory: Path, record: reader.RunRecord | None = None, exact: bool = True) -> tuple[RunWriter, reader.RunRecord]:
    """Open the record of a run that has ended, to append to it; return the writer and the record.

    Args:
      record: the record, where the caller has read it; it is read again only if it has grown since.
      exact: whether what is recorded a second time must be equal (replay.Replay).

    Raises:
      DirectoryTaken: another process writes it.
      UserError: there is no run, or it cannot be written.
      RecordError: it is damaged.
    """
    with _opening(directory) as (lines, folder):
        if record is None or record.digest != lines.digest:
            record = reader.read(directory)
        run_file.write(folder, record.run, "running", None)
    return RunWriter(directory, record.run, lines, folder, record, exact), record


@contextlib.contextmanager
def _opening(directory: Path) -> Iterator[tuple[journal.Journal, files.Folder]]:
    """Open the journal of a run's directory for writing; it is closed again if the block fails."""
    lines = folder = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        folder = files.Folder(directory)
        lines = journal.Journal(directory / "events.jsonl")
        yield lines, folder
    except BaseException as error:
        for opened in (lines, folder):
            if opened:
                opened.close()
        if isinstance(error, journal.Locked):
            writer: dict[str, Any] = {}
            with contextlib.suppress(errors.UserError, errors.RecordError):  # it may not have written it yet
                writer = run_file.read(directory).get("writer", {})
            if writer.get("pid") == os.getpid():
                raise DirectoryTaken(f"{directory}: this run is still open in this program (a notebook cell that ran before, "
                                     f"perhaps); close it, or choose another workdir") from None
            raise DirectoryTaken(f"{directory}: another process writes this run (pid {writer.get('pid')} on "
                                 f"{writer.get('host')}); wait for it or choose another workdir") from None
        if isinstance(error, OSError):
            raise errors.UserError(f"{directory}: expected a writable directory, found: {error.strerror}; "
                                   f"choose another workdir") from error
        raise
