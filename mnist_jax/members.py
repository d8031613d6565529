"""A population trained in one program: every member recorded as a run of its own, and delivered as such."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mnist_jax import (
    background,
    blobs,
    errors,
    experiment,
    interruption,
    population,
    receipts,
    record,
    search,
    settings,
    tracked,
    tracking,
    train,
    trainer,
)

_DELIVERIES = 2  # members delivered at once, after training


@dataclasses.dataclass(frozen=True)
class Member:
    """What one member came to."""

    directory: Path
    seed: int
    optimizer: settings.Optimizer
    outcome: str
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Result:
    directory: Path
    members: tuple[Member, ...]
    seconds: float
    deliveries: tuple[receipts.Replica, ...]

    @property
    def outcome(self) -> str:
        """"finished" if every member is."""
        outcomes = {member.outcome for member in self.members}
        return "finished" if outcomes == {"finished"} else ", ".join(sorted(outcomes - {"finished"}))


def run(config: Mapping[str, Any], *, tracker: tracking.Choice = "local", tracker_mode: str = "auto",
        workdir: str | Path | None = None, watch: bool = True, script: Sequence[str | Path] = (),
        command: Sequence[str] = (), started: float | None = None) -> Result:
    """Train, evaluate and record every member of a population, and deliver each to trackers afterwards.

    A member's directory is what `experiment.run` would have made of its settings: it can be shown, reproduced, registered.
    The same `workdir` again goes on where all members have a checkpoint. Arguments and errors are those of experiment.run.
    """
    started = started or time.time()
    everyone = search.members(config)
    trainer.refuse_mistakes(everyone[0], tracker, tracker_mode)
    if jax.process_count() > 1:
        raise errors.UserError(f"expected one process to train a population, found {jax.process_count()}; leave "
                               f"--processes out")
    directory = Path(workdir) if workdir else Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{everyone[0].name}"
    width = len(str(len(everyone) - 1))
    places = [directory / "members" / f"{number:0{width}}" for number in range(len(everyone))]
    before = [experiment.found(place, member, None) if (place / "run.json").exists() else None
              for place, member in zip(places, everyone, strict=True)]
    left = [number for number, found in enumerate(before) if not found or found.outcome not in experiment.ENDED]
    if left:
        prepared = trainer.prepare(everyone[0], [begun for begun in before if begun])
        prepared = prepared._replace(program=population.over_devices(prepared.program, len(left), jax.default_backend()))
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(interruption.Signals())
            runs: list[tracked.Tracked] = []
            stack.callback(trainer.say_interrupted, signals, runs, directory)
            for number in left:
                runs.append(stack.enter_context(tracked.track(
                    everyone[number].name, dataclasses.asdict(everyone[number]), workdir=places[number],
                    tags=(everyone[0].model.name, everyone[0].dataset.name, "population"),
                    resume=before[number] is not None, steps_per_epoch=prepared.program.steps_per_epoch, command=command,
                    script=script, created=started)))
            trainer.train_recorded(runs, [everyone[number] for number in left], prepared, signals, watch=watch,
                                      started=started)
        signals.exit()
    with concurrent.futures.ThreadPoolExecutor(_DELIVERIES) as pool:
        deliveries = pool.map(lambda place: background.deliver(place, tracker, tracker_mode), places) if (
            tracking.destinations(tracker, tracker_mode)) else []
        delivered = tuple(replica for replicas in deliveries for replica in replicas)
    found = [record.read(place) for place in places]
    members = tuple(Member(each.directory, member.seed, member.optimizer, each.outcome, each.last())
                    for each, member in zip(found, everyone, strict=True))
    result = Result(directory, members, time.time() - started, delivered)
    blobs.write_atomically(directory / "population.json", json.dumps(summary(members), indent=1).encode())
    return result


def summary(members: Sequence[Member]) -> dict[str, Any]:
    """Return mean and 95% interval over seeds for each point of the search, best first, and the best member.

    Best is by validation accuracy, or by test accuracy where nothing is held out. The interval is Student's.
    """
    points: dict[settings.Optimizer, list[Member]] = {}
    for member in members:
        points.setdefault(member.optimizer, []).append(member)
    chosen_by = train.VALIDATION_ACCURACY if all(train.VALIDATION_ACCURACY in each.metrics for each in members) else (
        train.TEST_ACCURACY)
    rows = []
    for optimizer, group in points.items():
        row: dict[str, Any] = {name: getattr(optimizer, name) for name in search.HYPER} | {"members": len(group)}
        for name in (train.VALIDATION_ACCURACY, train.TEST_ACCURACY, train.TEST_LOSS):
            values = [member.metrics[name] for member in group if name in member.metrics]
            if values:
                row[name] = {"mean": statistics.fmean(values), "interval": half_interval(values)}
        rows.append(row)
    rows.sort(key=lambda row: -row.get(chosen_by, {"mean": -1.0})["mean"])
    best = max(members, key=lambda member: member.metrics.get(chosen_by, -1.0))
    return {"members": len(members), "chosen_by": chosen_by, "points": rows,
            "best": {"directory": str(best.directory), "seed": best.seed, "metrics": dict(best.metrics)}}


def half_interval(values: Sequence[float]) -> float | None:
    """Return half the 95% confidence interval of the mean, or None for one value."""
    if len(values) < 2:
        return None
    from scipy import stats  # jax brings it

    return float(stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5)
