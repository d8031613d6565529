"""Checkpoints: the states that a run resumes from, one file each, written atomically, with its digest in its name.

    checkpoints/<step>-<sha256>.zip    arrays by path (arrays.py), and checkpoint.json: their run, step, program and data

A checkpoint is saved only after the events up to its step are on disk, so that a resumed run misses none. Neither its place nor
its name is believed: what it is of is read from its contents.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_jax import errors
from mnist_jax.record import arrays, files

_NAME = re.compile(r"(\d{10})-([0-9a-f]{64})\.zip")
_CONTENTS = "checkpoint.json"


class Origin(NamedTuple):
    """What made a checkpoint."""

    run: str  # its id
    program: Mapping[str, str]  # what shapes the state and its updates, by name
    data: Mapping[str, str]  # digests of the splits


class Expected(NamedTuple):
    """The checkpoints in a run's directory that it may resume from."""

    run: str  # its id
    reached: float = float("inf")  # the last step in its record; resuming from a later checkpoint would leave a gap
    start: str | None = None  # digest of its parent's checkpoint, where it starts from one


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int  # completed updates
    origin: Origin
    arrays: Mapping[str, np.ndarray]

    @property
    def sha256(self) -> str:
        """The digest of the file."""
        return self.path.name[11:75]


def save(directory: Path, step: int, state: Mapping[str, np.ndarray], origin: Origin, keep: int) -> Path:
    """Write a checkpoint into a run's directory, then remove all but the newest `keep`.

    Raises:
      RecordError: the disk is full or not writable. Older checkpoints stay.
    """
    contents = {"run": origin.run, "step": step, "program": dict(origin.program), "data": dict(origin.data)}
    data = arrays.pack(state, {_CONTENTS: json.dumps(contents, indent=1, sort_keys=True).encode()})
    path = _put(directory / "checkpoints" / f"{step:010d}-{hashlib.sha256(data).hexdigest()}.zip", data)
    earlier = [other for other in paths(directory) if other != path and int(other.name[:10]) <= step]
    for old in earlier[:len(earlier) + 1 - keep]:  # one of a later step is not this run's, and does not count
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def paths(directory: Path) -> list[Path]:
    """Return the files of a run's checkpoints, oldest first."""
    return sorted(path for path in (directory / "checkpoints").glob("*.zip") if _NAME.fullmatch(path.name))


def read(path: Path) -> Checkpoint:
    """Return a checkpoint. Raises RecordError if it is damaged, cannot be read, or is not of the step in its name."""
    match = _NAME.fullmatch(path.name)
    try:
        if match is None:
            raise ValueError("its name is none of a checkpoint")
        state, beside = arrays.unpack(files.read_verified(path, match[2]))
        step, origin = _contents(beside)
    except (OSError, ValueError) as error:
        raise errors.RecordError(f"{path}: damaged: {error}") from error
    if step != int(match[1]):
        raise errors.RecordError(f"{path}: expected a checkpoint of step {int(match[1])}, as its name says, found one of step "
                                 f"{step}")
    return Checkpoint(path, step, origin, state)


def newest(directory: Path, expected: Expected | None = None) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that is whole and of the run, or None, and a message for each newer one that is not.

    Args:
      expected: whose it must be; None takes any run's.
    """
    checkpoints, skipped = common([directory], [expected])
    return (checkpoints[0] if checkpoints else None), skipped


def common(directories: Sequence[Path], expected: Sequence[Expected | None]) -> tuple[list[Checkpoint], list[str]]:
    """Return the checkpoints of the latest step that every run has whole and of its own, and a message for each that is not."""
    skipped: list[str] = []
    by_step: list[dict[int, list[Path]]] = []
    for directory, own in zip(directories, expected, strict=True):
        by_step.append({})
        for path in paths(directory):
            if own is None or int(path.name[:10]) <= own.reached:
                by_step[-1].setdefault(int(path.name[:10]), []).append(path)
    for step in sorted(set.intersection(*map(set, by_step)), reverse=True):
        found = [_first_own(each[step], own, skipped) for each, own in zip(by_step, expected, strict=True)]
        checkpoints = [each for each in found if each]
        if len(checkpoints) == len(found):
            return checkpoints, skipped
    return [], skipped


def _first_own(candidates: Sequence[Path], expected: Expected | None, skipped: list[str]) -> Checkpoint | None:
    """Return the first of some checkpoints that is whole and as expected; add a message for each before it."""
    for path in candidates:
        try:
            checkpoint = read(path)
            if expected and checkpoint.origin.run != expected.run and checkpoint.sha256 != expected.start:
                raise errors.RecordError(f"{path}: expected a checkpoint of run {expected.run}, found one of run "
                                         f"{checkpoint.origin.run}")
        except errors.RecordError as error:
            skipped.append(str(error))
        else:
            return checkpoint
    return None


def _contents(beside: Mapping[str, bytes]) -> tuple[int, Origin]:
    """Return step and origin in the members of a checkpoint. Raises ValueError."""
    try:
        contents: Any = json.loads(beside[_CONTENTS])
        step, origin = contents["step"], Origin(contents["run"], contents["program"], contents["data"])
        texts = [origin.run, *origin.program.values(), *origin.data.values()]
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"its {_CONTENTS} does not say run, step, program and data: {error!r}") from error
    if type(step) is not int or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"its {_CONTENTS} holds values of other types than text")
    return step, origin


def copy(checkpoint: Checkpoint, directory: Path) -> None:
    """Copy a checkpoint into the directory of another run, which starts from it."""
    _put(directory / "checkpoints" / checkpoint.path.name, files.read(checkpoint.path))


def _put(path: Path, data: bytes) -> Path:
    try:
        path.parent.mkdir(exist_ok=True)
        files.write_atomically(path, data)
    except OSError as error:
        raise errors.RecordError(f"{path.parent}: cannot write the checkpoint of step {int(path.name[:10])}: {error.strerror}; "
                                 f"free disk space or restore access, then start the run again") from error
    return path


class Saver:
    """Saves checkpoints in a thread, one after the other."""

    def __init__(self, directory: Path, origin: Origin, keep: int):
        self._directory, self._origin, self._keep = directory, origin, keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[Path] | None = None

    def save(self, step: int, state: Mapping[str, np.ndarray]) -> None:
        """Start to save a state, which must not change any more. Raises RecordError if the previous save failed."""
        self.wait()
        self._pending = self._thread.submit(save, self._directory, step, state, self._origin, self._keep)

    def wait(self) -> None:
        """Wait until the last save is on disk. Raises RecordError if it failed."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()


@contextlib.contextmanager
def saving(directory: Path, origin: Origin, keep: int) -> Iterator[Saver]:
    """Yield a Saver; the end of the block waits for it."""
    saver = Saver(directory, origin, keep)
    try:
        yield saver
        saver.wait()
    finally:
        saver._thread.shutdown()
