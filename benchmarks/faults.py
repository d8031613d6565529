"""Training beside trackers whose servers fail: what it costs, and that nothing is lost or doubled once they heal.

    python -m benchmarks.faults                         every fault and both trackers, about 35 minutes
    python -m benchmarks.faults --tracker=comet --faults=stalls,dies-5 --json=faults.json
    python -m benchmarks.faults --parallel=18           so many runs at once in one folder, with both trackers offline

The servers are the package's own on the loopback interface; the clients are the real ones. Each row trains the CNN on the
embedded digits beside one failing server and, in turns with it (turns.py), without a tracker, and compares the bits of
parameters and metrics, the training time from the epoch in which the client was imported to the last, the wait at the end,
and the events in the record. Then the server heals, and what `sync` leaves there is compared with what an undisturbed
sync of the same record leaves.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.turns import Turns, take_turns
from mnist_jax import events
from mnist_jax.compare.servers.server import Faults
from mnist_jax.record import reader
from mnist_jax.tracking import receipts, sync
from mnist_jax.view import text
from tests.helpers import records, tracker_servers

ROOT = Path(__file__).resolve().parent.parent

FAULTS = {
    "refuses": Faults(refuse=True), "stalls": Faults(stall=True), "answers-429": Faults(status=429),
    "answers-500": Faults(status=500), "answers-garbage": Faults(garbage=True), "loses-answers": Faults(lose_answer=True),
    "bad-key": Faults(), **{f"dies-{tenth}": Faults() for tenth in range(1, 10)},  # at each tenth of the requests
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracker", default="neptune,comet")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--parallel", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parsed = parser.parse_args()
    os.environ.update(tracker_servers.PATIENT)
    with tempfile.TemporaryDirectory() as folder:
        figures = (parallel(parsed.parallel, Path(folder)) if parsed.parallel
                   else matrix(parsed.tracker.split(","), parsed.faults.split(","), parsed.epochs, Path(folder)))
    if parsed.json:
        parsed.json.write_text(json.dumps(figures, indent=1))


def matrix(trackers: list[str], faults: list[str], epochs: int, folder: Path) -> list[dict[str, Any]]:
    """Print and return a row for each tracker and fault."""
    rows = []
    print(f"{'tracker':9}{'fault':16}{'same bits':>10}{'training':>10}{'end':>8}{'events':>8}  after healing", flush=True)
    for tracker in trackers:
        with tracker_servers.serve(tracker) as served:
            whole = train_pair(folder / f"{tracker}-whole", epochs, served.environment, tracker)
            requests = served.server.requests
        assert whole["state"] == "complete", whole
        for fault in faults:
            directory = folder / f"{tracker}-{fault}"
            with tracker_servers.serve(tracker) as served:
                served.server.faults = (Faults(die_after=requests * int(fault[5:]) // 10) if fault.startswith("dies-")
                                        else FAULTS[fault])
                run = train_pair(directory, epochs, served.bad_key if fault == "bad-key" else served.environment, tracker)
                served.server.start()
                os.environ.update(served.environment)
                (replica,) = sync.sync(directory, tracker, "online")
                healed = served.contents(reader.read(directory).run.id)
            shutil.rmtree(directory / "sync")
            with tracker_servers.serve(tracker) as served:
                served.sync(directory)
                same = replica.state == "complete" and served.contents(reader.read(directory).run.id) == healed
            rows.append({"tracker": tracker, "fault": fault, "healed": same, **run})
            print(f"{tracker:9}{fault:16}{'yes' if run['same_bits'] else 'NO':>10}{run['training'] - 1:>+10.1%}"
                  f"{run['end']:>7.1f}s{run['events']:>8}  {'as undisturbed' if same else 'NOT as undisturbed'}", flush=True)
    ratios = [row["training"] for row in rows]
    print(f"training of {rows[0]['seconds']:.0f} s beside a failing server: median {statistics.median(ratios) - 1:+.2%}, "
          f"from {min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%}, longest end {max(row['end'] for row in rows):.1f} s, "
          f"{sum(row['same_bits'] and row['healed'] for row in rows)} of {len(rows)} rows whole")
    return rows


def train_pair(directory: Path, epochs: int, environment: dict[str, str], tracker: str) -> dict[str, Any]:
    """Train beside a tracker and, in turns with it, without; return how they compare. The first keeps its directory."""
    alone = directory.with_name(f"{directory.name}-alone")
    turns = take_turns({"tracked": start(directory, epochs, environment, tracker), "alone": start(alone, epochs, {}, "local")})
    measured = {name: times(folder, turns[name]) for name, folder in (("tracked", directory), ("alone", alone))}
    shutil.rmtree(alone)
    tracked = measured["tracked"]
    first = min(sum(mark < tracked["imported"] for mark in tracked["marks"]), epochs - 2)
    seconds = {name: run["marks"][-1] - run["marks"][first] for name, run in measured.items()}
    states = [state["state"] for state in text.summary(directory)["sync"].values()]
    return {"same_bits": tracked["bits"] == measured["alone"]["bits"], "seconds": seconds["tracked"], "state": states[0],
            "training": seconds["tracked"] / seconds["alone"], "end": tracked["end"], "events": tracked["events"]}


def start(directory: Path, epochs: int, environment: dict[str, str], tracker: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "run.py", "--config=configs/cnn.py:digits", "--config.batch_size=128",
               f"--config.epochs={epochs}", f"--tracker={tracker}", "--tracker_mode=auto", f"--workdir={directory}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            env={**os.environ, **environment})


def times(directory: Path, turns: Turns) -> dict[str, Any]:
    """Return what the record of a run says: its bits, and the seconds of its own turns that training and the end took."""
    recorded = reader.read(directory)
    marks = [turns.own(entry.time) for entry in recorded.entries
             if isinstance(entry.event, events.Metrics) and "train/epoch_loss" in entry.event.values]
    bits = (records.bits_of(recorded), recorded.of(events.Model)[0].metadata["parameters_sha256"])
    imported = min((turns.own(line["at"]) for replica in receipts.sync_statuses(directory)
                    for line in receipts.lines(directory, replica.label) if "opening" in line), default=0.0)
    return {"bits": bits, "marks": marks, "imported": imported, "events": len(recorded.entries),
            "end": turns.own(float("inf")) - turns.own(recorded.entries[-1].time)}


def parallel(runs: int, folder: Path) -> dict[str, Any]:
    """Start runs at once in one folder with both trackers offline; every one must be whole and alone in its directory."""
    command = [sys.executable, str(ROOT / "run.py"), f"--config={ROOT}/configs/mlp.py:digits", "--config.epochs=3",
               "--tracker=neptune,comet", "--tracker_mode=offline"]
    started = time.time()
    processes = [subprocess.Popen([*command, f"--config.seed={seed}"], cwd=folder, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True) for seed in range(runs)]
    outputs = [process.communicate() for process in processes]
    failed = [problems for process, (_, problems) in zip(processes, outputs, strict=True) if process.returncode]
    directories = {folder / output.splitlines()[-1] for output, _ in outputs if output}
    recorded = [reader.read(directory) for directory in directories]
    seeds = {run.run.config["seed"] for run in recorded}
    complete = sum(state["state"] == "complete" for run in recorded
                   for state in text.summary(run.directory)["sync"].values())
    print(f"{runs} runs at once in one folder, {time.time() - started:.0f} s: {len(directories)} directories, "
          f"{len({run.run.id for run in recorded})} ids, {len(seeds)} seeds, {complete} of {2 * runs} syncs complete, "
          f"{len(failed)} failed")
    return {"runs": runs, "directories": len(directories), "seeds": len(seeds), "complete": complete, "failed": failed}


if __name__ == "__main__":
    main()
