"""Records the chunks of training as events: metrics of every update, means and validation of every epoch, and speed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnist_jax import events
from mnist_jax.tracking import run as tracking_run
from mnist_jax.train import loop

# split/quantity, each defined once
TRAIN_LOSS, TRAIN_ACCURACY = "train/loss", "train/accuracy"  # a value a step
EPOCH_LOSS, EPOCH_ACCURACY = "train/epoch_loss", "train/epoch_accuracy"  # a value an epoch, and so the next two
VALIDATION_LOSS, VALIDATION_ACCURACY = "validation/loss", "validation/accuracy"
TEST_LOSS, TEST_ACCURACY = "test/loss", "test/accuracy"  # once, at the end


class Recorder:
    """Records the chunks of runs that train together; a run whose loss is no longer finite is "diverged" from then on.

    Args:
      first_step: completed updates of all runs.
      started: unix time at which the program started.
    """

    def __init__(self, runs: Sequence[tracking_run.Run], steps_per_epoch: int, batch_size: int, first_step: int,
                 started: float):
        self._runs, self._per_epoch, self._started = runs, steps_per_epoch, started
        self._images_a_step = batch_size * len(runs)
        self._first_step = self._recorded = first_step
        self._marks: list[tuple[int, float]] = []  # (step, unix seconds) since the last row recorded
        self._epoch_steps, self._epoch_s = 0, 0.0

    def add(self, chunk: loop.Chunk) -> None:
        """Add a chunk to the next record; the first one records the time of the first update at once."""
        now = time.time()
        self._marks = self._marks or [(chunk.step - chunk.updates, chunk.began)]
        self._marks.append((chunk.step, now))
        self._epoch_steps, self._epoch_s = self._epoch_steps + chunk.updates, self._epoch_s + chunk.seconds
        if chunk.step - chunk.updates == self._first_step:
            for run in self._runs:
                run.append(single_values(self._first_step + 1, now, {"system/seconds_to_first_step": now - self._started,
                                                           "system/compile_seconds": chunk.compile_s}))

    def record(self, step: int, metrics: Sequence[np.ndarray], scores: Sequence[Any] | None) -> None:
        """Record every update up to `step` that is not recorded yet; and the epoch, where it ends there.

        Args:
          metrics: float32[steps_per_epoch, 2] of each run, loss and accuracy of the epoch so far.
          scores: validation loss and accuracy of each run, where there is validation.
        """
        ends_epoch = step % self._per_epoch == 0
        for number, run in enumerate(self._runs):
            if run.status == "diverged":
                continue
            facts = [self._rows(step, metrics[number])]
            if ends_epoch:
                facts += self._epoch(step, metrics[number], scores[number] if scores else None)
            run.append(*facts)
            if ends_epoch and not np.isfinite(metrics[number][:, 0]).all():
                run.status = "diverged"
        self._recorded, self._marks = step, self._marks[-1:]
        if ends_epoch:
            self._marks, self._epoch_steps, self._epoch_s = [], 0, 0.0

    def _rows(self, step: int, metrics: np.ndarray) -> events.Metrics:
        steps = np.arange(self._recorded + 1, step + 1)
        epoch_start = self._recorded - self._recorded % self._per_epoch
        loss, accuracy = metrics[self._recorded - epoch_start:step - epoch_start].astype(np.float64).T
        mark_steps, mark_times = zip(*self._marks, strict=True)
        times = np.interp(steps, mark_steps, mark_times)  # one program ran between two marks
        return events.Metrics(steps, {TRAIN_LOSS: loss, TRAIN_ACCURACY: accuracy}, times)

    def _epoch(self, step: int, metrics: np.ndarray, scores: Any) -> list[events.Metrics]:
        loss, accuracy = metrics.astype(np.float64).T
        epoch = {EPOCH_LOSS: float(loss.mean()), EPOCH_ACCURACY: float(accuracy.mean())}
        if scores is not None:
            epoch |= {VALIDATION_LOSS: float(scores[0]), VALIDATION_ACCURACY: float(scores[1])}
        now, speed = self._marks[-1][1], self._epoch_steps * self._images_a_step / self._epoch_s
        return [single_values(step, now, epoch), single_values(step, now, {"system/images_per_second": speed})]


def single_values(step: int, now: float, values: Mapping[str, float]) -> events.Metrics:
    """Return one value of each series."""
    return events.Metrics(np.array([step]), {name: np.array([value]) for name, value in values.items()}, np.array([now]))
