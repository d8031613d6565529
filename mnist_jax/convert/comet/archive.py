"""Reads a Comet 3.x offline archive, or the temporary folder of a killed client, member by member.

Messages are JSON lines, split on "\\n" only; an incomplete last line is the sign of a killed client.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mnist_jax import errors
from mnist_jax.convert import untrusted

MESSAGES, EXPERIMENT = "messages.json", "experiment.json"
_MEMBERS = 200_000
_LINE_BYTES = 2**26
# zipfile raises RuntimeError for a password and for an unknown compression.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip that holds messages."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MESSAGES in archive.namelist()
    except (OSError, *_DAMAGE):
        return False


def is_folder(path: Path) -> bool:
    """Return whether a folder is the temporary folder of a Comet client, before it makes the archive."""
    return path.is_dir() and (path / MESSAGES).is_file()


class Archive:
    """Reads one archive or folder. Use it as a context manager."""

    def __init__(self, path: Path, account: untrusted.Account, allow_outside: bool):
        self.path, self.account = path, account
        self._allow_outside = allow_outside
        self._budget = untrusted.Budget(path)
        self._zip: zipfile.ZipFile | None = None
        self.torn = False  # after messages(): the last line is incomplete

    def __enter__(self) -> Archive:
        if self.path.is_dir():
            return self
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (OSError, *_DAMAGE) as error:
            raise errors.UserError(f"{self.path}: expected a Comet archive, found a file that is not a zip: {error}") from error
        members = self._zip.namelist()
        if not members:
            raise errors.UserError(f"{self.path}: expected a Comet archive, found the empty placeholder of a killed client; "
                                   f"its data lies in a temporary folder with a {MESSAGES}: import that folder")
        if len(members) > _MEMBERS:
            raise errors.UserError(f"{self.path}: expected at most {_MEMBERS} files in it, found {len(members)}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def experiment(self) -> dict[str, Any] | None:
        """Return the contents of experiment.json, or None where the client was killed before it wrote them."""
        try:
            fields = untrusted.loads(self._bytes(EXPERIMENT, 2**24), f"{self.path}, {EXPERIMENT}")
        except (KeyError, OSError, ValueError):
            return None
        except _DAMAGE as error:
            raise self._damaged(EXPERIMENT, error) from error
        return fields if isinstance(fields, dict) else None

    def messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield type and payload of every complete message. Raises UserError where they cannot be read."""
        try:
            with self._open(MESSAGES) as lines:
                yield from self._parse(lines)
        except KeyError:
            raise errors.UserError(f"{self.path}: expected a Comet archive, found no {MESSAGES} in it") from None
        except (OSError, *_DAMAGE) as error:
            raise self._damaged(MESSAGES, error) from error

    def content(self, name: Any, about: str) -> bytes | None:
        """Return the bytes of a file that a message names, or None where they cannot be read; the account says why."""
        try:
            if untrusted.is_plain_name(name) and name not in (MESSAGES, EXPERIMENT):
                return self._bytes(name, untrusted.FILE_BYTES)
            if not isinstance(name, str) or not name or "\0" in name or self._zip is not None or not Path(name).is_absolute():
                raise OSError(0, "its name leads out of the archive")
            if Path(name).parent == self.path.resolve():
                return self._bytes(Path(name).name, untrusted.FILE_BYTES)
            if not self._allow_outside:
                self.account.skip(untrusted.OUTSIDE, f"{about} ({name})")
                return None
            return untrusted.read_file(Path(name), self._budget)
        except KeyError:
            self.account.skip("files that are not in the archive", about)
        except zipfile.BadZipFile as error:
            raise self._damaged(about, error) from error
        except (OSError, *_DAMAGE) as error:
            self.account.skip(f"files that could not be read ({getattr(error, 'strerror', None) or error})", about)
        return None

    def _damaged(self, name: str, error: Exception) -> errors.UserError:
        return errors.UserError(f"{self.path}, {name}: expected a valid file, found it damaged: {error}; unpack what is "
                                f"readable and import the folder")

    def _parse(self, lines: IO[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
        number, damaged = 0, ""
        while line := lines.readline(_LINE_BYTES + 1):
            number += 1
            if len(line) > _LINE_BYTES:
                raise errors.UserError(f"{self.path}, {MESSAGES}, line {number}: expected at most {_LINE_BYTES} bytes")
            self._budget.take(len(line))
            if damaged:
                self.account.skip("damaged messages", damaged)
                damaged = ""
            if not line.strip():
                continue
            try:
                message = untrusted.loads(line, f"{self.path}, {MESSAGES}, line {number}")
                kind, payload = message["type"], message["payload"]
                if not isinstance(kind, str) or not isinstance(payload, dict):
                    raise ValueError("the fields are not those of a message")
            except (ValueError, KeyError, TypeError):
                damaged = f"line {number}"
                continue
            yield kind, payload
        self.torn = bool(damaged)
        if damaged:
            self.account.skip("messages cut off at the end", damaged)

    def _bytes(self, name: str, limit: int) -> bytes:
        if self._zip is None:
            return untrusted.read_file(self.path / name, self._budget, limit)
        with self._open(name) as member:
            data = member.read(limit + 1)
        if len(data) > limit:
            raise errors.UserError(f"{self.path}, {name}: expected at most {limit} bytes, found more")
        self._budget.take(len(data))
        return data

    def _open(self, name: str) -> IO[bytes]:
        if self._zip is None:
            path = self.path / name
            if path.is_symlink() or not path.is_file():
                raise OSError(0, "not a regular file")
            return path.open("rb")
        info = self._zip.getinfo(name)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise OSError(0, "a link")
        if info.file_size > untrusted.TOTAL_BYTES:
            raise errors.UserError(f"{self.path}, {name}: expected at most {untrusted.TOTAL_BYTES} bytes, found "
                                   f"{info.file_size}")
        return self._zip.open(info)
