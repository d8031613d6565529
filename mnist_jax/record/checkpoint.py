"""Checkpoints: the states that a run resumes from, one file each, written atomically, with its digest in its name.

    checkpoints/<step>-<sha256>.zip    arrays by path (arrays.py), and run.txt, the id of the run

A checkpoint is saved only after the events up to its step are on disk, so that a resumed run misses none.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mnist_jax import errors
from mnist_jax.record import arrays, files

_NAME = re.compile(r"(\d{10})-([0-9a-f]{64})\.zip")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int  # completed updates
    arrays: Mapping[str, np.ndarray]


def save(directory: Path, step: int, state: Mapping[str, np.ndarray], run_id: str, keep: int) -> Path:
    """Write a checkpoint into a run's directory, then remove all but the newest `keep`.

    Raises:
      RecordError: the disk is full or not writable. Older checkpoints stay.
    """
    data = arrays.pack(state, {"run.txt": run_id.encode()})
    path = _put(directory / "checkpoints" / f"{step:010d}-{hashlib.sha256(data).hexdigest()}.zip", data)
    for old in paths(directory)[:-keep]:
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def paths(directory: Path) -> list[Path]:
    """Return the files of a run's checkpoints, oldest first."""
    return sorted(path for path in (directory / "checkpoints").glob("*.zip") if _NAME.fullmatch(path.name))


def read(path: Path) -> Checkpoint:
    """Return a checkpoint. Raises RecordError if it is damaged or cannot be read."""
    match = _NAME.fullmatch(path.name)
    try:
        data = path.read_bytes()
        if match is None or hashlib.sha256(data).hexdigest() != match[2]:
            raise ValueError("its contents do not match the digest in its name")
        state, _ = arrays.unpack(data)
    except (OSError, ValueError) as error:
        raise errors.RecordError(f"{path}: damaged: {error}") from error
    return Checkpoint(path, int(match[1]), state)


def newest(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest undamaged checkpoint, or None, and a message for each newer one that is damaged."""
    checkpoints, damaged = common([directory], [float("inf")])
    return (checkpoints[0] if checkpoints else None), damaged


def common(directories: Sequence[Path], reached: Sequence[float]) -> tuple[list[Checkpoint], list[str]]:
    """Return the checkpoints of the latest step that is undamaged in every run, and a message for each damaged one.

    Args:
      reached: the last step in the record of each run; resuming from a later checkpoint would leave a gap.
    """
    steps = [{int(path.name[:10]): path for path in paths(directory) if int(path.name[:10]) <= limit}
             for directory, limit in zip(directories, reached, strict=True)]
    damaged: list[str] = []
    for step in sorted(set.intersection(*map(set, steps)), reverse=True):
        try:
            return [read(each[step]) for each in steps], damaged
        except errors.RecordError as error:
            damaged.append(str(error))
    return [], damaged


def copy(checkpoint: Checkpoint, directory: Path) -> None:
    """Copy a checkpoint into the directory of another run, which starts from it."""
    _put(directory / "checkpoints" / checkpoint.path.name, checkpoint.path.read_bytes())


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

    def __init__(self, directory: Path, run_id: str, keep: int):
        self._directory, self._run_id, self._keep = directory, run_id, keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[Path] | None = None

    def save(self, step: int, state: Mapping[str, np.ndarray]) -> None:
        """Start to save a state, which must not change any more. Raises RecordError if the previous save failed."""
        self.wait()
        self._pending = self._thread.submit(save, self._directory, step, state, self._run_id, self._keep)

    def wait(self) -> None:
        """Wait until the last save is on disk. Raises RecordError if it failed."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()


@contextlib.contextmanager
def saving(directory: Path, run_id: str, keep: int) -> Iterator[Saver]:
    """Yield a Saver; the end of the block waits for it."""
    saver = Saver(directory, run_id, keep)
    try:
        yield saver
        saver.wait()
    finally:
        saver._thread.shutdown()
