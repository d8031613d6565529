"""Sweeps: many runs in one compiled program, over a grid of hyperparameters and seeds, or random points.

Every member is recorded and synced as a run of its own.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mnist_jax import errors
from mnist_jax.record import files, reader
from mnist_jax.tracking import protocol, receipts, sync
from mnist_jax.train import config as configs
from mnist_jax.train import experiment, fit, profile, recorder, vectorize

SEARCHES = ("grid", "random")
HYPER = ("learning_rate", "momentum", "weight_decay")  # what members may differ in, beside the seed
_SYNCED_AT_ONCE = 2  # members, after training


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """The members of a sweep: every combination of the values, or random ones, each with every seed."""

    search: str  # grid | random
    samples: int  # of a random search: log-uniform between the smallest and the largest value
    seeds: int  # seed, seed + 1, ...
    learning_rate: tuple[float, ...]  # if empty, the optimizer's own
    momentum: tuple[float, ...]
    weight_decay: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class MemberResult:
    """The result of one member."""

    directory: Path
    seed: int
    optimizer: configs.OptimizerConfig
    status: str
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True, repr=False)
class SweepResult:
    """The result of a sweep."""

    directory: Path
    members: tuple[MemberResult, ...]
    seconds: float
    sync: tuple[receipts.SyncStatus, ...]

    def __repr__(self) -> str:
        return f"<SweepResult in {str(self.directory)!r}: {self.status}, {len(self.members)} members, {self.seconds:.1f} s>"

    @property
    def status(self) -> str:
        """"finished" if every member is."""
        statuses = {member.status for member in self.members}
        return "finished" if statuses == {"finished"} else ", ".join(sorted(statuses - {"finished"}))


def sweep(config: Mapping[str, Any], *, tracker: protocol.Choice = "local", tracker_mode: str = "auto",
          workdir: str | Path | None = None, watch: bool = True, script: Sequence[str | Path] = (),
          command: Sequence[str] = (), started: float | None = None) -> SweepResult:
    """Train, evaluate and record every member of a sweep, and sync each to trackers afterwards.

    A member's directory is that of an ordinary run: it can be shown, reproduced, registered. With the `workdir` of an
    existing sweep, the members resume from their last common checkpoint. Arguments and errors are those of experiment.run.
    """
    startup = profile.Startup(started or time.time())
    experiments = member_configs(config)
    first = experiments[0]
    experiment.refuse_mistakes(first, tracker, tracker_mode)
    if jax.process_count() > 1:
        raise errors.UserError(f"expected one process to train a sweep, found {jax.process_count()}; leave --processes out")
    directory = Path(workdir) if workdir else Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{first.name}"
    width = len(str(len(experiments) - 1))
    plans = [experiment.Plan(each, path, experiment.find_existing(path, each, None) if (path / "run.json").exists() else None,
                             tags=(first.model.name, first.dataset.name, "sweep"))
             for number, each in enumerate(experiments) for path in [directory / "members" / f"{number:0{width}}"]]
    if pending := [plan for plan in plans if not plan.existing_run or plan.existing_run.status not in experiment.ENDED]:
        prepared = fit.prepare(first, [plan.existing_run for plan in pending if plan.existing_run])
        prepared = prepared._replace(program=vectorize.over_devices(prepared.program, len(pending), jax.default_backend()))
        experiment.train_runs(pending, prepared, tracker="local", tracker_mode="auto", watch=watch, startup=startup,
                              script=script, command=command, workdir=directory)
    directories = [plan.directory for plan in plans if plan.directory]
    with concurrent.futures.ThreadPoolExecutor(_SYNCED_AT_ONCE) as pool:
        statuses = pool.map(lambda path: sync.sync(path, tracker, tracker_mode), directories) if (
            protocol.destinations(tracker, tracker_mode)) else []
        sync_statuses = tuple(status for of_member in statuses for status in of_member)
    members = tuple(MemberResult(path, each.seed, each.optimizer, record.status, record.last())
                    for each, path in zip(experiments, directories, strict=True) for record in [reader.read(path)])
    files.write_atomically(directory / "sweep.json", json.dumps(summary(members), indent=1).encode())
    return SweepResult(directory, members, time.time() - startup.started, sync_statuses)


def member_configs(config: Mapping[str, Any]) -> list[configs.ExperimentConfig]:
    """Return the checked config of every member of a sweep.

    Raises:
      UserError: as from_config, and for the settings of `sweep`.
    """
    base = configs.from_config({key: config[key] for key in config if key != "sweep"})
    settings: SweepConfig = configs.build(SweepConfig, config["sweep"], "sweep.", SweepConfig)
    configs.one_of("sweep.search", settings.search, SEARCHES)
    configs.require("sweep.seeds", settings.seeds, 1 <= settings.seeds <= 10**5, "an integer from 1 to 100,000")
    values_by_name = {name: getattr(settings, name) or (getattr(base.optimizer, name),) for name in HYPER}
    if settings.search == "grid":
        configs.require("sweep.samples", settings.samples, settings.samples == 0, "0 in a grid")
        points = list(itertools.product(*values_by_name.values()))
    else:
        configs.require("sweep.samples", settings.samples, settings.samples >= 1, "1 or more")
        for name, values in values_by_name.items():
            configs.require(f"sweep.{name}", values, min(values) > 0 or len(set(values)) == 1, "values above 0, or one value")
        generator = random.Random(base.seed)
        points = [tuple(min(values) * (max(values) / min(values)) ** generator.random() if len(set(values)) > 1 else values[0]
                        for values in values_by_name.values()) for _ in range(settings.samples)]
    return [configs.check(dataclasses.replace(base, seed=base.seed + seed, optimizer=dataclasses.replace(
        base.optimizer, **dict(zip(HYPER, point, strict=True))))) for point in points for seed in range(settings.seeds)]


def summary(members: Sequence[MemberResult]) -> dict[str, Any]:
    """Return mean and 95% interval over seeds for each point of the search, best first, and the best member.

    Best is by validation accuracy, or by test accuracy where nothing is held out. The interval is Student's.
    """
    points: dict[configs.OptimizerConfig, list[MemberResult]] = {}
    for member in members:
        points.setdefault(member.optimizer, []).append(member)
    chosen_by = recorder.VALIDATION_ACCURACY if all(
        recorder.VALIDATION_ACCURACY in each.metrics for each in members) else recorder.TEST_ACCURACY
    rows = []
    for optimizer, group in points.items():
        row: dict[str, Any] = {name: getattr(optimizer, name) for name in HYPER} | {"members": len(group)}
        for name in (recorder.VALIDATION_ACCURACY, recorder.TEST_ACCURACY, recorder.TEST_LOSS):
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
