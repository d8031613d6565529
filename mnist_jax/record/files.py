"""The files of a run's directory, which anybody may have made: regular files alone, of a bounded size, opened without
waiting.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path

LIMIT = 2**33  # bytes; a blob may be a large model
_AT_ONCE = 2**26  # bytes; more are read into memory only after their digest has matched


def open_regular(path: Path, follow: bool = True) -> int:
    """Return a file descriptor for reading.

    Args:
      follow: whether the file may be reached by a link.

    Raises:
      OSError: it cannot be opened; or it is a folder, a FIFO or a device.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(None, "expected a regular file, found something else", str(path))
    return file


def read(path: Path, limit: int = LIMIT, follow: bool = True) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes. Arguments and errors are those of open_regular."""
    with os.fdopen(open_regular(path, follow), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(None, f"expected at most {limit:,} bytes, found {size:,}", str(path))
        data = file.read(min(size + 2**20, limit + 1))  # it may have grown since
    if len(data) > limit:
        raise OSError(None, f"expected at most {limit:,} bytes, found more", str(path))
    return data


def digest(path: Path, limit: int = LIMIT) -> str:
    """Return the SHA-256 of a regular file, no link, of at most `limit` bytes, a piece at a time. Raises OSError."""
    result, size = hashlib.sha256(), 0
    with os.fdopen(open_regular(path, follow=False), "rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(None, f"expected at most {limit:,} bytes, found {os.fstat(file.fileno()).st_size:,}", str(path))
        while piece := file.read(2**20):
            size += len(piece)
            if size > limit:
                raise OSError(None, f"expected at most {limit:,} bytes, found more", str(path))
            result.update(piece)
    return result.hexdigest()


def read_verified(path: Path, sha256: str, limit: int = LIMIT) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; a large one that is damaged is not read into memory.

    Raises:
      OSError: it cannot be read.
      ValueError: its bytes do not match the digest.
    """
    if path.lstat().st_size <= _AT_ONCE or digest(path, limit) == sha256:
        data = read(path, limit, follow=False)
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise ValueError("its bytes do not match their digest")


class Folder:
    """A folder to write into that stays the same one when it is renamed, or when another takes its place."""

    def __init__(self, path: Path):
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def write(self, name: str, data: bytes, sync: bool = True) -> None:
        """Write a file, "name" or "folder/name"; a reader, or a crash, sees the old one or the new one and nothing between.

        Args:
          sync: wait until it is on disk; without it, a power failure may lose it.
        """
        folder, _, last = name.rpartition("/")
        partial = f"{folder}/.{last[:100]}.{secrets.token_hex(4)}.partial".lstrip("/")
        if folder and not self.exists(folder):
            os.mkdir(folder, dir_fd=self._descriptor)
        try:
            file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=self._descriptor)
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                if sync:
                    stream.flush()
                    os.fsync(file)
            os.replace(partial, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial, dir_fd=self._descriptor)
            raise
        if sync:
            self.sync(folder or ".")

    def exists(self, name: str) -> bool:
        """Return whether there is something of that name."""
        try:
            os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def sync(self, name: str = ".") -> None:
        """Wait until the names in a folder are on disk."""
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._descriptor)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let go of the folder. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write_atomically(path: Path, data: bytes, sync: bool = True) -> None:
    """Do what `Folder.write` does, in the folder that has the path now."""
    folder = Folder(path.parent)
    try:
        folder.write(path.name, data, sync)
    finally:
        folder.close()
