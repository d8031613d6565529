"""Reads the attributes of a Neptune log: scalars, all scalars under a prefix, and the bytes of files."""

from __future__ import annotations

import base64
import binascii
import contextlib
import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax import errors
from mnist_jax.convert import untrusted
from mnist_jax.convert.neptune import log as neptune_log
from mnist_jax.tracking import values

SCALARS = ("float", "int", "bool", "string", "datetime", "artifact", "string_set")
_GLOB_FILES = 10_000  # of one file set


class AttributeReader:
    """Reads a log's attributes; the account says what was skipped."""

    def __init__(self, log: neptune_log.Log, write_blob: untrusted.WriteBlob, account: untrusted.Account,
                 budget: untrusted.Budget, allow_outside: bool):
        self.log, self.write_blob, self.account = log, write_blob, account
        self._budget, self._allow_outside = budget, allow_outside

    def scalar(self, state: neptune_log.State, path: str) -> Any:
        """Return the value that our tracker wrote at a path, or None where there is none."""
        attribute = state.get(path)
        if attribute is None or attribute.kind not in (*SCALARS, "file"):
            return None
        if attribute.kind == "file":
            return values.decode(untrusted.text(self.content(path, attribute.value) or b""))
        return values.decode(attribute.value)

    def under(self, state: neptune_log.State, prefix: str) -> dict[str, Any]:
        """Return the scalars under a prefix, by the rest of their path."""
        return {path.removeprefix(prefix): self.scalar(state, path) for path, attribute in state.items()
                if path.startswith(prefix) and attribute.kind in (*SCALARS, "file")}

    def content(self, path: str, upload: dict[str, Any]) -> bytes | None:
        """Return the bytes of an uploaded file, or None where they cannot be read; the account says why."""
        try:
            if upload.get("file_content") is not None:
                return decode_base64(upload["file_content"])
            name = upload.get("tmp_file_name")
            if isinstance(name, str) and untrusted.is_plain_name(name):
                folder = self.log.folder / "upload_path"
                if folder.is_symlink():
                    raise OSError(0, "upload_path is a link")
                return untrusted.read_file(folder / name, self._budget)
            outside = upload.get("file_path")
            if isinstance(outside, str) and outside and "\0" not in outside:
                return self._read_outside(path, Path(outside))
            raise OSError(0, "its name leads out of the folder")
        except (OSError, ValueError, TypeError) as error:
            self.account.skip(f"files that could not be read ({getattr(error, 'strerror', None) or error})", path)
        return None

    def file_set(self, path: str, operations: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of the files that match a set's patterns now, where reading them is allowed."""
        patterns = [pattern for upload in operations for pattern in upload.get("file_globs") or ()
                    if isinstance(pattern, str) and "\0" not in pattern]
        deleted = {name for upload in operations for name in upload.get("file_paths") or () if isinstance(name, str)}
        for pattern in patterns:
            if not self._allow_outside:
                self.account.skip(untrusted.OUTSIDE, f"{path} ({pattern})")
                continue
            paths: list[Path] = []
            for match in glob.iglob(pattern, recursive=True):
                paths.append(Path(match))
                if len(paths) > _GLOB_FILES:
                    raise errors.UserError(f"{self.log.folder}: expected at most {_GLOB_FILES} files for {pattern}, found "
                                           f"more; import without the files outside the folder")
            root = Path(re.split(r"[*?[]", pattern)[0] + "_").parent  # the folder before the first wildcard
            for file in paths:
                name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
                if name not in deleted and file.is_file():
                    with contextlib.suppress(OSError):
                        yield f"{path}/{name}", untrusted.read_file(file, self._budget)

    def _read_outside(self, path: str, file: Path) -> bytes | None:
        if not self._allow_outside:
            self.account.skip(untrusted.OUTSIDE, f"{path} ({file})")
            return None
        return untrusted.read_file(file, self._budget)


def decode_base64(text: Any) -> bytes:
    """Return the bytes of a base64 text. Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"no base64: {error}") from error
