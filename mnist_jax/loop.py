"""The loop over the chunks of epochs: it trains, records, saves states to go on from, and stops when it is told to.

The hot path is one compiled program a chunk; metrics cross to the host once an epoch, and where a checkpoint is due.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
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
    progress,
    pytree,
    settings,
    tracked,
    train,
)

CHUNK_S = 1.0  # between two looks at the world: progress, signals
FIRST_CHUNK = 16  # updates; how fast the machine is, is not known yet


class Begun(NamedTuple):
    """Where training stands: what a checkpoint holds."""

    state: train.State
    metrics: jax.Array  # float32[steps_per_epoch, 2], loss and accuracy of the epoch so far


class Task(NamedTuple):
    """What is trained on what."""

    program: train.Program
    hyper: train.Hyper
    seed: jax.Array  # uint32[]
    data: Mapping[str, train.Data]  # "train", "validation" and "test", where there are examples, on the device


def task(program: train.Program, experiment: settings.Settings, splits: Mapping[str, data.Split]) -> Task:
    """Return the task of an experiment, its data on every device."""
    arrays: Any = {name: (split.images, split.labels) for name, split in splits.items()}
    hyper, seed, arrays = devices.everywhere(program.mesh, (
        train.hyper(experiment.optimizer), np.uint32(experiment.seed), arrays))
    return Task(program, hyper, seed, {name: train.Data(*split) for name, split in arrays.items()})


def begin(task: Task, saved: checkpoint.Checkpoint | None = None) -> tuple[Begun, int]:
    """Return where process 0's checkpoint stands, or the beginning of a run where it has none; and the updates done by then.

    Raises:
      RecordError: the checkpoint is not of this program.
    """
    step = int(devices.from_first(np.array(saved.step if saved else -1)))
    if step < 0:
        return _put(task, Begun(train.initial_state(task.program, task.hyper, task.seed), no_metrics(task))), 0
    shapes = Begun(jax.eval_shape(functools.partial(train.initial_state, task.program), task.hyper, task.seed),
                   jax.eval_shape(lambda metrics: metrics, no_metrics(task)))
    try:
        found = (pytree.restore(shapes, saved.arrays) if saved
                 else jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes))
    except ValueError as error:
        assert saved
        raise errors.RecordError(f"{saved.path}: expected a checkpoint of this program, found another: {error}") from error
    return _put(task, devices.from_first(found)), step


def train_on(run: tracked.Tracked, task: Task, begun: Begun, saver: checkpoint.Saver, *, every_s: float, first_step: int,
             last_step: int, signals: interruption.Signals, show: progress.Progress | None,
             started: float) -> tuple[train.State, str]:
    """Train to the last step, record on the way, and save what is reached; return the state and the outcome so far.

    Args:
      every_s: at least so many seconds between two checkpoints; the last state is always saved.
      first_step: updates that `begun` has behind it.
      last_step: stop there, "interrupted" if the program has more.
      started: unix time at which the program started.
    """
    program, per_epoch = task.program, task.program.steps_per_epoch
    state, metrics = begun
    step = first_step
    compiled, chunk, saved = None, FIRST_CHUNK, time.monotonic()

    def save() -> None:
        nonlocal saved
        saver.save(step, pytree.flatten(Begun(state, metrics)))
        saved = time.monotonic()

    while step < last_step:
        first, recorded = step - step % per_epoch, step
        order = train.permutation(task.data["train"].labels.shape[0], task.seed, _put(task, np.int32(step // per_epoch)))
        if step == first:
            metrics = no_metrics(task)
        if compiled is None:  # ahead of time, so that no epoch's speed counts it
            compiling = time.perf_counter()
            compiled = train.train_epoch.lower(program, task.hyper, state, metrics, task.seed, task.data["train"], order,
                                               _put(task, np.int32(0))).compile()
            compile_seconds = time.perf_counter() - compiling
            jax.block_until_ready((order, metrics, task.data))
            first_chunk = True
        seconds, marks = 0.0, [(step, time.time())]
        while step < min(first + per_epoch, last_step):
            updates = min(int(devices.from_first(np.array(chunk))), first + per_epoch - step, last_step - step)
            began = time.perf_counter()
            state, metrics, latest = compiled(task.hyper, state, metrics, task.seed, task.data["train"], order,
                                              _put(task, np.int32(updates)))
            jax.block_until_ready(latest)
            taken = time.perf_counter() - began
            if first_chunk:
                first_chunk, now = False, time.time()
                run.append(one(step + 1, now, {"system/seconds_to_first_step": now - started,
                                               "system/compile_seconds": compile_seconds}))
            step, seconds = step + updates, seconds + taken
            marks.append((step, time.time()))
            rate = updates / taken
            chunk = max(1, int(rate * CHUNK_S))
            if show:
                loss, accuracy = jax.device_get(latest)
                show(step, float(loss), float(accuracy), rate * program.batch_size)
            if step == first + per_epoch:
                break
            stop = devices.any_of(bool(signals.received)) or step == last_step
            if stop or time.monotonic() - saved >= every_s:  # what was reached inside an epoch is recorded, then saved
                run.append(rows(jax.device_get(metrics), first, recorded, marks))
                recorded = step
                save()
            if stop:
                return state, "interrupted"
        evaluation = (train.evaluate(program, state.parameters, task.data["validation"]) if "validation" in task.data
                      else None)
        fetched, scores = jax.device_get((metrics, evaluation and (evaluation.loss, evaluation.accuracy)))
        speed = (step - marks[0][0]) * program.batch_size / seconds
        run.append(rows(fetched, first, recorded, marks), *epoch_facts(step, marks[-1][1], fetched, scores, speed))
        if not np.isfinite(fetched[:, 0]).all():
            return state, "diverged"
        stop = devices.any_of(bool(signals.received))
        if stop or step == last_step or time.monotonic() - saved >= every_s:
            save()
        if stop:
            return state, "interrupted"
    return state, "finished" if step == program.steps else "interrupted"


def _put(task: Task, tree: Any) -> Any:
    return devices.everywhere(task.program.mesh, tree)


def one(step: int, now: float, values: Mapping[str, float]) -> events.Metrics:
    """Return one value of each series."""
    return events.Metrics(np.array([step]), {name: np.array([value]) for name, value in values.items()}, np.array([now]))


def no_metrics(task: Task) -> jax.Array:
    """Return the metrics of an epoch that has not begun."""
    return _put(task, np.zeros((task.program.steps_per_epoch, 2), np.float32))


def rows(metrics: np.ndarray, first: int, recorded: int, marks: list[tuple[int, float]]) -> events.Metrics:
    """Return the values of each update after `recorded`, of an epoch that began after `first`."""
    mark_steps, mark_times = zip(*marks, strict=True)
    steps = np.arange(recorded + 1, mark_steps[-1] + 1)
    loss, accuracy = metrics[recorded - first:mark_steps[-1] - first].astype(np.float64).T
    times = np.interp(steps, mark_steps, mark_times)  # one program ran between two marks
    return events.Metrics(steps, {train.TRAIN_LOSS: loss, train.TRAIN_ACCURACY: accuracy}, times)


def epoch_facts(step: int, now: float, metrics: np.ndarray, scores: Any, images_per_second: float) -> list[events.Event]:
    """Return what is recorded once an epoch: means over its updates, validation loss and accuracy, speed."""
    loss, accuracy = metrics.astype(np.float64).T
    epoch = {train.EPOCH_LOSS: float(loss.mean()), train.EPOCH_ACCURACY: float(accuracy.mean())}
    if scores is not None:
        epoch |= {train.VALIDATION_LOSS: float(scores[0]), train.VALIDATION_ACCURACY: float(scores[1])}
    return [one(step, now, epoch), one(step, now, {"system/images_per_second": images_per_second})]
