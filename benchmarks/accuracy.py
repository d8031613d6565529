"""Test accuracy of a config over seeds: mean, 95% interval, and the seconds of training.

    python -m benchmarks.accuracy --config=configs/cnn.py:fast --seeds=10
    python -m benchmarks.accuracy --config=configs/mlp.py --seeds=5 --data_dir=path/to/tfds --json=accuracy.json

Seeds 0, 1, ... one after the other; the test images are looked at once a run, at its end. Training seconds are those of the
epochs, evaluation on held-out images included; compilation and start-up are not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from mnist_jax import events
from mnist_jax.record import reader
from mnist_jax.train import config_file, experiment, sweep

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the config, as Python reads it")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parsed = parser.parse_args()
    config = config_file.load_config(parsed.config)
    config.dataset.data_dir = parsed.data_dir
    pairs = (pair.partition("=") for pair in parsed.set)
    config.update_from_flattened_dict({key: json.loads(value) for key, _, value in pairs})
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(parsed.seeds):
            config.seed = seed
            runs.append(train(config, Path(folder) / str(seed)))
            print(f"seed {seed}: {runs[-1]['accuracy']:.2%}, {runs[-1]['seconds']:.1f} s of training", flush=True)
    accuracies, seconds = ([run[key] for run in runs] for key in ("accuracy", "seconds"))
    half = sweep.half_interval(accuracies) or 0.0
    print(f"{parsed.config}: test accuracy {statistics.fmean(accuracies):.3%} ± {half:.3%} (mean of {parsed.seeds} seeds, "
          f"95%), from {min(accuracies):.2%} to {max(accuracies):.2%}; training {statistics.median(seconds):.1f} s (median)")
    if parsed.json:
        parsed.json.write_text(json.dumps({"config": parsed.config, "date": time.strftime("%Y-%m-%d"),
                                           "cores": os.cpu_count(), "runs": runs}, indent=1))


def train(config: Any, directory: Path) -> dict[str, float]:
    started = time.time()
    result = experiment.run(config, workdir=directory, watch=False, started=started)
    recorded = reader.read(directory)
    first = started + recorded.series()["system/seconds_to_first_step"][1][0]
    last = max(fact.times.max() for fact in recorded.of(events.Metrics) if "train/epoch_loss" in fact.values)
    return {"seed": config.seed, "accuracy": result.metrics["test/accuracy"], "seconds": float(last - first)}


if __name__ == "__main__":
    main()
