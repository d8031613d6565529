"""Samples metrics to a destination's documented limits: a pure function of the record, not of the clock.

Only the rate limiter depends on time; it delays values and never drops one.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mnist_jax import events

_LONGEST_WAIT_S = 2.0  # between two entries in the log


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a destination; None where it documents none."""

    values_per_metric: int | None = None
    values_per_minute: int | None = None


NONE = Limits()


class Sampler:
    """Samples every series by the index of its values. Call it with every event of a record, from the first.

    Values up to half the limit are all kept, then ever fewer, so that a series never exceeds the limit however long it
    gets: of n values, h + h * (n - h) / n with h half the limit.
    """

    def __init__(self, limit: int | None):
        self._limit = limit
        self._counts: collections.Counter[str] = collections.Counter()

    def __call__(self, event: events.Event) -> tuple[list[events.Event], int, int]:
        """Return the sample of an event, the number of values in it, and their number before."""
        if not isinstance(event, events.Metrics):
            return [event], 1, 1
        total = len(event.steps) * len(event.values)
        if self._limit is None:
            return [event], total, total
        groups: dict[bytes, tuple[np.ndarray, list[str]]] = {}  # series that keep the same rows, together
        for name in event.values:
            indices = np.arange(self._counts[name], self._counts[name] + len(event.steps))
            self._counts[name] += len(event.steps)
            rows = _sample_size(indices + 1, self._limit // 2) > _sample_size(indices, self._limit // 2)
            groups.setdefault(rows.tobytes(), (rows, []))[1].append(name)
        sample: list[events.Event] = [
            events.Metrics(event.steps[rows], {name: event.values[name][rows] for name in names}, event.times[rows])
            for rows, names in groups.values() if rows.any()]
        return sample, sum(int(rows.sum()) * len(names) for rows, names in groups.values()), total


def _sample_size(count: np.ndarray, half: int) -> np.ndarray:
    """Return how many of the first `count` values are in the sample."""
    return np.where(count <= half, count, half + half * (count - half) // np.maximum(count, 1))


class RateLimiter:
    """Limits the values of any minute by waiting.

    Args:
      limit: values a minute.
      waiting: called with the seconds of each wait before it, so that it can be told from a stall.
      recent: (seconds ago, values) that were sent before.
    """

    def __init__(self, limit: int | None, waiting: Callable[[float], None] = lambda _: None,
                 recent: Iterable[tuple[float, int]] = ()):
        self._limit, self._waiting = limit, waiting
        now = time.monotonic()
        self._sent = collections.deque((now - ago, count) for ago, count in recent)

    def pieces(self, event: events.Event) -> Iterator[events.Event]:
        """Yield an event in pieces that fit the limit, each as soon as it may be sent."""
        if self._limit is None or not isinstance(event, events.Metrics) or not event.values:
            yield event
            return
        size = max(1, self._limit // 10 // len(event.values))
        for first in range(0, len(event.steps), size):
            rows = slice(first, first + size)
            values = {name: series[rows] for name, series in event.values.items()}
            self._wait(len(event.steps[rows]) * len(values))
            yield events.Metrics(event.steps[rows], values, event.times[rows])

    def _wait(self, count: int) -> None:
        assert self._limit is not None
        while True:
            now = time.monotonic()
            while self._sent and self._sent[0][0] <= now - 60:
                self._sent.popleft()
            if not self._sent or sum(values for _, values in self._sent) + count <= self._limit:
                break
            seconds = min(_LONGEST_WAIT_S, self._sent[0][0] + 60 - now)
            self._waiting(seconds)
            time.sleep(max(0.0, seconds))
        self._sent.append((now, count))
