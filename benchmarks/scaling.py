"""How cost grows: with epochs, batch size, members of a sweep and devices; and what memory does over epochs.

    python -m benchmarks.scaling                   about 6 minutes
    python -m benchmarks.scaling --json=scaling.json

Every row is a process of its own that trains the MLP (members, devices, epochs) or the CNN (batch size) on the embedded digits.
Seconds are those of training, from the first step to the last; memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mnist_jax import events
from mnist_jax.record import reader

ROOT = Path(__file__).resolve().parent.parent

TABLES: dict[str, list[tuple[str, list[str], dict[str, str]]]] = {
    "epochs": [(str(count), ["--config=configs/mlp.py:digits", f"--config.epochs={count}"], {})
               for count in (50, 100, 200, 400, 800)],
    "batch size": [(str(size), ["--config=configs/cnn.py:digits", "--config.epochs=10", f"--config.batch_size={size}"], {})
                   for size in (16, 32, 64, 128, 256)],
    "members": [(str(4 * seeds), ["--config=configs/sweep.py:mlp-digits", "--config.epochs=10",
                                  f"--config.sweep.seeds={seeds}"], {}) for seeds in (1, 2, 4, 8)],
    "devices": [(str(count), ["--config=configs/mlp.py:digits", "--config.epochs=20"],
                 {"JAX_NUM_CPU_DEVICES": str(count)}) for count in (1, 2, 4, 8)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parsed = parser.parse_args()
    figures: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for table in parsed.tables.split(","):
            print(f"{table:>12}{'seconds':>10}{'per unit':>12}{'peak MiB':>10}")
            figures[table] = []
            for name, config, environment in TABLES[table]:
                row = train(config, environment, Path(folder) / f"{table}-{name}".replace(" ", "-"))
                figures[table].append({"at": int(name), **row})
                print(f"{name:>12}{row['seconds']:>10.2f}{row['seconds'] / int(name):>12.4f}{row['peak_mib']:>10.0f}",
                      flush=True)
    if parsed.json:
        parsed.json.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), **figures}, indent=1))


def train(config: list[str], environment: dict[str, str], directory: Path) -> dict[str, Any]:
    command = [sys.executable, "run.py", *config, f"--workdir={directory}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, **environment})
    runs = [reader.read(place.parent) for place in directory.rglob("run.json")]
    times = [time for run in runs for fact in run.of(events.Metrics) if "train/loss" in fact.values
             for time in (fact.times[0], fact.times[-1])]
    return {"seconds": float(max(times) - min(times)),
            "peak_mib": max(run.last()["system/peak_memory_bytes"] for run in runs) / 2**20}


if __name__ == "__main__":
    main()
