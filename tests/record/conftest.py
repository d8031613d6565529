"""A finished run of every part of a record: events, a series and a blob."""

from pathlib import Path

import numpy as np
import pytest

from mnist_jax import events
from mnist_jax.record import writer
from tests.helpers import records


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with writer.create(tmp_path / "run", records.info()) as recorder:
        blob = recorder.blob(b"bytes", "file.txt")
        recorder.append(events.Status(0, "running"), events.Artifact("file", blob, "text", {}))
        recorder.append(events.Metrics(np.arange(2), {"train/loss": np.array([1.0, 0.5])}, np.zeros(2)))
        recorder.append(events.Status(2, "finished"))
        recorder.close("finished")
    return tmp_path / "run"
