"""What a run has recorded of each series, so that a second value at a step is found: dropped where it is equal, else an error.

A series that only moves on costs one number. Steps and values are kept, sorted, from the first time that one moves back on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Points = tuple[np.ndarray, np.ndarray]  # steps int64[N], values float64[N]
_RECENT = 4_096  # points that are looked for one by one, before they are sorted in


class Differs(Exception):
    """A series has another value at a step already: (name, step, recorded value, new value)."""


class Series:
    """The points of a run's series.

    Args:
      last_steps: the last step of each series that is recorded already.
      read: returns the recorded points of one series; called where a step is not beyond the last.
      ignored: whether another value of a series is dropped in favour of the recorded one.
    """

    def __init__(self, last_steps: Mapping[str, int], read: Callable[[str], Points], ignored: Callable[[str], bool]):
        self._last, self._read, self._ignored = dict(last_steps), read, ignored
        self._sorted: dict[str, Points] = {}
        self._recent: dict[str, dict[int, float]] = {}

    def new(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """Return those of some values at a step that are not recorded. Raises Differs."""
        last = self._last
        for name in values:
            if last.get(name, -1) >= step:
                return {name: value for name, value in values.items() if not self._is_recorded(name, step, value)}
        return values

    def add(self, step: int, values: dict[str, float]) -> None:
        """Note that values were recorded."""
        for name, value in values.items():
            if step > self._last.get(name, -1):
                self._last[name] = step
            if name in self._sorted:
                recent = self._recent.setdefault(name, {})
                recent[step] = value
                if len(recent) >= _RECENT:
                    self._points(name)

    def new_rows(self, steps: np.ndarray, values: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Return rows, bool[N], and the series whose values at these steps are not recorded. Raises Differs.

        Args:
          steps: int64[N].
          values: float64[N] each.
        """
        moves_on = bool((np.diff(steps) > 0).all())
        groups: dict[bytes, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
        for name, series in values.items():
            if moves_on and (not len(steps) or self._last.get(name, -1) < steps[0]):
                rows = np.ones(len(steps), bool)
            else:
                rows = self._unrecorded(name, steps, series)
            if rows.any():
                groups.setdefault(rows.tobytes(), (rows, {}))[1][name] = series
        return list(groups.values())

    def add_rows(self, steps: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Note that rows were recorded."""
        for name, series in values.items():
            if name in self._sorted:
                self._merge(name, steps, series)
            self._last[name] = max(self._last.get(name, -1), int(steps.max()))

    def _unrecorded(self, name: str, steps: np.ndarray, series: np.ndarray) -> np.ndarray:
        """Return bool[N]: which points are new, after comparing the others with the record, and with each other."""
        order = np.argsort(steps, kind="stable")
        again = order[1:][np.diff(steps[order]) == 0]  # a step that stands twice in these rows
        first = order[:-1][np.diff(steps[order]) == 0]
        rows = np.ones(len(steps), bool)
        self._compare(name, steps[again], series[first], series[again])
        rows[again] = False
        recorded_steps, recorded_values = self._points(name)
        places = np.searchsorted(recorded_steps, steps)
        inside = places < len(recorded_steps)
        recorded = np.zeros(len(steps), bool)
        recorded[inside] = recorded_steps[places[inside]] == steps[inside]
        self._compare(name, steps[recorded], recorded_values[places[recorded]], series[recorded])
        return rows & ~recorded

    def _compare(self, name: str, steps: np.ndarray, before: np.ndarray, now: np.ndarray) -> None:
        differs = np.asarray(before, np.float64).view(np.uint64) != np.asarray(now, np.float64).view(np.uint64)
        differs &= ~(np.isnan(before) & np.isnan(now))
        if differs.any() and not self._ignored(name):
            first = int(differs.argmax())
            raise Differs(name, int(steps[first]), float(before[first]), float(now[first]))

    def _is_recorded(self, name: str, step: int, value: float) -> bool:
        if self._last.get(name, -1) < step:
            return False
        recent = self._recent.get(name, {}).get(step)
        if recent is None:
            steps, values = self._base(name)
            place = int(np.searchsorted(steps, step))
            if place == len(steps) or steps[place] != step:
                return False
            recent = float(values[place])
        self._compare(name, np.array([step]), np.array([recent]), np.array([value]))
        return True

    def _points(self, name: str) -> Points:
        self._base(name)
        if recent := self._recent.pop(name, None):
            self._merge(name, np.fromiter(recent, np.int64, len(recent)), np.fromiter(recent.values(), np.float64, len(recent)))
        return self._sorted[name]

    def _base(self, name: str) -> Points:
        """Return the sorted points of a series, without the recent ones."""
        if name not in self._sorted:
            steps, values = self._read(name) if name in self._last else (np.zeros(0, np.int64), np.zeros(0))
            order = np.argsort(steps, kind="stable")
            self._sorted[name] = steps[order], values[order]
        return self._sorted[name]

    def _merge(self, name: str, steps: np.ndarray, values: np.ndarray) -> None:
        all_steps = np.concatenate([self._sorted[name][0], steps])
        order = np.argsort(all_steps, kind="stable")
        self._sorted[name] = all_steps[order], np.concatenate([self._sorted[name][1], values])[order]
