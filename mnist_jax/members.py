"""A population trained in one program: every member recorded as a run of its own, and delivered as such."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mnist_jax import (
    background,
    blobs,
    checkpoint,
    data,
    evaluation,
    events,
    experiment,
    interruption,
    loop,
    population,
    progress,
    provenance,
    pytree,
    receipts,
    record,
    settings,
    tracked,
    tracking,
    train,
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
    everyone = settings.members(config)
    provenance.refuse_secrets(dict(settings.flatten(dataclasses.asdict(everyone[0]))))
    tracking.destinations(tracker, tracker_mode)
    directory = Path(workdir) if workdir else Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{everyone[0].name}"
    width = len(str(len(everyone) - 1))
    places = [directory / "members" / f"{number:0{width}}" for number in range(len(everyone))]
    before = [experiment.found(place, member, None) if (place / "run.json").exists() else None
              for place, member in zip(places, everyone, strict=True)]
    left = [number for number, found in enumerate(before) if not found or found.outcome not in ("finished", "diverged")]
    if left:
        splits = data.load(everyone[0].dataset)
        settings.check_examples(everyone[0], len(splits.train))
        facts = experiment.data_facts(everyone[0], splits)
        for number in left:
            if begun := before[number]:
                experiment.same_data(begun, facts)
        with interruption.Signals() as signals, contextlib.ExitStack() as stack:
            program = train.program(everyone[0], len(splits.train), jax.default_backend())._replace(mesh=None)
            runs = [stack.enter_context(tracked.track(
                everyone[number].name, dataclasses.asdict(everyone[number]), workdir=places[number],
                tags=(everyone[0].model.name, everyone[0].dataset.name, "population"), resume=before[number] is not None,
                steps_per_epoch=program.steps_per_epoch, command=command, script=script, created=started)) for number in left]
            _train(runs, [everyone[number] for number in left], program, splits, facts, signals, started, watch)
        if signals.received:
            print(f"interrupted; the same command with --workdir={directory} goes on", file=sys.stderr)
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
        row: dict[str, Any] = {name: getattr(optimizer, name) for name in settings.HYPER} | {"members": len(group)}
        for name in (train.VALIDATION_ACCURACY, train.TEST_ACCURACY, train.TEST_LOSS):
            values = [member.metrics[name] for member in group if name in member.metrics]
            if values:
                row[name] = {"mean": statistics.fmean(values), "interval": _half_interval(values)}
        rows.append(row)
    rows.sort(key=lambda row: -row.get(chosen_by, {"mean": -1.0})["mean"])
    best = max(members, key=lambda member: member.metrics.get(chosen_by, -1.0))
    return {"members": len(members), "chosen_by": chosen_by, "points": rows,
            "best": {"directory": str(best.directory), "seed": best.seed, "metrics": dict(best.metrics)}}


def _half_interval(values: Sequence[float]) -> float | None:
    """Return half the 95% confidence interval of the mean, or None for one value."""
    if len(values) < 2:
        return None
    from scipy import stats  # jax brings it

    return float(stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5)


def _train(runs: list[tracked.Tracked], experiments: list[settings.Settings], program: train.Program, splits: data.Splits,
           facts: list[events.Dataset], signals: interruption.Signals, started: float, watch: bool) -> None:
    """Train members to the end, record everything on the way, and set their outcomes."""
    shared = loop.task(program, experiments[0], {fact.split: getattr(splits, fact.split) for fact in facts}).data
    tasks = [loop.task(program, each, {})._replace(data=shared) for each in experiments]
    for run in runs:
        run.append(*facts)
    reached = [experiment.reached(record.read(run.directory)) for run in runs]
    saved, damaged = checkpoint.common([run.directory for run in runs], reached)
    for line in damaged:
        print(f"warning: {line}; going on from the ones before", file=sys.stderr)
    members = [loop.begin(task, each)[0] for task, each in zip(tasks, saved, strict=True)] if saved else []
    with contextlib.ExitStack() as stack:
        savers = [stack.enter_context(checkpoint.saving(run.directory, run.run.id, each.checkpoint.keep))
                  for run, each in zip(runs, experiments, strict=True)]
        with signals.deferred():
            states = _epochs(runs, tasks, members, saved[0].step if saved else 0, savers, experiments[0].checkpoint.every_s,
                             signals, started, progress.bar(program.steps, program.steps_per_epoch) if watch else None)
    for number, (run, each, task) in enumerate(zip(runs, experiments, tasks, strict=True)):
        if run.outcome == "finished":
            evaluation.record_all(run, each, task, splits, population.take(states, number))


def _epochs(runs: list[tracked.Tracked], tasks: list[loop.Task], members: list[loop.Begun], step: int,
            savers: list[checkpoint.Saver], every_s: float, signals: interruption.Signals, started: float,
            show: progress.Progress | None) -> train.State:
    """Train from `step` on; as loop.train_on, for all members at once."""
    program, on_device = tasks[0].program, tasks[0].data
    per_epoch, everyone = program.steps_per_epoch, len(runs)
    hyper, seeds = population.stack([task.hyper for task in tasks]), population.stack([task.seed for task in tasks])
    nothing = jax.device_put(np.zeros((everyone, per_epoch, 2), np.float32))
    states, metrics = population.stack(members) if members else (population.initial_states(program, hyper, seeds), nothing)
    vmapped = population.side_by_side(jax.default_backend())
    chunk, saved, first_chunk = loop.FIRST_CHUNK, time.monotonic(), True

    def save() -> None:
        nonlocal saved
        host = jax.device_get(loop.Begun(states, metrics))
        for number, saver in enumerate(savers):
            if runs[number].outcome != "diverged":
                saver.save(step, pytree.flatten(population.take(host, number)))
        saved = time.monotonic()

    def record_rows(first: int, since: int, marks: list[tuple[int, float]], fetched: np.ndarray) -> None:
        for run, values in zip(runs, fetched, strict=True):
            if run.outcome != "diverged":
                run.append(loop.rows(values, first, since, marks))

    while step < program.steps:
        first, recorded = step - step % per_epoch, step
        orders = population.permutations(on_device["train"].labels.shape[0], seeds,
                                         jax.device_put(np.int32(step // per_epoch)))
        if step == first:
            metrics = jax.device_put(np.zeros((everyone, per_epoch, 2), np.float32))
        seconds, marks = 0.0, [(step, time.time())]
        while step < first + per_epoch:
            updates = min(chunk, first + per_epoch - step)
            began = time.perf_counter()
            states, metrics, latest = population.train_epoch(program, vmapped, hyper, states, metrics, seeds,
                                                             on_device["train"], orders, jax.device_put(np.int32(updates)))
            jax.block_until_ready(latest)
            taken = time.perf_counter() - began
            if first_chunk:  # it holds the compilation, too
                first_chunk, now = False, time.time()
                for run in runs:
                    run.append(loop.one(step + 1, now, {"system/seconds_to_first_step": now - started}))
            else:
                chunk = max(1, int(updates / taken * loop.CHUNK_S))
            step, seconds = step + updates, seconds + taken
            marks.append((step, time.time()))
            if show:
                loss, accuracy = jax.device_get(latest).mean(0)
                show(step, float(loss), float(accuracy), updates / taken * program.batch_size * everyone)
            if step == first + per_epoch:
                break
            if signals.received or time.monotonic() - saved >= every_s:
                record_rows(first, recorded, marks, jax.device_get(metrics))
                recorded = step
                save()
            if signals.received:
                return _interrupt(runs, states)
        scores: Any = [None] * everyone
        if "validation" in on_device:
            evaluated = population.evaluate(program, states.parameters, on_device["validation"], everyone)
            scores = np.stack(jax.device_get((evaluated.loss, evaluated.accuracy)), -1)
        fetched = jax.device_get(metrics)
        record_rows(first, recorded, marks, fetched)
        speed = (step - marks[0][0]) * program.batch_size * everyone / seconds
        for run, values, score in zip(runs, fetched, scores, strict=True):
            if run.outcome != "diverged":
                run.append(*loop.epoch_facts(step, marks[-1][1], values, score, speed))
                if not np.isfinite(values[:, 0]).all():
                    run.outcome = "diverged"
        if signals.received or step == program.steps or time.monotonic() - saved >= every_s:
            save()
        if signals.received:
            return _interrupt(runs, states)
    return states


def _interrupt(runs: list[tracked.Tracked], states: train.State) -> train.State:
    for run in runs:
        if run.outcome != "diverged":
            run.outcome = "interrupted"
    return states
