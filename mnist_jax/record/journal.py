"""Lines of JSON that are only ever appended, numbered from 0, each sealed by a digest over itself and the digest before it.

One changed byte is found and named. A line that `write` has returned from survives the death of its process; it is on disk
(fsync) within a second of further writing, and at once where that is asked for. A torn last line is the sign of a crash:
readers stop before it, and the next writer cuts it off.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors
from mnist_jax.record import files

SYNC_S = 1.0  # what a power failure may cost
_SEAL = len(',"sha256":"') + 64 + len('"}')  # what follows the fields on their line
_LINE_BYTES = 2**28  # a longer line is damage, and is not read into memory
_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


class Locked(Exception):
    """Another process writes the journal, or this one does, elsewhere."""


class Closed(Exception):
    """The journal is closed, or another process opened it."""


class Journal:
    """The one writer of a journal, new or existing: the process that opened it, in any of its threads.

    Raises:
      Locked: another process still writes it after `patience_s`.
      RecordError: a line of it is damaged.
      OSError: it cannot be opened.
    """

    def __init__(self, path: Path, patience_s: float = 0.2):
        self.path = path
        self._pid, self._mutex = os.getpid(), threading.Lock()
        self._file = _lock(path, patience_s)
        try:
            reader = JournalReader(path)
            for _ in reader.lines():
                pass
            if os.fstat(self._file).st_size > reader.size:
                os.ftruncate(self._file, reader.size)
                os.fsync(self._file)
        except BaseException:
            self.close()
            raise
        self._state = (reader.count, reader.digest, reader.size)  # one value, so that no interruption leaves half of it
        self._synced, self._unsynced = time.monotonic(), False
        _journals.add(self)

    @property
    def pid(self) -> int:
        """The process that opened it."""
        return self._pid

    @property
    def count(self) -> int:
        """The number of lines."""
        return self._state[0]

    @property
    def digest(self) -> str:
        """The digest of the last line, "" in an empty journal."""
        return self._state[1]

    @property
    def size(self) -> int:
        """The length of the file in bytes."""
        return self._state[2]

    def append(self, lines: Sequence[dict[str, Any]], sync: bool = True) -> None:
        """Write lines of fields. Arguments and errors are those of `write`."""
        self.write([json.dumps(fields, separators=(",", ":"), allow_nan=False)[1:] for fields in lines], sync)

    def write(self, bodies: Sequence[str], sync: bool) -> None:
        """Write lines, each given as JSON without its first brace; either all of them are there or, on an error, none.

        Args:
          sync: wait until they are on disk.

        Raises:
          Closed: the journal is closed, or another process opened it.
          OSError: they cannot be written.
        """
        with self._mutex:
            self._check()
            count, digest, size = self._state
            sealed = []
            for sequence, fields in enumerate(bodies, start=count):
                body = f'{{"sequence":{sequence},{fields}'
                digest = hashlib.sha256((digest + body).encode()).hexdigest()
                sealed.append(f'{body[:-1]},"sha256":"{digest}"}}\n')
            data = "".join(sealed).encode()
            after = (count + len(bodies), digest, size + len(data))
            try:
                _write_all(self._file, data)
                self._unsynced = True
                if sync or time.monotonic() - self._synced > SYNC_S:
                    self._sync()
                self._state = after
            except BaseException as error:  # an interruption, too, leaves all of them or none
                with contextlib.suppress(OSError):
                    if not isinstance(error, OSError) and os.fstat(self._file).st_size == after[2]:
                        self._state = after
                    else:
                        os.ftruncate(self._file, size)
                raise

    def sync(self) -> None:
        """Wait until everything that was written is on disk. Raises as `write` does."""
        with self._mutex:
            self._check()
            self._sync()

    def close(self) -> None:
        """Let another process write it. A second call does nothing."""
        with self._mutex:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _sync(self) -> None:
        if self._unsynced:
            os.fsync(self._file)
            self._unsynced = False
        self._synced = time.monotonic()

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise Closed(f"process {self._pid} opened it, and this is process {os.getpid()}; record from there")
        if self._file < 0:
            raise Closed("it is closed")


class JournalReader:
    """Reads a journal that may still be growing; each `new()` yields the lines since the one before."""

    def __init__(self, path: Path, count: int = 0, digest: str = "", size: int = 0):
        self.path = path
        self.count, self.digest, self.size = count, digest, size  # of what was read

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the fields of the lines that are complete by now, "sequence" first. Raises RecordError at a damaged line."""
        for body in self.lines():
            yield self.parsed(body)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are complete by now, as the JSON that is sealed. Raises RecordError at a damaged line."""
        try:
            file = os.fdopen(files.open_regular(self.path), "rb")
        except FileNotFoundError:
            return
        except OSError as error:
            raise errors.RecordError(f"{self.path}: damaged or not readable: {error.strerror}") from error
        with file:
            file.seek(self.size)
            while line := file.readline(_LINE_BYTES):
                if not line.endswith(b"\n"):
                    if len(line) == _LINE_BYTES:
                        raise self._damaged("it is too long to be a line")
                    return  # torn, or still being written
                body = line[:-_SEAL - 1] + b"}"
                digest = hashlib.sha256(self.digest.encode() + body).hexdigest()
                if line[-_SEAL - 1:] != f',"sha256":"{digest}"}}\n'.encode():
                    raise self._damaged("its digest does not match")
                self.count, self.digest, self.size = self.count + 1, digest, self.size + len(line)
                yield body

    def parsed(self, body: bytes) -> dict[str, Any]:
        """Return the fields of the line that was yielded last. Raises RecordError."""
        try:
            fields = json.loads(body)
            if fields["sequence"] != self.count - 1:
                raise ValueError(f"expected sequence number {self.count - 1}, found {fields['sequence']}")
            return fields
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self.damaged(error) from error

    def damaged(self, error: Exception) -> errors.RecordError:
        """Return the error that says that the line that was yielded last is damaged."""
        self.count -= 1
        return self._damaged(str(error))

    def _damaged(self, why: str) -> errors.RecordError:
        return errors.RecordError(f"{self.path}, line {self.count + 1}: damaged: {why}")


def line_at(file: int, path: Path, start: int, length: int, number: int) -> dict[str, Any]:
    """Return the fields of one line of an open journal, checked by its seal. Raises RecordError."""
    before = min(start, 67)
    data = os.pread(file, length + before, start - before)
    line, body = data[before:], data[before:][:-_SEAL - 1] + b"}"
    digest = hashlib.sha256(data[:64 if before else 0] + body).hexdigest()
    reader = JournalReader(path, number + 1)
    if line[-_SEAL - 1:] != f',"sha256":"{digest}"}}\n'.encode():
        raise reader.damaged(ValueError("its digest does not match"))
    return reader.parsed(body)


def ends_with(path: Path, size: int, digest: str) -> bool:
    """Return whether the line of a journal that ends at an offset has a digest. Raises OSError."""
    file = files.open_regular(path)
    try:
        return size >= 67 and os.pread(file, 67, size - 67) == f'{digest}"}}\n'.encode()
    finally:
        os.close(file)


def is_locked(path: Path) -> bool:
    """Return whether a process writes the journal."""
    try:
        file = files.open_regular(path)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def _write_all(file: int, data: bytes) -> None:
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])


def _lock(path: Path, patience_s: float) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o644)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(file)
                raise Locked from None
            time.sleep(0.01)  # a reader that asks who writes holds it for a moment
        except BaseException:
            os.close(file)
            raise


def _leave_to_the_parent() -> None:
    """In a forked child: let go of the parent's journals, so that their locks end with the parent."""
    for journal in list(_journals):
        journal._mutex = threading.Lock()  # a thread of the parent's may hold it
        if journal._file >= 0:
            os.close(journal._file)
            journal._file = -1


os.register_at_fork(after_in_child=_leave_to_the_parent)
