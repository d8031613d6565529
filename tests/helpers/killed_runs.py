"""A run that is killed at some moment and started again, and what of it must be as if it never had been."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from mnist_jax import events
from mnist_jax.record import checkpoint, reader
from tests.helpers import offline_files, records

ROOT = Path(__file__).resolve().parents[2]


def facts_of(directory: Path) -> dict[str, Any]:
    """Return everything of a finished run that an interruption must not change: rows, state, predictions, pictures."""
    recorded = reader.read(directory)
    assert recorded.status == "finished", recorded.status
    saved, _ = checkpoint.newest(directory, checkpoint.Expected(recorded.run.id))
    assert saved is not None
    return {"series": records.bits_of(recorded),
            "state": {path: array.tobytes() for path, array in saved.arrays.items()},
            "parameters": [model.metadata["parameters_sha256"] for model in recorded.of(events.Model)],
            "images": sorted((image.name, image.blob.sha256) for image in recorded.of(events.Image)),
            "predictions": [table.blob.sha256 for table in recorded.of(events.Artifact)],
            "datasets": [fact.digest for fact in recorded.of(events.Dataset)]}


def rows_of(recorded: reader.RunRecord) -> list[tuple[str, int, float]]:
    """Return every row of a record, sorted."""
    return sorted((name, step, value) for name, (steps, values) in records.series_of(recorded).items()
                  for step, value in zip(steps, values, strict=True))


def offline_rows(directory: Path, tracker: str) -> list[tuple[str, int, float]]:
    """Return every row of an offline replica whose name the record knows, sorted."""
    folder = directory / "sync" / f"{tracker}-offline"
    if tracker == "neptune":
        _, series = offline_files.neptune(folder)
        rows = [(name, int(step), value) for name, points in series.items() for step, value in points
                if isinstance(value, float | int)]
    else:
        (archive,) = folder.glob("*.zip")
        rows = [(name, step, value) for name, points in offline_files.Comet(archive).metrics.items()
                for step, value, _ in points]
    known = reader.read(directory).series()
    return sorted(row for row in rows if row[0] in known)


def online_rows(store: Any, tracker: str, directory: Path) -> list[tuple[str, int, float]]:
    """Return every row that a loopback server holds of a run and whose name the record knows, sorted."""
    recorded = reader.read(directory)
    if tracker == "neptune":
        fields = store.run(recorded.run.id).fields.items()
        rows = [(path, int(point.step), point.value) for path, field in fields if field.kind == "floatSeries"
                for point in field.value]
    else:
        rows = [(point.name, point.step, float(point.value)) for point in store.experiments[recorded.run.id].metrics]
    known = recorded.series()
    return sorted(row for row in rows if row[0] in known)


def start(directory: Path, config: list[str], tracker: str, mode: str,
          environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "run.py"), *config, f"--tracker={tracker}", f"--tracker_mode={mode}",
               f"--workdir={directory}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env={**os.environ, **(environment or {})})


def kill(process: subprocess.Popen[bytes], directory: Path, lasts_s: float, chance: random.Random) -> str:
    """Kill a run at a random moment of the seconds that it lasts from its first event on, or, one time in ten, before it.

    Returns what it had come to. Its syncs are killed with it one time in three.
    """
    if chance.random() < 0.1:
        time.sleep(chance.uniform(0, 4))
    else:
        while process.poll() is None and not ((directory / "events.jsonl").exists()
                                              and (directory / "events.jsonl").stat().st_size):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, lasts_s))
    children = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    if chance.random() < 1 / 3:
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()
    if not (directory / "run.json").exists():
        return "not begun"
    recorded = reader.read(directory)
    step = max(records.series_of(recorded).get("train/loss", ([0], []))[0])
    return f"{recorded.status} after {len(recorded.entries)} events, step {step}"
