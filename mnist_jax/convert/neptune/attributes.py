"""Reads the attributes of a Neptune log: scalars, the bytes of files, and everything under a prefix."""

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
from mnist_jax.convert.neptune import log as convert_log
from mnist_jax.tracking import values

SCALARS = ("float", "int", "bool", "string", "datetime", "artifact", "string_set")
_GLOB_FILES = 10_000  # of one file set


class AttributeReader:
    """Reads a log's attributes; what cannot be read is said in the account."""

    def __init__(self, log: convert_log.Log, keep: untrusted.Keep, account: untrusted.Account, budget: untrusted.Budget,
                 allow_outside: bool):
        self.log, self.keep, self.account = log, keep, account
        self._budget, self._allow_outside = budget, allow_outside

    def scalar(self, state: convert_log.State, path: str) -> Any:
        """Return the value that our tracker stored at a path, or None where there is none."""
        held = state.get(path)
        if held is None or held.kind not in (*SCALARS, "file"):
            return None
        return values.value(untrusted.text(self.content(path, held.value) or b"") if held.kind == "file" else held.value)

    def under(self, state: convert_log.State, prefix: str) -> dict[str, Any]:
        """Return the scalars under a prefix, by the rest of their path."""
        return {path.removeprefix(prefix): self.scalar(state, path) for path, held in state.items()
                if path.startswith(prefix) and held.kind in (*SCALARS, "file")}

    def content(self, path: str, upload: dict[str, Any]) -> bytes | None:
        """Return the bytes of an uploaded file, or None where they are not to be had, which is said."""
        try:
            if upload.get("file_content") is not None:
                return decoded(upload["file_content"])
            name = upload.get("tmp_file_name")
            if isinstance(name, str) and untrusted.is_plain_name(name):
                folder = self.log.folder / "upload_path"
                if folder.is_symlink():
                    raise OSError(0, "upload_path is a link")
                return untrusted.read_file(folder / name, self._budget)
            outside = upload.get("file_path")
            if isinstance(outside, str) and outside and "\0" not in outside:
                return self._outside(path, Path(outside))
            raise OSError(0, "its name leads out of the folder")
        except (OSError, ValueError, TypeError) as error:
            self.account.skip(f"files that could not be read ({getattr(error, 'strerror', None) or error})", path)
        return None

    def file_set(self, path: str, operations: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of the files that a set's patterns name now, if reading them was allowed."""
        patterns = [pattern for upload in operations for pattern in upload.get("file_globs") or ()
                    if isinstance(pattern, str) and "\0" not in pattern]
        deleted = {name for upload in operations for name in upload.get("file_paths") or () if isinstance(name, str)}
        for pattern in patterns:
            if not self._allow_outside:
                self.account.skip(untrusted.OUTSIDE, f"{path} ({pattern})")
                continue
            places: list[Path] = []
            for match in glob.iglob(pattern, recursive=True):
                places.append(Path(match))
                if len(places) > _GLOB_FILES:
                    raise errors.UserError(f"{self.log.folder}: expected at most {_GLOB_FILES} files for {pattern}, found "
                                           f"more; import without the files outside the folder")
            root = Path(re.split(r"[*?[]", pattern)[0] + "_").parent  # the folder before the first wildcard
            for place in places:
                name = place.relative_to(root).as_posix() if place.is_relative_to(root) else place.name
                if name not in deleted and place.is_file():
                    with contextlib.suppress(OSError):
                        yield f"{path}/{name}", untrusted.read_file(place, self._budget)

    def _outside(self, path: str, place: Path) -> bytes | None:
        if not self._allow_outside:
            self.account.skip(untrusted.OUTSIDE, f"{path} ({place})")
            return None
        return untrusted.read_file(place, self._budget)


def decoded(text: Any) -> bytes:
    """Return bytes from base64. Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"no base64: {error}") from error
