"""What a resumed run states a second time: dropped where it equals the record, refused where it does not.

Compared bit for bit are steps and every series but system/*, the digests of the data, and the model's parameters; system/*
and times are observations, and the first one stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from mnist_jax import errors, events
from mnist_jax.record import reader

_OBSERVED = "system/"


class Replay:
    """Filters the events of a run that goes on from before the end of its record.

    Args:
      exact: refuse what differs. Where devices, threads or packages are others than before, bits are not promised, and what
        the record holds stays.
    """

    def __init__(self, recorded: reader.RunRecord, exact: bool = True):
        self._directory, self._exact = recorded.directory, exact
        self._rows = {name: _sorted(np.array(steps, np.int64), np.array(values, np.float64))
                      for name, (steps, values) in recorded.series().items()}
        self._facts = {key: entry.event for entry in recorded.entries if (key := _key(entry.event))}

    def new(self, fact: events.Event) -> Iterator[events.Event]:
        """Yield what the record does not hold yet.

        Raises:
          RecordError: it holds something else in its place.
        """
        if isinstance(fact, events.Metrics):
            yield from self._new_rows(fact)
            return
        key = _key(fact)
        before = self._facts.get(key) if key else None
        if before is not None and self._exact and (was := _compared(before)) != (now := _compared(fact)):
            raise self._divergence(getattr(fact, "step", 0), " ".join(map(str, key or ())), was, now)
        if before is None:
            yield fact

    def _new_rows(self, fact: events.Metrics) -> Iterator[events.Event]:
        groups: dict[bytes, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
        for name, values in fact.values.items():
            known = self._known(name, fact.steps, values)
            if not known.all():
                groups.setdefault(known.tobytes(), (~known, {}))[1][name] = values
        for rows, series in groups.values():
            yield events.Metrics(fact.steps[rows], {name: values[rows] for name, values in series.items()}, fact.times[rows])

    def _known(self, name: str, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return bool[N]: which steps the record holds, after comparing their values."""
        recorded_steps, recorded_values = self._rows.get(name, (np.zeros(0, np.int64), np.zeros(0)))
        places = np.searchsorted(recorded_steps, steps)
        known = np.zeros(len(steps), bool)
        inside = places < len(recorded_steps)
        known[inside] = recorded_steps[places[inside]] == steps[inside]
        if self._exact and not name.startswith(_OBSERVED):
            there, here = recorded_values[places[known]], values[known]
            differing = there.view(np.uint64) != here.view(np.uint64)
            if differing.any():
                first = int(differing.argmax())
                raise self._divergence(int(steps[known][first]), name, repr(float(there[first])), repr(float(here[first])))
        return known

    def _divergence(self, step: int, what: str, there: Any, here: Any) -> errors.RecordError:
        return errors.RecordError(
            f"{self._directory}: the resumed run parts from its record at step {step}: {what} is {there} there and {here} now, "
            f"so code, data or machine have changed; nothing was recorded twice. To go on from the checkpoint all the same, "
            f"start a child: --parent={self._directory} with another --workdir")


def _sorted(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(steps, kind="stable")
    return steps[order], values[order]


def _key(fact: events.Event) -> tuple[Any, ...] | None:
    """Return what makes two facts the same one; None for metrics, and for what may be said again."""
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


def _compared(fact: events.Event) -> Any:
    match fact:
        case events.Dataset(digest=digest):
            return digest
        case events.Model(metadata=metadata):
            return metadata.get("parameters_sha256")
    return None
