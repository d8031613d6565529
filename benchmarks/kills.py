"""Runs killed with SIGKILL at random moments and started again: is anything lost, doubled or different?

    python -m benchmarks.kills                        50 kills, half of them with online trackers, about 15 minutes
    python -m benchmarks.kills --only=17              one of them again, from its seed
    python -m benchmarks.kills --kills=5 --json=kills.json

Each run trains the MLP on the embedded digits with both trackers and saves a checkpoint after every chunk, so that kills fall
into training, saving, recording and syncing; one in three takes the syncs with it. What is compared with a run that was
never killed: every row of train|validation|test/*, the parameters, the optimizer's state, the predictions, the pictures; and
with the record, after the end: every row that each tracker holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from mnist_jax.record import reader
from mnist_jax.tracking import sync
from tests.helpers import killed_runs, tracker_servers

ROOT = Path(__file__).resolve().parent.parent

CONFIG = ["--config=configs/mlp.py:digits", "--config.epochs=60", "--config.checkpoint.every_s=0.0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one kill")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parsed = parser.parse_args()
    numbers = range(parsed.kills) if parsed.only is None else [parsed.only]
    with (tempfile.TemporaryDirectory() as folder, tracker_servers.serve("neptune") as neptune,
          tracker_servers.serve("comet") as comet):
        os.environ.update({**tracker_servers.PATIENT, **neptune.environment, **comet.environment})
        figures = kill_all(numbers, parsed.seed, Path(folder), {"neptune": neptune.store, "comet": comet.store})
    if parsed.json:
        parsed.json.write_text(json.dumps(figures, indent=1))


def kill_all(numbers: Any, seed: int, folder: Path, stores: dict[str, Any]) -> list[dict[str, Any]]:
    """Kill one run after the other, and print a line for each."""
    whole_directory = folder / "whole"
    assert killed_runs.start(whole_directory, CONFIG, "neptune,comet", "offline").wait() == 0
    whole, recorded = killed_runs.facts_of(whole_directory), reader.read(whole_directory)
    lasts = recorded.entries[-1].time - recorded.entries[0].time + 2  # and the wait for the syncs
    figures = []
    for number in numbers:
        directory, mode = folder / f"run-{number}", "online" if number % 2 else "offline"
        chance = random.Random(f"{seed}-{number}")
        outcome = killed_runs.kill(killed_runs.start(directory, CONFIG, "neptune,comet", mode), directory, lasts, chance)
        again = killed_runs.start(directory, CONFIG, "neptune,comet", mode)
        _, problems = again.communicate()
        wrong = [] if again.returncode == 0 else [f"exit code {again.returncode}: {problems.decode()[-300:]}"]
        if not wrong:
            replicas = sync.sync(directory, "neptune,comet", mode)
            wrong += [f"{replica.label} is {replica.state}" for replica in replicas if replica.state != "complete"]
            wrong += [part for part, facts in killed_runs.facts_of(directory).items() if facts != whole[part]]
            rows = killed_runs.rows_of(reader.read(directory))
            wrong += [f"rows in {tracker}" for tracker, store in stores.items()
                      if rows != (killed_runs.online_rows(store, tracker, directory) if mode == "online"
                                  else killed_runs.offline_rows(directory, tracker))]
        figures.append({"number": number, "mode": mode, "killed": outcome, "wrong": wrong})
        print(f"{number:3} {mode:8} {outcome}: {', '.join(wrong) or 'as if never killed'}", flush=True)
    print(f"{sum(not each['wrong'] for each in figures)} of {len(figures)} as if never killed "
          f"(seed {seed}, {time.strftime('%Y-%m-%d')})")
    return figures


if __name__ == "__main__":
    main()
