"""The loop over the chunks of epochs: it trains, records, saves states to go on from, and stops when it is told to.

The hot path is one compiled program a chunk; metrics cross to the host once an epoch, and where a checkpoint is due.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mnist_jax import (
    checkpoint,
    data,
    devices,
    errors,
    events,
    interruption,
    population,
    progress,
    pytree,
    settings,
    tracked,
    train,
)

CHUNK_S = 1.0  # between two looks at the world: progress, signals
FIRST_CHUNK = 16  # updates; how fast the machine is, is not known yet


class Task(NamedTuple):
    """What is trained on what, the same for all members."""

    program: train.Program
    data: Mapping[str, train.Data]  # "train", "validation" and "test", where there are examples, on every device


class Place(NamedTuple):
    """Where a member is recorded and saved."""

    run: tracked.Tracked
    saver: checkpoint.Saver


def task(program: train.Program, splits: Mapping[str, data.Split]) -> Task:
    """Return the task of a program, its data on every device."""
    arrays: Any = devices.everywhere(program.mesh, {name: (split.images, split.labels) for name, split in splits.items()})
    return Task(program, {name: train.Data(*split) for name, split in arrays.items()})


def begin(program: train.Program, experiment: settings.Settings,
          saved: checkpoint.Checkpoint | None = None) -> tuple[population.Member, int]:
    """Return a member where process 0's checkpoint stands, or at its beginning; and the updates that it has behind it.

    Raises:
      RecordError: the checkpoint is not of this program.
    """
    hyper, seed = devices.everywhere(program.mesh, (train.hyper(experiment.optimizer), np.uint32(experiment.seed)))
    step = int(devices.from_first(np.array(saved.step if saved else 0)))
    metrics = population.no_metrics(program)
    if step == 0:
        return population.Member(hyper, seed, *devices.everywhere(program.mesh, (
            train.initial_state(program, hyper, seed), metrics))), 0
    shapes = _kept(population.Member(hyper, seed, jax.eval_shape(functools.partial(train.initial_state, program), hyper, seed),
                                     metrics))
    try:
        kept = (pytree.restore(shapes, saved.arrays) if saved
                else jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes))
    except ValueError as error:
        assert saved
        raise errors.RecordError(f"{saved.path}: expected a checkpoint of this program, found another: {error}") from error
    return population.Member(hyper, seed, **devices.everywhere(program.mesh, devices.from_first(kept))), step


def train_on(places: Sequence[Place], task: Task, begun: list[population.Member], *, every_s: float, first_step: int,
             last_step: int, signals: interruption.Signals, show: progress.Progress | None,
             started: float) -> list[population.Member]:
    """Train members to the last step, record on the way, save what is reached, and set the outcomes of their runs.

    Args:
      every_s: at least so many seconds between two checkpoints; the last state is always saved.
      first_step: updates that all of `begun` have behind them.
      last_step: stop there, "interrupted" if the program has more.
      started: unix time at which the program started.
    """
    program, per_epoch = task.program, task.program.steps_per_epoch
    strategy = population.strategy(len(begun), jax.default_backend())
    members, step = strategy.gather(program, begun), first_step
    chunk, compile_s, saved = FIRST_CHUNK, 0.0, time.monotonic()

    def put(value: int) -> jax.Array:
        return devices.everywhere(program.mesh, np.int32(value))

    def save() -> None:
        nonlocal saved
        for place, member in _going(places, strategy.scatter(members)):
            place.saver.save(step, pytree.flatten(_kept(member)))
        saved = time.monotonic()

    while step < last_step:
        first, recorded = step - step % per_epoch, step
        orders = strategy.orders(members, len(task.data["train"].labels), put(step // per_epoch))
        if step == first:
            members = strategy.begin_epoch(program, members)
        if not compile_s:  # ahead of time, so that no epoch's speed counts it: no update at all
            compiling = time.perf_counter()
            members, latest = strategy.train(program, members, task.data["train"], orders, put(0))
            jax.block_until_ready((latest, task.data))
            compile_s = time.perf_counter() - compiling
        seconds, marks = 0.0, [(step, time.time())]
        while step < min(first + per_epoch, last_step):
            updates = min(int(devices.from_first(np.array(chunk))), first + per_epoch - step, last_step - step)
            began = time.perf_counter()
            members, latest = strategy.train(program, members, task.data["train"], orders, put(updates))
            jax.block_until_ready(latest)
            taken = time.perf_counter() - began
            if step == first_step:
                now = time.time()
                for place in places:
                    place.run.append(one(step + 1, now, {"system/seconds_to_first_step": now - started,
                                                         "system/compile_seconds": compile_s}))
            step, seconds = step + updates, seconds + taken
            marks.append((step, time.time()))
            rate = updates / taken
            chunk = max(1, int(rate * CHUNK_S))
            if show:
                loss, accuracy = np.mean(jax.device_get(latest), 0)
                show(step, float(loss), float(accuracy), rate * program.batch_size * len(places))
            if step == first + per_epoch:
                break
            stop = devices.any_of(bool(signals.received)) or step == last_step
            if stop or time.monotonic() - saved >= every_s:  # what was reached inside an epoch is recorded, then saved
                for place, metrics in _going(places, jax.device_get(strategy.metrics(members))):
                    place.run.append(_rows(metrics, first, recorded, marks))
                recorded = step
                save()
            if stop:
                return _ended(places, strategy.scatter(members), "interrupted")
        evaluated = strategy.evaluate(program, members, task.data["validation"]) if "validation" in task.data else None
        speed = (step - marks[0][0]) * program.batch_size * len(places) / seconds
        fetched, scores = jax.device_get((strategy.metrics(members), evaluated))
        for place, (metrics, score) in _going(places, zip(fetched, scores or [None] * len(places), strict=True)):
            place.run.append(_rows(metrics, first, recorded, marks), *_epoch(step, marks[-1][1], metrics, score, speed))
            if not np.isfinite(metrics[:, 0]).all():
                place.run.outcome = "diverged"
        stop = devices.any_of(bool(signals.received))
        if stop or step == last_step or time.monotonic() - saved >= every_s:
            save()
        if stop or not any(_going(places, places)):
            return _ended(places, strategy.scatter(members), "interrupted")
    return _ended(places, strategy.scatter(members), "finished" if step == program.steps else "interrupted")


def one(step: int, now: float, values: Mapping[str, float]) -> events.Metrics:
    """Return one value of each series."""
    return events.Metrics(np.array([step]), {name: np.array([value]) for name, value in values.items()}, np.array([now]))


def _kept(member: population.Member) -> dict[str, Any]:
    """Return what a checkpoint holds of a member; hyperparameters and seed are those of its config."""
    return {"state": member.state, "metrics": member.metrics}


def _going(places: Sequence[Place], things: Iterable[Any]) -> Iterator[tuple[Place, Any]]:
    """Yield what belongs to the members that have not diverged."""
    return ((place, thing) for place, thing in zip(places, things, strict=True) if place.run.outcome != "diverged")


def _ended(places: Sequence[Place], members: list[population.Member], outcome: str) -> list[population.Member]:
    for place, _ in _going(places, places):
        place.run.outcome = outcome
    return members


def _rows(metrics: np.ndarray, first: int, recorded: int, marks: list[tuple[int, float]]) -> events.Metrics:
    """Return the values of each update after `recorded`, of an epoch that began after `first`."""
    mark_steps, mark_times = zip(*marks, strict=True)
    steps = np.arange(recorded + 1, mark_steps[-1] + 1)
    loss, accuracy = metrics[recorded - first:mark_steps[-1] - first].astype(np.float64).T
    times = np.interp(steps, mark_steps, mark_times)  # one program ran between two marks
    return events.Metrics(steps, {train.TRAIN_LOSS: loss, train.TRAIN_ACCURACY: accuracy}, times)


def _epoch(step: int, now: float, metrics: np.ndarray, scores: Any, images_per_second: float) -> list[events.Event]:
    """Return what is recorded once an epoch: means over its updates, validation loss and accuracy, speed."""
    loss, accuracy = metrics.astype(np.float64).T
    epoch = {train.EPOCH_LOSS: float(loss.mean()), train.EPOCH_ACCURACY: float(accuracy.mean())}
    if scores is not None:
        epoch |= {train.VALIDATION_LOSS: float(scores[0]), train.VALIDATION_ACCURACY: float(scores[1])}
    return [one(step, now, epoch), one(step, now, {"system/images_per_second": images_per_second})]
