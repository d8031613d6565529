"""The durable record of a run: a directory, one event a line, bytes content-addressed.

Each line of `events.jsonl` ends with a digest over itself and the digest before it, so that one changed byte is
found and named. An append is on disk (fsync) when it returns; a torn last line is the sign of a crash and is dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax import blobs, errors, events, run_file

_SEAL = len(',"sha256":"') + 64 + len('"}')  # what follows an event on its line


class DirectoryTaken(errors.UserError):
    """The directory holds a run, or is being written by another process."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An event as recorded: its sequence number from 0, and the unix time of the append."""

    sequence: int
    time: float
    event: events.Event


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A run read back: who it is, its outcome ("running" and "killed" among them), and its entries in order."""

    directory: Path
    run: events.Run
    outcome: str
    entries: list[Entry]

    def of(self, kind: type) -> list[Any]:
        """Return the events of one kind, in order."""
        return [entry.event for entry in self.entries if isinstance(entry.event, kind)]

    def series(self) -> dict[str, tuple[list[int], list[float]]]:
        """Return every metric as name -> (steps, values)."""
        result: dict[str, tuple[list[int], list[float]]] = {}
        for metrics in self.of(events.Metrics):
            for name, values in metrics.values.items():
                steps, seen = result.setdefault(name, ([], []))
                steps.extend(metrics.steps.tolist())
                seen.extend(values.tolist())
        return result

    def last(self) -> dict[str, float]:
        """Return the last value of every metric."""
        return {name: values[-1] for name, (_, values) in self.series().items() if values}

    def bytes_of(self, blob: events.Blob) -> bytes:
        """Return a blob's bytes, checked against its digest."""
        return blobs.read(self.directory, blob)


class Record:
    """The one writer of a run directory. Close it, or use it as a context manager."""

    def __init__(self, directory: Path, run: events.Run, file: int, count: int, digest: str):
        self.directory, self.run = directory, run
        self._file, self._lock = file, threading.Lock()
        self._state = (count, digest, os.fstat(file).st_size)  # one value, so that no interruption leaves half of it
        self.seconds = 0.0  # spent in append, blobs included

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, *facts: events.Event) -> None:
        """Write events and wait until they are on disk; either all are there or, on an error, none.

        Raises:
          RecordError: the disk is full or not writable. What was recorded before stays readable.
        """
        started = time.perf_counter()
        with self._lock:
            first, digest, size = self._state
            count, now, lines = first, time.time(), []
            for event in facts:
                line, digest = _line(count, now, event, digest)
                lines.append(line)
                count += 1
            data = b"".join(lines)
            after = (count, digest, size + len(data))
            try:
                _write_all(self._file, data)
                os.fsync(self._file)
                self._state = after
            except BaseException as error:  # an interruption, too, leaves all of them or none
                with contextlib.suppress(OSError):
                    if not isinstance(error, OSError) and os.fstat(self._file).st_size == after[2]:
                        self._state = after
                    else:
                        os.ftruncate(self._file, size)
                if not isinstance(error, OSError):
                    raise
                raise errors.RecordError(
                    f"{self.directory / 'events.jsonl'}: cannot record events {first}-{count - 1}: {error.strerror}; make "
                    f"room or restore access, then start the run again") from error
        self.seconds += time.perf_counter() - started

    def blob(self, data: bytes, name: str) -> events.Blob:
        """Keep bytes in the run's directory and return their address; the same bytes are kept once."""
        started = time.perf_counter()
        kept = blobs.keep(self.directory, data, name)
        self.seconds += time.perf_counter() - started
        return kept

    def close(self, outcome: str | None = None) -> None:
        """Write the outcome, the number of events and the last digest into run.json, and let the directory go."""
        if self._file < 0:
            return
        count, digest, _ = self._state
        try:
            run_file.write(self.directory, self.run, outcome or "failed", {"count": count, "sha256": digest})
        except OSError as error:
            raise errors.RecordError(f"{self.directory / 'run.json'}: cannot record the outcome {outcome!r}: "
                                     f"{error.strerror}; make room or restore access") from error
        finally:
            os.close(self._file)
            self._file = -1


def new_id() -> str:
    """Return a run id that Neptune (custom_run_id, at most 36 characters) and Comet (32 to 50) both take."""
    return secrets.token_hex(16)


def create(directory: Path, run: events.Run) -> Record:
    """Create a run directory and open its record for writing.

    Raises:
      DirectoryTaken: it holds another run, or is being written by another process.
      UserError: it cannot be written.
    """
    file = -1
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = _lock(directory)
        if (directory / "run.json").exists():
            raise DirectoryTaken(f"{directory}: expected an empty or new run directory, found a run in it; "
                                 f"choose another --workdir")
        run_file.write(directory, run, "running", None)
    except BaseException as error:
        if file >= 0:
            os.close(file)
        if not isinstance(error, OSError):
            raise
        raise errors.UserError(f"{directory}: expected a writable directory, found: {error.strerror}; "
                               f"choose another --workdir") from error
    return Record(directory, run, file, 0, "")


def read(directory: Path | str) -> Recorded:
    """Read a whole run.

    Raises:
      UserError: there is no run in the directory.
      RecordError: a line of it is damaged.
    """
    directory = Path(directory)
    fields = run_file.read(directory)
    follower = Follower(directory)
    entries = list(follower.new())
    sealed = fields.get("events")
    if sealed and fields["outcome"] != "running" and (len(entries), follower.digest) != (sealed["count"], sealed["sha256"]):
        raise errors.RecordError(f"{directory / 'events.jsonl'}: expected the {sealed['count']} events that run.json "
                                 f"seals, found {len(entries)} with another last digest")
    return Recorded(directory, run_file.run(fields), outcome_of(directory, fields), entries)


class Follower:
    """Reads a record that may still be growing; each `new()` yields the entries since the one before."""

    def __init__(self, directory: Path):
        self.path = directory / "events.jsonl"
        self.digest = ""
        self._offset = self._count = 0

    def new(self) -> Iterator[Entry]:
        """Yield the entries that are complete by now. Raises RecordError at a damaged line."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # torn, or still being written
                entry = self._entry(line)
                self._offset += len(line)  # before the entry is given away: the reader may stop at any of them
                yield entry

    def _entry(self, line: bytes) -> Entry:
        body = line[: -_SEAL - 1] + b"}"
        digest = hashlib.sha256(self.digest.encode() + body).hexdigest()
        try:
            if line[-_SEAL - 1:] != f',"sha256":"{digest}"}}\n'.encode():
                raise ValueError("its digest does not match")
            fields = json.loads(body)
            entry = Entry(fields["sequence"], fields["time"], events.from_json(fields["kind"], fields["event"]))
            if entry.sequence != self._count:
                raise ValueError(f"expected sequence number {self._count}, found {entry.sequence}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise errors.RecordError(f"{self.path}, line {self._count + 1}: damaged: {error}") from error
        self.digest = digest
        self._count += 1
        return entry


def outcome_of(directory: Path, fields: dict[str, Any]) -> str:
    """Return the outcome; a run that says "running" but has no live writer was "killed"."""
    if fields["outcome"] == "running" and not _is_locked(directory):
        return "killed"
    return fields["outcome"]


def _line(sequence: int, now: float, event: events.Event, previous: str) -> tuple[bytes, str]:
    fields = {"sequence": sequence, "time": now, "kind": type(event).__name__, "event": events.to_json(event)}
    body = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    digest = hashlib.sha256(previous.encode() + body).hexdigest()
    return body[:-1] + f',"sha256":"{digest}"}}\n'.encode(), digest


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view):]


def _lock(directory: Path) -> int:
    file = os.open(directory / "events.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    for attempt in range(5):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(0.02 * attempt)  # a reader that asks who writes holds it for a moment
    os.close(file)
    writer = {}
    with contextlib.suppress(errors.UserError, errors.RecordError):  # it may not have said yet who it is
        writer = run_file.read(directory).get("writer", {})
    raise DirectoryTaken(f"{directory}: another process writes this run (pid {writer.get('pid')} on {writer.get('host')}); "
                         f"wait for it or choose another --workdir")


def _is_locked(directory: Path) -> bool:
    try:
        file = os.open(directory / "events.jsonl", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
