"""Attacks the whole product and prints a table of promises, attempts and survivals.

    python -m benchmarks.reliability                             everything, about two hours on two cores
    python -m benchmarks.reliability --quick                     what the tests run, in a minute
    python -m benchmarks.reliability --family=corruption --share=0.1
    python -m benchmarks.reliability --only='a flipped bit or a cut in IDX files' --number=17     one again, from its seed
    python -m benchmarks.reliability --markdown=table.md --json=attempts.json

An attempt draws everything that it does from (seed, promise, number), so a failure is repeated by its number.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.attacks import concurrency, configs, corruption, disk, endurance, hostile, killing, schedules
from benchmarks.attacks.world import Attack, World, make
from tests.helpers import tracker_servers

ROOT = Path(__file__).resolve().parent.parent

FAMILIES = (killing, disk, corruption, hostile, configs, schedules, concurrency, endurance)
ATTACKS = [attack for family in FAMILIES for attack in family.ATTACKS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="", help="some of " + ", ".join(dict.fromkeys(attack.family for attack in ATTACKS)))
    parser.add_argument("--only", default="", help="promises that begin so")
    parser.add_argument("--number", type=int, help="one attempt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the attempts of each promise")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--json", type=Path, help="write what was found to this file; other promises that it holds already are "
                                                  "kept, and are in the table, too")
    parsed = parser.parse_args()
    chosen = [attack for attack in ATTACKS if attack.promise.startswith(parsed.only)
              and (not parsed.family or attack.family in parsed.family.split(","))]
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        os.environ.update({**tracker_servers.PATIENT, "MNIST_JAX_CACHE": str(Path(folder) / "cache")})
        world = make(Path(folder))
        figures = []
        for attack in chosen:
            count = attack.quick if parsed.quick else max(1, round(attack.attempts * parsed.share))
            numbers = range(count) if parsed.number is None else [parsed.number]
            figures.append(attempt_all(attack, world, numbers, parsed.seed))
    if parsed.json and parsed.json.exists():
        by_promise = {each["promise"]: each for each in [*json.loads(parsed.json.read_text()), *figures]}
        figures = [by_promise[attack.promise] for attack in ATTACKS if attack.promise in by_promise]
    table = markdown(figures, parsed.seed)
    print(table)
    if parsed.markdown:
        parsed.markdown.write_text(table + "\n")
    if parsed.json:
        parsed.json.write_text(json.dumps(figures, indent=1))
    sys.exit(any(figure["broken"] for figure in figures))


def attempt_all(attack: Attack, world: World, numbers: Sequence[int], seed: int) -> dict[str, Any]:
    """Make the attempts of an attack; print and return what broke."""
    broken: dict[int, str] = {}
    started = time.perf_counter()
    for number in numbers:
        chance = random.Random(f"{seed}, {attack.promise}, {number}")
        with tempfile.TemporaryDirectory(dir=world.folder, ignore_cleanup_errors=True) as folder:
            try:
                problem = attack.attempt(world, chance, Path(folder))
            except Exception:  # an attack that fails says nothing of the promise: it is shown, and mended
                problem = traceback.format_exc()
        if problem:
            broken[number] = problem
            print(f"BROKEN {attack.promise}, number {number}: {problem}", flush=True)
    seconds = time.perf_counter() - started
    print(f"{len(numbers) - len(broken)} of {len(numbers)} in {seconds:.0f} s: {attack.promise}", flush=True)
    return {"family": attack.family, "promise": attack.promise, "attempts": len(numbers), "broken": broken, "seconds": seconds}


def markdown(figures: Sequence[dict[str, Any]], seed: int) -> str:
    """Return the table of docs/reliability.md."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "neptune", "comet-ml"))
    lines = ["| attack | promise | attempts | held |", "| --- | --- | --- | --- |"]
    held = [figure["attempts"] - len(figure["broken"]) for figure in figures]
    lines += [f"| {figure['family']} | {figure['promise']} | {figure['attempts']:,} | {count:,} |"
              for figure, count in zip(figures, held, strict=True)]
    total = sum(figure["attempts"] for figure in figures)
    lines += [f"| | **all** | **{total:,}** | **{sum(held):,}** |", "",
              f"Seed {seed}, {time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {versions}, "
              f"{os.cpu_count()} cores, {sum(each['seconds'] for each in figures) / 60:.0f} minutes."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
