"""Files in a run's directory, stored once under the digest of their contents, and written atomically."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from mnist_jax import errors, events


def write(directory: Path, data: bytes, name: str) -> events.Blob:
    """Write bytes into a run's directory, unless they are there, and return their address."""
    digest = hashlib.sha256(data).hexdigest()
    path = directory / "blobs" / digest
    try:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, data)
    except OSError as error:
        raise errors.RecordError(f"{path}: cannot write {name!r} ({len(data)} bytes): {error.strerror}") from error
    return events.Blob(digest, len(data), name)


def read(directory: Path, blob: events.Blob) -> bytes:
    """Return a blob's bytes. Raises RecordError if they are missing or do not match their digest."""
    path = directory / "blobs" / blob.sha256
    try:
        data = path.read_bytes()
    except OSError as error:
        raise errors.RecordError(f"{path}: expected the bytes of {blob.name!r}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != blob.sha256:
        raise errors.RecordError(f"{path}: damaged: the bytes of {blob.name!r} do not match their digest")
    return data


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old contents or the new ones and nothing between."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
