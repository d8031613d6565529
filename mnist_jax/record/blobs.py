"""Bytes in a run's directory, stored once under the digest of their contents."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from mnist_jax import errors, events
from mnist_jax.record import files

_ADDRESS = re.compile(r"[0-9a-f]{64}")


def write(directory: Path | files.Folder, data: bytes, name: str) -> events.Blob:
    """Write bytes into a run's directory, unless they are there, and return their address. Raises RecordError."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        folder = files.Folder(directory) if isinstance(directory, Path) else directory
        try:
            if not folder.exists(f"blobs/{digest}"):
                folder.write(f"blobs/{digest}", data)
        finally:
            if folder is not directory:
                folder.close()
    except OSError as error:
        where = directory if isinstance(directory, Path) else directory.path
        raise errors.RecordError(f"{where / 'blobs' / digest}: cannot write {name!r} ({len(data)} bytes): {error.strerror}; "
                                 f"free disk space or restore access") from error
    return events.Blob(digest, len(data), name)


def read(directory: Path, blob: events.Blob) -> bytes:
    """Return a blob's bytes.

    Raises:
      RecordError: its address is none, they are missing or no regular file, or they do not match their digest.
    """
    address = path(directory, blob)
    try:
        return files.read_verified(address, blob.sha256, min(blob.size, files.LIMIT))
    except OSError as error:
        raise errors.RecordError(f"{address}: expected the bytes of {blob.name!r}: {error.strerror}") from error
    except ValueError as error:
        raise errors.RecordError(f"{address}: damaged: the bytes of {blob.name!r} do not match their digest") from error


class VerifiedPaths:
    """The paths of a run's blobs, for code that opens them itself: each is verified, and again when its file has changed."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._verified: dict[str, tuple[int, ...]] = {}  # address -> which file, and which state of it

    def __call__(self, blob: events.Blob) -> Path:
        """Return the path of a blob.

        Raises:
          RecordError: its address is none, its bytes are missing or no regular file, or they do not match size and digest.
        """
        address = path(self._directory, blob)
        try:
            state = _state(address)
            if self._verified.get(blob.sha256) != state:
                if files.digest(address, min(blob.size, files.LIMIT)) != blob.sha256 or _state(address) != state:
                    raise errors.RecordError(f"{address}: damaged: the bytes of {blob.name!r} do not match their digest")
                self._verified[blob.sha256] = state
        except OSError as error:
            raise errors.RecordError(f"{address}: expected the bytes of {blob.name!r}: {error.strerror}") from error
        if state[2] != blob.size:
            raise errors.RecordError(f"{address}: damaged: expected {blob.size!r} bytes of {blob.name!r}, found {state[2]}")
        return address


def _state(address: Path) -> tuple[int, ...]:
    status = os.stat(address, follow_symlinks=False)
    return status.st_dev, status.st_ino, status.st_size, status.st_mode, status.st_mtime_ns, status.st_ctime_ns


def path(directory: Path, blob: events.Blob) -> Path:
    """Return where a blob's bytes lie; they are not checked. Raises RecordError where its address or its size is none."""
    if not (isinstance(blob.sha256, str) and _ADDRESS.fullmatch(blob.sha256)):
        raise errors.RecordError(f"{directory}: damaged: expected the digest of {blob.name!r} as its address, found "
                                 f"{str(blob.sha256)[:80]!r}")
    if type(blob.size) is not int or blob.size < 0:
        raise errors.RecordError(f"{directory}: damaged: expected the size of {blob.name!r} in bytes, found "
                                 f"{str(blob.size)[:80]!r}")
    return directory / "blobs" / blob.sha256
