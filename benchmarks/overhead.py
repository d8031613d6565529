"""What tracking costs: training with Neptune and Comet beside it against training alone, and a value in the record.

    python -m benchmarks.overhead                       20 pairs of runs of a minute each, about 55 minutes
    python -m benchmarks.overhead --pairs=3 --json=overhead.json

Each run trains configs/cnn.py on as many images as MNIST has (noise: what they show costs nothing) in a process of its own.
The machine's own speed drifts by more than what is measured, so the two runs of a pair take turns of two seconds: one is
stopped (SIGSTOP), its syncs with it, while the other runs. What is compared is the time of an epoch, recording
included, counting a run's own turns only, from the first epoch that ends with both trackers open to the last; the same
epochs in both runs of a pair. The figure is the median over pairs, with the interval of the median at 95% (bootstrap).
Importing, opening and closing the clients is reported apart.
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

from benchmarks.turns import Turns, take_turns
from mnist_jax import events
from mnist_jax.data import idx
from mnist_jax.record import reader, writer
from mnist_jax.tracking import receipts

ROOT = Path(__file__).resolve().parent.parent

TRACKERS = ("neptune-offline", "comet-offline")
EPOCH_MARK = "train/epoch_loss"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=4, help="the first is not compared")
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
        directories = {tracker: folder / f"{pair}-{tracker.replace(',', '-')}" for tracker in order}
        turns = take_turns({tracker: start(tracker, directories[tracker], epochs, folder / "data") for tracker in order})
        measured = {tracker: times(directories[tracker], turns[tracker]) for tracker in order}
        both, alone = measured["neptune,comet"], measured["local"]
        first = both["epochs_before_open"]
        seconds = [(run["marks"][-1] - run["marks"][first]) / (len(run["marks"]) - 1 - first) for run in (both, alone)]
        ratio = seconds[0] / seconds[1]
        figures["pairs"].append({"ratio": ratio, "first_epoch": first, "seconds_an_epoch": seconds,
                                 "seconds": [both["seconds"], alone["seconds"]], "clients": both["clients"],
                                 "end": both["end"]})
        print(f"pair {pair + 1}: {ratio - 1:+.2%} (after epoch {first + 1}, {seconds[0]:.2f} and {seconds[1]:.2f} s an epoch, "
              f"runs of {both['seconds']:.0f} and {alone['seconds']:.0f} s)", flush=True)


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
        cpu = statistics.median(pair["clients"][label]["cpu"] / pair["seconds"][0] for pair in figures["pairs"])
        print(f"{label}: {cpu:.2%} of a core from open to close; "
              + ", ".join(f"{step} {value:.2f} s" for step, value in parts.items()) + ", in its own process")
    print(f"end of the run, waiting for both: {statistics.median(pair['end'] for pair in figures['pairs']):.2f} s")


def record_cost(values: int = 430 * 2, chunks: int = 500) -> dict[str, float]:
    """Return the cost of a value where an epoch's are appended at once, in microseconds."""
    rows = values // 2
    series = np.random.default_rng(0).random((2, rows))
    with tempfile.TemporaryDirectory() as folder:
        with writer.create(Path(folder) / "run", events.RunInfo(writer.new_id(), "cost", 0.0, {}, ())) as recorder:
            for chunk in range(chunks):
                steps = np.arange(chunk * rows + 1, (chunk + 1) * rows + 1)
                recorder.append(events.Metrics(steps, {"train/loss": series[0], "train/accuracy": series[1]}, steps / 7))
            seconds = recorder.seconds
        size = (Path(folder) / "run" / "events.jsonl").stat().st_size
    return {"microseconds_per_value": seconds / (values * chunks) * 1e6, "bytes_per_value": size / (values * chunks)}


def start(tracker: str, directory: Path, epochs: int, data: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "run.py", "--config=configs/cnn.py", f"--config.dataset.data_dir={data}",
               f"--config.epochs={epochs}", f"--tracker={tracker}", "--tracker_mode=offline", f"--workdir={directory}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def times(directory: Path, turns: Turns) -> dict[str, Any]:
    """Return what the record of a run says of time, in seconds of its own turns since its first event."""
    entries = reader.read(directory).entries
    started = turns.own(entries[0].time)
    marks = [turns.own(entry.time) - started for entry in entries
             if isinstance(entry.event, events.Metrics) and EPOCH_MARK in entry.event.values]
    replicas = {replica.label: replica for replica in receipts.sync_statuses(directory)}
    assert all(replica.state == "complete" for replica in replicas.values()), replicas
    moments = {word: max((turns.own(line["at"]) - started for label in replicas for line in receipts.lines(directory, label)
                          if word in line), default=0.0) for word in ("opened", "closed")}
    return {"marks": marks, "seconds": marks[-1], "end": moments["closed"] - turns.own(entries[-1].time) + started,
            "epochs_before_open": sum(mark < moments["opened"] for mark in marks),
            "clients": {label: replica.seconds for label, replica in replicas.items()}}


if __name__ == "__main__":
    main()
