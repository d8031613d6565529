"""What tracking costs: training with Neptune and Comet beside it against training alone, and a value in the record.

    python benchmarks/overhead.py                       20 pairs of runs of a minute each, about 50 minutes
    python benchmarks/overhead.py --pairs=3 --json=overhead.json

Each run trains configs/cnn.py on as many images as MNIST has (noise: what they show costs nothing) in a process of its own;
the two of a pair follow one another, in changing order. What is compared is the time of an epoch, recording included, from
the first epoch that ends with both trackers open to the last; the same epochs in both runs of a pair. The figure is the
median over pairs, with the interval of the median at 95% (bootstrap). Importing, opening and closing the clients is
reported apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mnist_jax import events, idx, receipts, record  # noqa: E402

TRACKERS = ("neptune-offline", "comet-offline")
EPOCH_MARK = "train/epoch_loss"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5, help="the first is not compared")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parsed = parser.parse_args()
    figures: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "machine": platform.machine(),
                               "python": platform.python_version(), "record": record_cost(), "pairs": []}
    print(f"record: {figures['record']['microseconds_per_value']:.2f} microseconds a value, fsync included", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        noise(Path(folder) / "data")
        os.environ["MNIST_JAX_CACHE"] = str(Path(folder) / "cache")
        measure(parsed.pairs, parsed.epochs, Path(folder), figures)
    report(figures)
    if parsed.json:
        parsed.json.write_text(json.dumps(figures, indent=1))


def noise(folder: Path) -> None:
    """Write IDX files of MNIST's size."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for split, (images, labels) in idx.FILES.items():
        examples = {"train": 60_000, "test": 10_000}[split]
        for name, magic, array in ((images, 3, generator.integers(0, 256, (examples, 28, 28), np.uint8)),
                                   (labels, 1, generator.integers(0, 10, examples, np.uint8))):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / name).write_bytes(bytes([0, 0, 8, magic]) + sizes + array.tobytes())


def measure(pairs: int, epochs: int, folder: Path, figures: dict[str, Any]) -> None:
    """Run the pairs, print each, and add it to the figures."""
    for pair in range(pairs):
        order = ("local", "neptune,comet") if pair % 2 else ("neptune,comet", "local")
        found = {tracker: train(tracker, folder / f"{pair}-{tracker.replace(',', '-')}", epochs, folder / "data")
                 for tracker in order}
        both, alone = found["neptune,comet"], found["local"]
        first = both["epochs_before_open"]
        ratio = seconds_an_epoch(both, first) / seconds_an_epoch(alone, first)
        seconds = [both["seconds"], alone["seconds"]]
        figures["pairs"].append({"ratio": ratio, "first_epoch": first, "seconds": seconds, "clients": both["clients"],
                                 "end": both["end"]})
        print(f"pair {pair + 1}: {ratio - 1:+.2%} (after epoch {first + 1}, runs of {seconds[0]:.0f} and {seconds[1]:.0f} s)",
              flush=True)


def report(figures: dict[str, Any]) -> None:
    """Print the median over pairs, its interval, and what the clients cost in their own processes."""
    ratios = np.array([pair["ratio"] for pair in figures["pairs"]])
    generator = np.random.default_rng(0)
    medians = np.median(generator.choice(ratios, (10_000, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    figures["median"], figures["interval"] = float(np.median(ratios)), [float(low), float(high)]
    print(f"\ntraining beside both trackers takes {figures['median'] - 1:+.2%} (median of {len(ratios)} pairs, "
          f"95% interval {low - 1:+.2%} to {high - 1:+.2%})")
    for label in TRACKERS:
        parts = {step: statistics.median(pair["clients"][label][step] for pair in figures["pairs"])
                 for step in ("import", "open", "close")}
        print(f"{label}: " + ", ".join(f"{step} {value:.2f} s" for step, value in parts.items()) + ", in its own process")
    print(f"end of the run, waiting for both: {statistics.median(pair['end'] for pair in figures['pairs']):.2f} s")


def record_cost(values: int = 430 * 2, chunks: int = 500) -> dict[str, float]:
    """Return the cost of a value where an epoch's are appended at once, in microseconds."""
    rows = values // 2
    series = np.random.default_rng(0).random((2, rows))
    with tempfile.TemporaryDirectory() as folder:
        with record.create(Path(folder) / "run", events.Run(record.new_id(), "cost", 0.0, {}, ())) as recorder:
            for chunk in range(chunks):
                steps = np.arange(chunk * rows + 1, (chunk + 1) * rows + 1)
                recorder.append(events.Metrics(steps, {"train/loss": series[0], "train/accuracy": series[1]}, steps / 7))
            seconds = recorder.seconds
        size = (Path(folder) / "run" / "events.jsonl").stat().st_size
    return {"microseconds_per_value": seconds / (values * chunks) * 1e6, "bytes_per_value": size / (values * chunks)}


def train(tracker: str, directory: Path, epochs: int, data: Path) -> dict[str, Any]:
    """Train in a process of its own; return what its record says of time."""
    command = [sys.executable, "run.py", "--config=configs/cnn.py", f"--config.dataset.data_dir={data}",
               f"--config.epochs={epochs}", f"--tracker={tracker}", "--tracker_mode=offline", f"--workdir={directory}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    entries = record.read(directory).entries
    marks = [entry.time for entry in entries
             if isinstance(entry.event, events.Metrics) and EPOCH_MARK in entry.event.values]
    labels = TRACKERS if tracker != "local" else ()
    replicas = {label: receipts.replica(directory, label) for label in labels}
    assert all(replica.state == "complete" for replica in replicas.values()), replicas
    moments = {word: max((line["at"] for label in labels for line in receipts.lines(directory, label) if word in line),
                         default=0.0) for word in ("opened", "closed")}
    return {"marks": marks, "seconds": marks[-1] - entries[0].time, "end": moments["closed"] - entries[-1].time,
            "epochs_before_open": sum(mark < moments["opened"] for mark in marks),
            "clients": {label: replica.seconds for label, replica in replicas.items()}}


def seconds_an_epoch(run: dict[str, Any], first: int) -> float:
    return (run["marks"][-1] - run["marks"][first]) / (len(run["marks"]) - 1 - first)


if __name__ == "__main__":
    main()
