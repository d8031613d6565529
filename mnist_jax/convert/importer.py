"""Imports a Neptune 1.x offline folder or a Comet 3.x offline archive as a record.

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

from mnist_jax import errors, events
from mnist_jax.convert import untrusted
from mnist_jax.convert.comet import archive as comet_archive
from mnist_jax.convert.comet import files as comet_files
from mnist_jax.convert.neptune import files as neptune_files
from mnist_jax.convert.neptune import log as neptune_log
from mnist_jax.record import blobs, reader, writer

_DEPTH = 6  # levels of folders that are searched for a run
_ENTRIES = 100_000
_NESTED = 64  # levels of lists and objects
_BATCH = 1_000  # events in one append


@dataclasses.dataclass(frozen=True)
class ImportResult:
    """The record of an import, and what was skipped and changed in it."""

    directory: Path
    run: events.RunInfo
    status: str
    event_count: int
    skipped: tuple[str, ...]  # "3 x reason: names"
    changed: tuple[str, ...]


def import_run(path: Path | str, workdir: Path | str, *, allow_outside: bool = False) -> ImportResult:
    """Write a new record of a Neptune offline folder or a Comet offline archive.

    Args:
      path: the run's folder, the archive, the temporary folder of a killed Comet client, or a folder that holds one of
        these.
      workdir: the new record's directory.
      allow_outside: read files that the source names by an absolute path, where they still are.

    Raises:
      UserError: `path` holds no run or several, it is damaged, or `workdir` is not empty or not writable.
      RecordError: the record cannot be written.
    """
    source, directory = find(Path(path)), Path(workdir)
    if (directory / "run.json").exists() or (directory.is_dir() and any(directory.iterdir())):
        raise errors.UserError(f"{directory}: expected a new or empty directory for the imported run, found contents in it; "
                               f"choose another workdir")
    with _beside(directory) as partial:
        try:
            foreign, count = _write(source, partial, allow_outside)
        except RecursionError:
            raise errors.UserError(f"{source}: expected values at most {_NESTED} levels deep, found some nested too deeply to "
                                   f"record") from None
    account = foreign.account
    return ImportResult(directory, foreign.run, foreign.status or "failed", count, tuple(account.lines("skipped")),
                        tuple(account.lines("changed")))


def _write(source: Path, partial: Path, allow_outside: bool) -> tuple[untrusted.ForeignRun, int]:
    """Write the record of a source into a new folder; return the run and the number of events."""
    read = neptune_files.read if neptune_log.is_folder(source) else comet_files.read
    foreign = read(source, lambda data, name: blobs.write(partial, data, untrusted.safe_name(name)), allow_outside)
    status = foreign.status or "failed"
    facts = [_origin(foreign), *foreign.facts, *_final_status(foreign, status)]
    for value in [foreign.run.config, *facts]:
        if not isinstance(value, events.Metrics) and _is_deep(value if isinstance(value, dict) else vars(value)):
            raise errors.UserError(f"{source}: expected values at most {_NESTED} levels deep, found one nested too deeply "
                                   f"to record in {type(value).__name__}")
    with writer.create(partial, foreign.run) as run_writer:
        for first in range(0, len(facts), _BATCH):
            run_writer.append(*facts[first:first + _BATCH])
        run_writer.close(status)
    for _ in reader.Follower(partial).new():  # the record must be readable
        pass
    return foreign, len(facts)


def find(path: Path) -> Path:
    """Return the one Neptune folder, Comet archive or Comet temporary folder at or below a path.

    Raises:
      UserError: there is none, or there are several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise errors.UserError(f"{path}: expected a Neptune offline folder or a Comet offline archive, found no such path")
    candidates = list(_candidates(path))
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise errors.UserError(f"{path}: expected a Neptune offline folder (data-*.log) or a Comet offline archive (zip, or "
                               f"{comet_archive.MESSAGES}), found neither in it")
    names = ", ".join(str(candidate.relative_to(path)) for candidate in candidates[:10])
    raise errors.UserError(f"{path}: expected one run, found {len(candidates)} ({names}); name one of them")


def _candidates(path: Path) -> Iterator[Path]:
    entries = 0
    for place, folders, files in os.walk(path, followlinks=False):
        folder = Path(place)
        entries += len(files) + len(folders)
        if entries > _ENTRIES:
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
    stack = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > _NESTED:
            return True
        if isinstance(item, dict | list | tuple):
            stack += [(inner, depth + 1) for inner in (item.values() if isinstance(item, dict) else item)]
    return False


def _origin(foreign: untrusted.ForeignRun) -> events.Text:
    """Return the origin of the run and the account of the import as a text."""
    lines = [f"Imported from {foreign.source}."]
    if foreign.status is None:
        lines.append("The source is incomplete: its client was killed before the run ended, so the status is failed.")
    for kind in ("skipped", "changed"):
        lines += [f"{kind}: {line}" for line in foreign.account.lines(kind)]
    return events.Text("imported", 0, "\n".join(lines))


def _final_status(foreign: untrusted.ForeignRun, status: str) -> list[events.Event]:
    """Return the final Status, where the source has none."""
    last = next((event for event in reversed(foreign.facts) if isinstance(event, events.Status)), None)
    if last is not None and last.state == status:
        return []
    ends = [int(event.steps[-1]) for event in foreign.facts if isinstance(event, events.Metrics) and len(event.steps)]
    return [events.Status(max(ends, default=0), status)]


@contextlib.contextmanager
def _beside(directory: Path) -> Iterator[Path]:
    """Yield a new folder beside `directory`; rename it to `directory` at the end, or remove it after an error."""
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
