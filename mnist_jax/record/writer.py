"""The one writer of a run's directory: events as lines of a journal, files by their digest.

Every line of `events.jsonl` is sealed, and is on disk when `append` returns.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from mnist_jax import errors, events
from mnist_jax.record import blobs, journal, reader, run_file


class DirectoryTaken(errors.UserError):
    """The directory holds a run, or another process writes it."""


class RunWriter:
    """The one writer of a run directory. Close it, or use it as a context manager."""

    def __init__(self, directory: Path, run: events.RunInfo, lines: journal.Journal):
        self.directory, self.run, self._journal = directory, run, lines
        self._closed = False
        self.seconds = 0.0  # spent in append, blobs included

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def count(self) -> int:
        """The number of events."""
        return self._journal.count

    def append(self, *facts: events.Event) -> None:
        """Write events and wait until they are on disk: all of them or, on an error, none.

        Raises:
          RecordError: the disk is full or not writable. Earlier events stay readable.
        """
        started, first = time.perf_counter(), self._journal.count
        now = time.time()
        try:
            self._journal.append([{"time": now, "kind": type(event).__name__, "event": events.to_json(event)}
                                  for event in facts])
        except OSError as error:
            last = first + len(facts) - 1
            raise errors.RecordError(f"{self._journal.path}: cannot record events {first}-{last}: {error.strerror}; "
                                     f"free disk space or restore access, then start the run again") from error
        self.seconds += time.perf_counter() - started

    def blob(self, data: bytes, name: str) -> events.Blob:
        """Write bytes into the run's directory and return their address; the same bytes are stored once."""
        started = time.perf_counter()
        blob = blobs.write(self.directory, data, name)
        self.seconds += time.perf_counter() - started
        return blob

    def close(self, status: str | None = None) -> None:
        """Write the status, the number of events and the last digest into run.json, and release the directory."""
        if self._closed:
            return
        self._closed = True
        try:
            sealed = {"count": self._journal.count, "sha256": self._journal.digest}
            run_file.write(self.directory, self.run, status or "failed", sealed)
        except OSError as error:
            raise errors.RecordError(f"{self.directory / 'run.json'}: cannot record the status {status!r}: "
                                     f"{error.strerror}; free disk space or restore access") from error
        finally:
            self._journal.close()


def new_id() -> str:
    """Return a run id that Neptune (custom_run_id, at most 36 characters) and Comet (32 to 50) both take."""
    return secrets.token_hex(16)


def create(directory: Path, run: events.RunInfo) -> RunWriter:
    """Create a run directory and open its record for writing.

    Raises:
      DirectoryTaken: it holds a run, or another process writes it.
      UserError: it cannot be written.
    """
    with _opening(directory) as lines:
        if (directory / "run.json").exists():
            raise DirectoryTaken(f"{directory}: expected an empty or new run directory, found a run in it; "
                                 f"choose another workdir")
        run_file.write(directory, run, "running", None)
    return RunWriter(directory, run, lines)


def reopen(directory: Path, record: reader.RunRecord | None = None) -> tuple[RunWriter, reader.RunRecord]:
    """Open the record of a run that has ended, to append to it; return the writer and the record.

    Args:
      record: the record, where the caller has read it; it is read again only if it has grown since.

    Raises:
      DirectoryTaken: another process writes it.
      UserError: there is no run, or it cannot be written.
      RecordError: it is damaged.
    """
    with _opening(directory) as lines:
        if record is None or record.digest != lines.digest:
            record = reader.read(directory)
        run_file.write(directory, record.run, "running", None)
    return RunWriter(directory, record.run, lines), record


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
            with contextlib.suppress(errors.UserError, errors.RecordError):  # it may not have written it yet
                writer = run_file.read(directory).get("writer", {})
            raise DirectoryTaken(f"{directory}: another process writes this run (pid {writer.get('pid')} on "
                                 f"{writer.get('host')}); wait for it or choose another workdir") from None
        if isinstance(error, OSError):
            raise errors.UserError(f"{directory}: expected a writable directory, found: {error.strerror}; "
                                   f"choose another workdir") from error
        raise
