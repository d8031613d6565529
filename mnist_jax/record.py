"""The durable record of a run: a directory, one event a line, bytes content-addressed.

`events.jsonl` is a journal: sealed line by line, and on disk when an append returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax import blobs, errors, events, journal, run_file


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

    def __init__(self, directory: Path, run: events.Run, lines: journal.Journal):
        self.directory, self.run, self._journal = directory, run, lines
        self._closed = False
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
        started, first = time.perf_counter(), self._journal.count
        now = time.time()
        try:
            self._journal.append([{"time": now, "kind": type(event).__name__, "event": events.to_json(event)}
                                  for event in facts])
        except OSError as error:
            raise errors.RecordError(f"{self._journal.path}: cannot record events {first}-{first + len(facts) - 1}: "
                                     f"{error.strerror}; make room or restore access, then start the run again") from error
        self.seconds += time.perf_counter() - started

    def blob(self, data: bytes, name: str) -> events.Blob:
        """Keep bytes in the run's directory and return their address; the same bytes are kept once."""
        started = time.perf_counter()
        kept = blobs.keep(self.directory, data, name)
        self.seconds += time.perf_counter() - started
        return kept

    def close(self, outcome: str | None = None) -> None:
        """Write the outcome, the number of events and the last digest into run.json, and let the directory go."""
        if self._closed:
            return
        self._closed = True
        try:
            sealed = {"count": self._journal.count, "sha256": self._journal.digest}
            run_file.write(self.directory, self.run, outcome or "failed", sealed)
        except OSError as error:
            raise errors.RecordError(f"{self.directory / 'run.json'}: cannot record the outcome {outcome!r}: "
                                     f"{error.strerror}; make room or restore access") from error
        finally:
            self._journal.close()


def new_id() -> str:
    """Return a run id that Neptune (custom_run_id, at most 36 characters) and Comet (32 to 50) both take."""
    return secrets.token_hex(16)


def create(directory: Path, run: events.Run) -> Record:
    """Create a run directory and open its record for writing.

    Raises:
      DirectoryTaken: it holds another run, or is being written by another process.
      UserError: it cannot be written.
    """
    with _opening(directory) as lines:
        if (directory / "run.json").exists():
            raise DirectoryTaken(f"{directory}: expected an empty or new run directory, found a run in it; "
                                 f"choose another workdir")
        run_file.write(directory, run, "running", None)
    return Record(directory, run, lines)


def reopen(directory: Path) -> tuple[Record, Recorded]:
    """Open the record of a run that has ended, to go on after its last whole event; return it with what it holds.

    Raises:
      DirectoryTaken: another process writes it.
      UserError: there is no run, or it cannot be written.
      RecordError: it is damaged.
    """
    with _opening(directory) as lines:
        before = read(directory)
        run_file.write(directory, before.run, "running", None)
    return Record(directory, before.run, lines), before


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
        self._reader = journal.Reader(directory / "events.jsonl")

    @property
    def digest(self) -> str:
        """The digest of the last line read."""
        return self._reader.digest

    def new(self) -> Iterator[Entry]:
        """Yield the entries that are complete by now. Raises RecordError at a damaged line."""
        for fields in self._reader.new():
            try:
                entry = Entry(fields["sequence"], fields["time"], events.from_json(fields["kind"], fields["event"]))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise errors.RecordError(f"{self._reader.path}, line {self._reader.count}: damaged: {error}") from error
            yield entry


def outcome_of(directory: Path, fields: dict[str, Any]) -> str:
    """Return the outcome; a run that says "running" but has no live writer was "killed"."""
    if fields["outcome"] == "running" and not journal.is_locked(directory / "events.jsonl"):
        return "killed"
    return fields["outcome"]


@contextlib.contextmanager
def _opening(directory: Path) -> Iterator[journal.Journal]:
    """Open the journal of a run's directory for writing; it is closed again if the block fails."""
    lines = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lines = journal.Journal(directory / "events.jsonl")
        yield lines
    except BaseException as error:
        if lines:
            lines.close()
        if isinstance(error, journal.Locked):
            writer = {}
            with contextlib.suppress(errors.UserError, errors.RecordError):  # it may not have said yet who it is
                writer = run_file.read(directory).get("writer", {})
            raise DirectoryTaken(f"{directory}: another process writes this run (pid {writer.get('pid')} on "
                                 f"{writer.get('host')}); wait for it or choose another workdir") from None
        if isinstance(error, OSError):
            raise errors.UserError(f"{directory}: expected a writable directory, found: {error.strerror}; "
                                   f"choose another workdir") from error
        raise
