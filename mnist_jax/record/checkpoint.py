"""States of a run to go on from: one file each, written whole or not at all, its digest in its name.

    checkpoints/<step>-<sha256>.zip    arrays by path (arrays.py), beside run.txt, the id of the run

A checkpoint is saved only after the events up to its step are on disk, so a resumed run never misses one.
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
from mnist_jax.record import arrays as record_arrays
from mnist_jax.record import blobs

_NAME = re.compile(r"(\d{10})-([0-9a-f]{64})\.zip")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    path: Path
    step: int  # completed updates
    arrays: Mapping[str, np.ndarray]


def save(directory: Path, step: int, state: Mapping[str, np.ndarray], run_id: str, keep: int) -> Path:
    """Write a checkpoint into a run's directory, then remove all but the newest `keep`.

    Raises:
      RecordError: the disk is full or not writable. The checkpoints before stay.
    """
    data = record_arrays.pack(state, {"run.txt": run_id.encode()})
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
        state, _ = record_arrays.unpack(data)
    except (OSError, ValueError) as error:
        raise errors.RecordError(f"{path}: damaged: {error}") from error
    return Checkpoint(path, int(match[1]), state)


def newest(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that is whole, and a line for each newer one that is not."""
    found, damaged = common([directory], [float("inf")])
    return (found[0] if found else None), damaged


def common(directories: Sequence[Path], reached: Sequence[float]) -> tuple[list[Checkpoint], list[str]]:
    """Return a checkpoint of the same step from each run, of the latest step that is whole in all; and a line for each damage.

    Args:
      reached: the step that each record reaches to; going on from a later checkpoint would leave a gap in it.
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
    """Put a checkpoint of one run into the directory of another, which goes on from it."""
    _put(directory / "checkpoints" / checkpoint.path.name, checkpoint.path.read_bytes())


def _put(path: Path, data: bytes) -> Path:
    try:
        path.parent.mkdir(exist_ok=True)
        blobs.write_atomically(path, data)
    except OSError as error:
        raise errors.RecordError(f"{path.parent}: cannot write the checkpoint of step {int(path.name[:10])}: {error.strerror}; "
                                 f"make room or restore access, then start the run again") from error
    return path


class Saver:
    """Saves checkpoints in a thread of its own, one after the other."""

    def __init__(self, directory: Path, run_id: str, keep: int):
        self._directory, self._run_id, self._keep = directory, run_id, keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[Path] | None = None

    def save(self, step: int, state: Mapping[str, np.ndarray]) -> None:
        """Start to save a state that nobody changes any more. Raises RecordError if the one before failed."""
        self.wait()
        self._pending = self._thread.submit(save, self._directory, step, state, self._run_id, self._keep)

    def wait(self) -> None:
        """Wait until what was started is on disk. Raises RecordError if it failed."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()


@contextlib.contextmanager
def saving(directory: Path, run_id: str, keep: int) -> Iterator[Saver]:
    """Yield a Saver; leaving the block waits for it."""
    saver = Saver(directory, run_id, keep)
    try:
        yield saver
        saver.wait()
    finally:
        saver._thread.shutdown()
