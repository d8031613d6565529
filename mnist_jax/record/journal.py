"""Lines of JSON that are only ever appended, numbered from 0, each sealed by a digest over itself and the digest before it.

A changed byte is an error that names its line. An append is on disk (fsync) when it returns; an incomplete last line is the
sign of a crash: readers stop before it, and the next writer cuts it off.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors

_SEAL = len(',"sha256":"') + 64 + len('"}')  # what follows the fields on their line


class Locked(Exception):
    """Another process writes the journal."""


class Journal:
    """The one writer of a journal, new or existing.

    Raises:
      Locked: another process still writes it after `patience_s`.
      RecordError: a line of it is damaged.
      OSError: it cannot be opened.
    """

    def __init__(self, path: Path, patience_s: float = 0.2):
        self.path = path
        self._file = _lock(path, patience_s)
        self._mutex = threading.Lock()
        try:
            reader = JournalReader(path)
            for _ in reader.new():
                pass
            if os.fstat(self._file).st_size > reader.size:
                os.ftruncate(self._file, reader.size)
                os.fsync(self._file)
        except BaseException:
            self.close()
            raise
        self._state = (reader.count, reader.digest, reader.size)  # one value, so that no interruption leaves half of it

    @property
    def count(self) -> int:
        """The number of lines."""
        return self._state[0]

    @property
    def digest(self) -> str:
        """The digest of the last line, or "" if there is none."""
        return self._state[1]

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Write lines and wait until they are on disk: all of them or, on an error, none. Raises OSError."""
        with self._mutex:
            count, digest, size = self._state
            encoded = []
            for sequence, fields in enumerate(lines, start=count):
                line, digest = _seal({"sequence": sequence, **fields}, digest)
                encoded.append(line)
            data = b"".join(encoded)
            after = (count + len(lines), digest, size + len(data))
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
                raise

    def close(self) -> None:
        """Release the journal to other writers. A second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class JournalReader:
    """Reads a journal that may still grow; each call of `new` yields the lines since the last."""

    def __init__(self, path: Path):
        self.path = path
        self.count, self.digest, self.size = 0, "", 0  # of what was read

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the fields of each new complete line, "sequence" first. Raises RecordError at a damaged line."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.size)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # incomplete, or still being written
                fields, self.digest = self._parse(line)
                self.count, self.size = self.count + 1, self.size + len(line)  # first: the caller may stop after any line
                yield fields

    def _parse(self, line: bytes) -> tuple[dict[str, Any], str]:
        body = line[: -_SEAL - 1] + b"}"
        digest = hashlib.sha256(self.digest.encode() + body).hexdigest()
        try:
            if line[-_SEAL - 1:] != f',"sha256":"{digest}"}}\n'.encode():
                raise ValueError("its digest does not match")
            fields = json.loads(body)
            if fields["sequence"] != self.count:
                raise ValueError(f"expected sequence number {self.count}, found {fields['sequence']}")
            return fields, digest
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise errors.RecordError(f"{self.path}, line {self.count + 1}: damaged: {error}") from error


def is_locked(path: Path) -> bool:
    """Return whether a process writes the journal."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _seal(fields: dict[str, Any], previous: str) -> tuple[bytes, str]:
    body = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    digest = hashlib.sha256(previous.encode() + body).hexdigest()
    return body[:-1] + f',"sha256":"{digest}"}}\n'.encode(), digest


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view):]


def _lock(path: Path, patience_s: float) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(file)
                raise Locked from None
            time.sleep(0.01)  # is_locked holds the lock for a moment
