"""Many processes at once: on one run's directory, and on one empty cache."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.attacks import world
from benchmarks.attacks.world import Attack, World
from mnist_jax.record import reader
from tests.helpers import killed_runs

_AT_ONCE = 50
_SMALL = ["--config=configs/mlp.py", "--config.epochs=1", "--config.model.hidden=(32,)",
          "--config.dataset.validation_examples=100"]


def one_directory(around: World, chance: random.Random, folder: Path) -> str:
    """Two processes start on one directory: one trains, the other is told by whom it is refused, or finds it done."""
    pair = []
    for _ in range(2):
        pair.append(killed_runs.start(folder / "run", world.CONFIG, "local", "offline"))
        time.sleep(chance.uniform(0, 2))
    problems = [process.communicate(timeout=world.PATIENCE_S * 2)[1].decode() for process in pair]
    codes = sorted(process.returncode for process in pair)
    if any("Traceback" in problem for problem in problems) or codes not in ([0, 2], [0, 0]):
        return f"exit codes {codes}: {problems}"
    if codes == [0, 2] and not any("pid" in problem and "another process" in problem for problem in problems):
        return f"the first is not named: {problems}"
    return "" if _rows(folder / "run") == _rows(around.whole) else "the run differs"


def one_cache(around: World, chance: random.Random, folder: Path) -> str:
    """Fifty runs start at once on an empty cache of data and programs: all finish, to the same bits."""
    data = world.idx_folder(folder / "idx")
    environment = {**os.environ, "MNIST_JAX_CACHE": str(folder / "cache"), "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    processes = [subprocess.Popen([sys.executable, "run.py", *_SMALL, f"--config.dataset.data_dir={data}",
                                   f"--workdir={folder / str(number)}"], cwd=world.ROOT, env=environment,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for number in range(_AT_ONCE)]
    wrong = []
    for number, process in enumerate(processes):
        _, problems = process.communicate(timeout=600)
        if process.returncode:
            wrong.append(f"{number}: exit code {process.returncode}: {problems.decode()[-200:]}")
    if wrong:
        return f"{len(wrong)} of {_AT_ONCE}, the first {wrong[0]}"
    rows = [_rows(folder / str(number)) for number in range(_AT_ONCE)]
    return "" if all(row == rows[0] for row in rows) else "some differ"


def _rows(directory: Path) -> list[tuple[str, int, float]]:
    return [row for row in killed_runs.rows_of(reader.read(directory)) if not row[0].startswith("system/")]


ATTACKS = [
    Attack("concurrency", "two processes on one directory: one trains, the other is refused and told by whom", 10, 0,
           one_directory),
    Attack("concurrency", f"{_AT_ONCE} runs started at once on an empty cache finish to the same bits", 1, 0, one_cache),
]
