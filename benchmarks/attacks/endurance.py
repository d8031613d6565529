"""Two thousand epochs beside both trackers, and a million points: memory and open files stay flat, reading stays fast."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.attacks import world
from benchmarks.attacks.world import Attack, World
from mnist_jax import events
from mnist_jax.record import reader, writer
from tests.helpers import killed_runs

_EPOCHS, _POINTS = 2_000, 1_000_000


def long_run(around: World, chance: random.Random, folder: Path) -> str:
    """Memory and open files of the run in the last quarter of its training are those of the second."""
    config = ["--config=configs/mlp.py:digits", f"--config.epochs={_EPOCHS}"]
    process = killed_runs.start(folder / "run", config, "neptune,comet", "offline")
    samples: list[tuple[float, float, int]] = []  # unix time, bytes, files
    while process.poll() is None:
        try:
            seen = psutil.Process(process.pid)
            samples.append((time.time(), seen.memory_info().rss, seen.num_fds()))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.5)
    _, problems = process.communicate()
    if process.returncode:
        return f"exit code {process.returncode}: {problems.decode()[-200:]}"
    trained = [entry.time for entry in reader.read(folder / "run").entries if isinstance(entry.event, events.Metrics)
               and "train/loss" in entry.event.values]
    early, late = ([sample for sample in samples
                    if trained[int(first * len(trained))] <= sample[0] < trained[int(last * len(trained)) - 1]]
                   for first, last in ((0.25, 0.5), (0.75, 1.0)))
    memory = max(size for _, size, _ in late) / max(size for _, size, _ in early)
    files = max(count for *_, count in late) - max(count for *_, count in early)
    wrong = [f"memory grew {memory:.2f} times"] if memory > 1.1 else []
    wrong += [f"{files} more open files"] if files > 2 else []
    rows = killed_runs.rows_of(reader.read(folder / "run"))
    wrong += [f"rows in {tracker}" for tracker in ("neptune", "comet")
              if rows != killed_runs.offline_rows(folder / "run", tracker)]
    return ", ".join([*wrong, *_fast(folder / "run")])


def many_points(around: World, chance: random.Random, folder: Path) -> str:
    """A million points: `show` in 1 s, `report` in 10 s."""
    with writer.create(folder / "run", events.RunInfo(writer.new_id(), "points", time.time(), {}, ())) as recorder:
        steps = np.arange(1, 1_001)
        for first in range(0, _POINTS // 4, 1_000):
            values = {f"train/{name}": chance.random() + steps / 1_000 for name in "abcd"}
            recorder.append(events.Metrics(first + steps, values, 1e9 + first + steps))
        recorder.close("finished")
    return ", ".join(_fast(folder / "run"))


def _fast(directory: Path) -> list[str]:
    wrong = []
    for seconds, command in ((1.0, ("show", directory)), (10.0, ("report", directory, f"--html={directory / 'report.html'}"))):
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            if problem := world.command(*command).fault((0,)):
                return [problem]
            best = min(best, time.perf_counter() - started)
        wrong += [f"{command[0]} took {best:.2f} s"] if best > seconds else []
    return wrong


ATTACKS = [
    Attack("endurance", f"{_EPOCHS:,} epochs beside both trackers: memory and open files flat, every row synced", 1, 0,
           long_run),
    Attack("endurance", "a million points: show within 1 s, report within 10 s", 1, 0, many_points),
]
