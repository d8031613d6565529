"""Bytes in a run's directory, stored once under the digest of their contents."""

from __future__ import annotations

import hashlib
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
        data = files.read(address, max(blob.size, 0), follow=False)
    except OSError as error:
        raise errors.RecordError(f"{address}: expected the bytes of {blob.name!r}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != blob.sha256:
        raise errors.RecordError(f"{address}: damaged: the bytes of {blob.name!r} do not match their digest")
    return data


def path(directory: Path, blob: events.Blob) -> Path:
    """Return where a blob's bytes lie; they are not checked. Raises RecordError where its address is no digest."""
    if not (isinstance(blob.sha256, str) and _ADDRESS.fullmatch(blob.sha256)):
        raise errors.RecordError(f"{directory}: damaged: expected the digest of {blob.name!r} as its address, found "
                                 f"{str(blob.sha256)[:80]!r}")
    return directory / "blobs" / blob.sha256
