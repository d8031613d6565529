"""What a run states a second time: dropped where it equals what is recorded, an error where it does not.

Within a run that is the second value of a series at a step. A resumed run states all that it recorded after its checkpoint
again: steps, series, the digests of the data and the model's parameters are compared bit for bit. Series that depend on the
clock are not compared: of them the first value stays.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.record import reader, series


class Replay:
    """The events that a run has recorded.

    Args:
      record: what a resumed run had recorded before; None for a new run.
      exact: raise an error where an event differs from the record. False where devices, threads or packages have changed: bits
        may then differ, and the recorded values stay.
    """

    def __init__(self, directory: Path, run: events.RunInfo, record: reader.RunRecord | None = None, exact: bool = True):
        self._directory, self._resumed, self._exact, self._run = directory, record is not None, exact, run
        points = record.series() if record else {}
        self._facts = {key: fact for fact in record.facts for key in [_key(fact)] if key} if record else {}
        self._series = series.Series({name: int(steps.max()) for name, (steps, _) in points.items()},
                                     lambda name: points[name] if name in points and not self._grown else self._read(name),
                                     self._is_ignored)
        self._grown = False

    def new_values(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """Return those of some values at a step that are not recorded.

        Raises:
          UserError, in a resumed run RecordError: another value is recorded in place of one.
        """
        try:
            return self._series.new(step, values)
        except series.Differs as error:
            raise self._error(*error.args) from None

    def add_values(self, step: int, values: dict[str, float]) -> None:
        """Note that values were recorded."""
        self._grown = True
        self._series.add(step, values)

    def new(self, fact: events.AnyEvent) -> Iterator[events.AnyEvent]:
        """Yield the event, or the rows of it, that are not recorded. Errors are those of new_values."""
        if isinstance(fact, events.Metrics):
            try:
                groups = self._series.new_rows(fact.steps, fact.values) if len(fact.steps) else []
            except series.Differs as error:
                raise self._error(*error.args) from None
            for rows, values in groups:
                yield events.Metrics(fact.steps[rows], {name: points[rows] for name, points in values.items()},
                                     fact.times[rows])
            return
        key = _key(fact)
        before = self._facts.get(key) if key else None
        if before is not None and self._exact and (was := _digest(before)) != (now := _digest(fact)):
            raise self._divergence(getattr(fact, "step", 0), " ".join(map(str, key or ())), was, now)
        if before is None:
            yield fact

    def add(self, fact: events.AnyEvent) -> None:
        """Note that an event was recorded."""
        if isinstance(fact, events.Metrics) and len(fact.steps):
            self._grown = True
            self._series.add_rows(fact.steps, fact.values)

    def _read(self, name: str) -> series.Points:
        return reader.points(self._directory, name)

    def _is_ignored(self, name: str) -> bool:
        ignored = any(fnmatch.fnmatchcase(name, pattern) for pattern in self._run.nondeterministic)
        return ignored or (self._resumed and not self._exact)

    def _error(self, name: str, step: int, before: float, now: float) -> Exception:
        if self._resumed:
            return self._divergence(step, name, repr(before), repr(now))
        return errors.UserError(f"{name!r}: expected one value at a step, found {now!r} at step {step}, where {before!r} is "
                                f"recorded; log it at another step or under another name")

    def _divergence(self, step: int, what: str, before: Any, now: Any) -> errors.RecordError:
        return errors.RecordError(
            f"{self._directory}: the resumed run diverges from its record at step {step}: expected {what} {before}, found "
            f"{now}; code, data or machine have changed, and nothing was recorded twice. To start from the checkpoint anyway, "
            f"train a child run: --parent={self._directory} with another --workdir")


def _key(fact: events.AnyEvent) -> tuple[Any, ...] | None:
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


def _digest(fact: events.AnyEvent) -> Any:
    match fact:
        case events.Dataset(digest=digest):
            return digest
        case events.Model(metadata=metadata):
            return metadata.get("parameters_sha256")
    return None
