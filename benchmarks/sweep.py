"""A sweep beside the same runs one after the other: the same bits, the same Comet archives, and how long each takes.

    python -m benchmarks.sweep                            16 MLPs on the embedded digits, about 4 minutes
    python -m benchmarks.sweep --config=cnn-mnist --json=sweep.json

Both are started from the command line with --tracker=comet in offline mode; the seconds are those of the whole processes.
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

from mnist_jax.train import config_file, sweep
from tests.helpers import killed_runs

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mlp-digits", help="what comes after configs/sweep.py:")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parsed = parser.parse_args()
    model, dataset = parsed.config.split("-", 1)
    members = sweep.member_configs(config_file.load_config(str(ROOT / f"configs/sweep.py:{parsed.config}")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        together = run(f"sweep.py:{parsed.config}", folder / "together")
        directories = sorted((folder / "together" / "members").iterdir())
        in_turn, same = 0.0, 0
        for number, (member, directory) in enumerate(zip(members, directories, strict=True)):
            alone = folder / f"alone-{number}"
            in_turn += run(f"{model}.py:{dataset}", alone, f"--config.seed={member.seed}",
                           f"--config.optimizer.learning_rate={member.optimizer.learning_rate}")
            same += killed_runs.facts_of(alone) == killed_runs.facts_of(directory)
        archives = len(list((folder / "together").rglob("sync/comet-offline/*.zip")))
    print(f"{len(members)} members: {together:.1f} s together, {in_turn:.1f} s one after the other, "
          f"{in_turn / together:.2f} times as long; {same} bit for bit the same; {len(directories)} records, "
          f"{archives} Comet archives")
    if parsed.json:
        parsed.json.write_text(json.dumps({
            "config": parsed.config, "members": len(members), "together_s": together, "in_turn_s": in_turn, "same_bits": same,
            "archives": archives, "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}, indent=1))


def run(config: str, directory: Path, *flags: str) -> float:
    """Train and sync, and return the seconds that it took."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "run.py", f"--config=configs/{config}", "--tracker=comet", "--tracker_mode=offline",
                    f"--workdir={directory}", *flags], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
