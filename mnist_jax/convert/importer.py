"""Makes a record of what another program left: a Neptune 1.x offline folder or a Comet 3.x offline archive.

The record appears whole or not at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax import errors
from mnist_jax import events as events_
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as comet_archive
from mnist_jax.convert.comet import files as comet_files
from mnist_jax.convert.neptune import files as neptune_files
from mnist_jax.convert.neptune import log as neptune_log
from mnist_jax.record import blobs, reader, writer

_DEPTH = 6  # folders below the given one in which a run is looked for
_ENTRIES = 100_000
_NESTED = 64  # lists and objects in one another
_APPENDED = 1_000  # events in one append


@dataclasses.dataclass(frozen=True)
class Imported:
    """A record made from other files, what could not be carried, and what was changed on the way."""

    directory: Path
    run: events_.RunInfo
    status: str
    events: int
    skipped: tuple[str, ...]  # "3 x reason: names"
    changed: tuple[str, ...]


def import_run(path: Path | str, workdir: Path | str, *, allow_outside: bool = False) -> Imported:
    """Write a new record from a Neptune offline folder or a Comet offline archive.

    Args:
      path: the run's folder, the archive, the temporary folder of a killed Comet client, or a folder that holds exactly
        one of these.
      workdir: the new record's directory.
      allow_outside: read files that the source names by an absolute path, where they still are.

    Raises:
      UserError: `path` holds no run or several, it is damaged, or `workdir` is taken or not writable.
      RecordError: the record cannot be written.
    """
    source, directory = find(Path(path)), Path(workdir)
    if (directory / "run.json").exists() or (directory.is_dir() and any(directory.iterdir())):
        raise errors.UserError(f"{directory}: expected a new or empty directory for the imported run, found contents in it; "
                               f"choose another workdir")
    with _beside(directory) as partial:
        try:
            found, count = _write(source, partial, allow_outside)
        except RecursionError:
            raise errors.UserError(f"{source}: expected values of a usual depth, found some nested too deeply to "
                                   f"record") from None
    account = found.account
    return Imported(directory, found.run, found.status or "failed", count, tuple(account.lines("skipped")),
                    tuple(account.lines("changed")))


def _write(source: Path, partial: Path, allow_outside: bool) -> tuple[untrusted.Found, int]:
    """Write the record of a source into a new folder; return what was found and the number of events."""
    read = neptune_files.read if neptune_log.is_folder(source) else comet_files.read
    found = read(source, lambda data, name: blobs.write(partial, data, untrusted.safe_name(name)), allow_outside)
    status = found.status or "failed"
    stated = [_lineage(found), *found.events, *_last_word(found, status)]
    for value in [found.run.config, *stated]:
        if not isinstance(value, events_.Metrics) and _is_deep(value if isinstance(value, dict) else vars(value)):
            raise errors.UserError(f"{source}: expected values at most {_NESTED} deep, found one nested too deeply to record "
                                   f"in {type(value).__name__}")
    with writer.create(partial, found.run) as recorder:
        for first in range(0, len(stated), _APPENDED):
            recorder.append(*stated[first:first + _APPENDED])
        recorder.close(status)
    for _ in reader.Follower(partial).new():  # as a reader will find it
        pass
    return found, len(stated)


def find(path: Path) -> Path:
    """Return the one Neptune folder, Comet archive or Comet temporary folder at or below a path.

    Raises:
      UserError: there is none, or there are several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise errors.UserError(f"{path}: expected a Neptune offline folder or a Comet offline archive, found nothing there")
    found = list(_candidates(path))
    if len(found) == 1:
        return found[0]
    if not found:
        raise errors.UserError(f"{path}: expected a Neptune offline folder (data-*.log) or a Comet offline archive (zip, or "
                               f"{comet_archive.MESSAGES}), found neither in it")
    shown = ", ".join(str(candidate.relative_to(path)) for candidate in found[:10])
    raise errors.UserError(f"{path}: expected one run, found {len(found)} ({shown}); name one of them")


def _candidates(path: Path) -> Iterator[Path]:
    seen = 0
    for place, folders, files in os.walk(path, followlinks=False):
        folder = Path(place)
        seen += len(files) + len(folders)
        if seen > _ENTRIES:
            raise errors.UserError(f"{path}: expected a folder with a run, found more than {_ENTRIES} files; name the run's "
                                   f"own folder or archive")
        if neptune_log.is_folder(folder) or comet_archive.is_folder(folder):
            folders.clear()
            yield folder
            continue
        folders.sort()
        if len(folder.relative_to(path).parts) >= _DEPTH:
            folders.clear()
        yield from (folder / name for name in sorted(files) if name.endswith(".zip")
                    and not (folder / name).is_symlink() and comet_archive.is_archive(folder / name))


def _is_deep(value: Any) -> bool:
    left = [(value, 0)]
    while left:
        held, depth = left.pop()
        if depth > _NESTED:
            return True
        if isinstance(held, dict | list | tuple):
            left += [(inner, depth + 1) for inner in (held.values() if isinstance(held, dict) else held)]
    return False


def _lineage(found: untrusted.Found) -> events_.Text:
    """Return where the run came from, and what did not come along."""
    lines = [f"Read from {found.source}."]
    if found.status is None:
        lines.append("The source was cut off: its client was killed before the run ended, and the status is failed.")
    for kind in ("skipped", "changed"):
        lines += [f"{kind}: {line}" for line in found.account.lines(kind)]
    return events_.Text("imported", 0, "\n".join(lines))


def _last_word(found: untrusted.Found, status: str) -> list[events_.Event]:
    """Return the final Status, where the source has none."""
    last = next((event for event in reversed(found.events) if isinstance(event, events_.Status)), None)
    if last is not None and last.state == status:
        return []
    ends = [int(event.steps[-1]) for event in found.events if isinstance(event, events_.Metrics) and len(event.steps)]
    return [events_.Status(max(ends, default=0), status)]


@contextlib.contextmanager
def _beside(directory: Path) -> Iterator[Path]:
    """Give a new folder beside `directory`, and put it in its place at the end, or remove it after an error."""
    partial = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise errors.UserError(f"{directory}: expected a place for the imported run, found: {error.strerror}; choose another "
                               f"workdir") from error
    try:
        yield partial
        partial.rename(directory)
    except OSError as error:
        raise errors.UserError(f"{directory}: expected a place for the imported run, found: {error.strerror}; choose another "
                               f"workdir") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
