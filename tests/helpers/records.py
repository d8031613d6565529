"""Records to test with; and the series of one, as lists to read, and as bytes where bits are promised."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnist_jax import events
from mnist_jax.record import reader, writer


def series_of(recorded: reader.RunRecord) -> dict[str, tuple[list[int], list[float]]]:
    """Return every series as name -> (steps, values)."""
    return {name: (steps.tolist(), values.tolist()) for name, (steps, values) in recorded.series().items()}


def bits_of(recorded: reader.RunRecord) -> dict[str, tuple[bytes, bytes]]:
    """Return the bytes of every series but system/*, which no two runs share."""
    return {name: (steps.tobytes(), values.tobytes()) for name, (steps, values) in recorded.series().items()
            if not name.startswith("system/")}


def point(step: int, name: str, value: float = 1.0) -> events.Metrics:
    """Return one value of one series, a second after 1970 began."""
    return events.Metrics(np.array([step]), {name: np.array([value])}, np.array([1.0]))


def rewritten(directory: Path, record: reader.RunRecord, facts: Sequence[events.AnyEvent]) -> reader.RunRecord:
    """Write a run that is another in all but its events; return its record."""
    with writer.create(directory, record.run) as run_writer:
        shutil.copytree(record.directory / "blobs", directory / "blobs", dirs_exist_ok=True)
        run_writer.append(*facts)
        run_writer.close(record.status)
    return reader.read(directory)


def short_run(directory: Path) -> Path:
    """Write a run of five steps that has ended, six events in all; return its directory."""
    with writer.create(directory, events.RunInfo(writer.new_id(), "short", 0.0, {}, ())) as recorder:
        for step in range(1, 6):
            recorder.append(events.Metrics(np.array([step]), {"train/loss": np.array([1.0 / step])}, np.array([step * 1.0])))
        recorder.append(events.Status(5, "finished"))
        recorder.close("finished")
    return directory


def info() -> events.RunInfo:
    """Return who a new run is."""
    return events.RunInfo(writer.new_id(), "test", 1.5, {"seed": 0}, ("run.py",), tags=("a",))
