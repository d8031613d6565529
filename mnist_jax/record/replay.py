"""Filters the events that a resumed run records a second time: equal ones are dropped, different ones are an error.

Steps, all series but system/*, the digests of the data and the model's parameters are compared bit for bit. Of system/* and
of times the first value stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from mnist_jax import errors, events
from mnist_jax.record import reader

_NOT_COMPARED = "system/"


class Replay:
    """Filters the events of a run that resumes from before the end of its record.

    Args:
      exact: raise an error where an event differs. False where devices, threads or packages have changed: bits may then
        differ, and the recorded values stay.
    """

    def __init__(self, record: reader.RunRecord, exact: bool = True):
        self._directory, self._exact = record.directory, exact
        self._rows = {name: _sorted(np.array(steps, np.int64), np.array(values, np.float64))
                      for name, (steps, values) in record.series().items()}
        self._facts = {key: entry.event for entry in record.entries if (key := _key(entry.event))}

    def new(self, fact: events.Event) -> Iterator[events.Event]:
        """Yield the event, or the rows of it, that the record does not hold.

        Raises:
          RecordError: the record holds another value in its place.
        """
        if isinstance(fact, events.Metrics):
            yield from self._new_rows(fact)
            return
        key = _key(fact)
        before = self._facts.get(key) if key else None
        if before is not None and self._exact and (was := _digest(before)) != (now := _digest(fact)):
            raise self._divergence(getattr(fact, "step", 0), " ".join(map(str, key or ())), was, now)
        if before is None:
            yield fact

    def _new_rows(self, fact: events.Metrics) -> Iterator[events.Event]:
        groups: dict[bytes, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
        for name, values in fact.values.items():
            repeated = self._is_recorded(name, fact.steps, values)
            if not repeated.all():
                groups.setdefault(repeated.tobytes(), (~repeated, {}))[1][name] = values
        for rows, series in groups.values():
            yield events.Metrics(fact.steps[rows], {name: values[rows] for name, values in series.items()}, fact.times[rows])

    def _is_recorded(self, name: str, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return bool[N]: which steps of a series the record holds, after comparing their values."""
        recorded_steps, recorded_values = self._rows.get(name, (np.zeros(0, np.int64), np.zeros(0)))
        indices = np.searchsorted(recorded_steps, steps)
        repeated = np.zeros(len(steps), bool)
        inside = indices < len(recorded_steps)
        repeated[inside] = recorded_steps[indices[inside]] == steps[inside]
        if self._exact and not name.startswith(_NOT_COMPARED):
            before, now = recorded_values[indices[repeated]], values[repeated]
            differs = before.view(np.uint64) != now.view(np.uint64)
            if differs.any():
                first = int(differs.argmax())
                raise self._divergence(int(steps[repeated][first]), name, repr(float(before[first])), repr(float(now[first])))
        return repeated

    def _divergence(self, step: int, what: str, before: Any, now: Any) -> errors.RecordError:
        return errors.RecordError(
            f"{self._directory}: the resumed run diverges from its record at step {step}: expected {what} {before}, found "
            f"{now}; code, data or machine have changed, and nothing was recorded twice. To start from the checkpoint anyway, "
            f"train a child run: --parent={self._directory} with another --workdir")


def _sorted(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(steps, kind="stable")
    return steps[order], values[order]


def _key(fact: events.Event) -> tuple[Any, ...] | None:
    """Return what identifies an event; None for metrics, and for events that may repeat."""
    match fact:
        case events.Environment() | events.Source() | events.Hyperparameters():
            return (type(fact).__name__, repr(dataclasses.asdict(fact)))
        case events.Dataset(name, split):
            return ("dataset", name, split)
        case events.Image(name, step):
            return ("image", name, step)
        case events.Artifact(name, blob):
            return ("artifact", name, blob.sha256)
        case events.Model(name, version, step):
            return ("model", name, version, step)
        case events.Text(name, step, text):
            return ("text", name, step, text)
    return None


def _digest(fact: events.Event) -> Any:
    match fact:
        case events.Dataset(digest=digest):
            return digest
        case events.Model(metadata=metadata):
            return metadata.get("parameters_sha256")
    return None
