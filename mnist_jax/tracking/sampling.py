"""What a destination's documented limits leave of the metrics: a pure function of the record, never of the clock.

Only the pace depends on time, and it delays values, it never drops one.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mnist_jax import events

_LONGEST_WAIT_S = 2.0  # between two signs of life


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a destination takes; None where it states no limit."""

    values_per_metric: int | None = None
    values_per_minute: int | None = None


NONE = Limits()


class Sampler:
    """Thins every series by the place of a value in it. Feed it a record's events from the first on.

    The first half of the limit is kept whole; then ever fewer, so that a series never exceeds the limit however long it
    gets: of n values, h + h * (n - h) / n with h half the limit.
    """

    def __init__(self, most: int | None):
        self._most = most
        self._seen: collections.Counter[str] = collections.Counter()

    def __call__(self, event: events.Event) -> tuple[list[events.Event], int, int]:
        """Return what is left of an event, and how many of how many values."""
        if not isinstance(event, events.Metrics):
            return [event], 1, 1
        total = len(event.steps) * len(event.values)
        if self._most is None:
            return [event], total, total
        groups: dict[bytes, tuple[np.ndarray, list[str]]] = {}  # series that keep the same places go together
        for name in event.values:
            places = np.arange(self._seen[name], self._seen[name] + len(event.steps))
            self._seen[name] += len(event.steps)
            kept = _share(places + 1, self._most // 2) > _share(places, self._most // 2)
            groups.setdefault(kept.tobytes(), (kept, []))[1].append(name)
        parts: list[events.Event] = [
            events.Metrics(event.steps[kept], {name: event.values[name][kept] for name in names}, event.times[kept])
            for kept, names in groups.values() if kept.any()]
        return parts, sum(int(kept.sum()) * len(names) for kept, names in groups.values()), total


def _share(count: np.ndarray, half: int) -> np.ndarray:
    """Return how many of the first `count` values are kept."""
    return np.where(count <= half, count, half + half * (count - half) // np.maximum(count, 1))


class Pace:
    """Keeps the values of any minute under a limit by waiting."""

    def __init__(self, most: int | None, waiting: Callable[[float], None] = lambda _: None,
                 recent: Iterable[tuple[float, int]] = ()):
        """Make a pace.

        Args:
          most: values a minute.
          waiting: is told the seconds of each wait before it, so that nobody takes it for a stall.
          recent: (seconds ago, values) that were sent before.
        """
        self._most, self._waiting = most, waiting
        now = time.monotonic()
        self._sent = collections.deque((now - ago, count) for ago, count in recent)

    def parts(self, event: events.Event) -> Iterator[events.Event]:
        """Yield an event in parts that fit the pace, each when its time has come."""
        if self._most is None or not isinstance(event, events.Metrics) or not event.values:
            yield event
            return
        rows = max(1, self._most // 10 // len(event.values))
        for first in range(0, len(event.steps), rows):
            part = slice(first, first + rows)
            values = {name: series[part] for name, series in event.values.items()}
            self._wait(len(event.steps[part]) * len(values))
            yield events.Metrics(event.steps[part], values, event.times[part])

    def _wait(self, count: int) -> None:
        assert self._most is not None
        while True:
            now = time.monotonic()
            while self._sent and self._sent[0][0] <= now - 60:
                self._sent.popleft()
            if not self._sent or sum(sent for _, sent in self._sent) + count <= self._most:
                break
            seconds = min(_LONGEST_WAIT_S, self._sent[0][0] + 60 - now)
            self._waiting(seconds)
            time.sleep(max(0.0, seconds))
        self._sent.append((now, count))
