"""Reads the record of a run: the whole, or event by event while it grows."""

from __future__ import annotations

import array
import dataclasses
import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np

from mnist_jax import errors, events
from mnist_jax.record import blobs, journal, run_file


@dataclasses.dataclass(frozen=True)
class Entry:
    """An event as recorded: its sequence number from 0, and the unix time of the append."""

    sequence: int
    time: float
    event: events.Event


Series = tuple[np.ndarray, np.ndarray]  # steps int64[N], values float64[N]


@dataclasses.dataclass(frozen=True, repr=False)
class RunRecord:
    """The record of a run: its identity, its status (also "running" and "killed"), and its entries in order."""

    directory: Path
    run: events.RunInfo
    status: str
    entries: list[Entry]
    digest: str  # of the last line read

    def __repr__(self) -> str:
        return (f"<RunRecord {self.run.name!r} in {str(self.directory)!r}: {self.status}, {self.steps:,} steps, "
                f"{len(self.entries):,} events>")

    def _repr_html_(self) -> str:
        rows = [("run", f"{self.run.name}  {self.run.id}"), ("directory", self.directory), ("status", self.status),
                ("steps", f"{self.steps:,}"), *((name, f"{value:.6g}") for name, value in sorted(self.last().items()))]
        cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows)
        return f"<table>{''.join(cells)}</table>"

    @property
    def config(self) -> Mapping[str, Any]:
        """The config that the run started with."""
        return self.run.config

    @property
    def steps(self) -> int:
        """The last step of any metric."""
        return max((int(fact.steps.max()) for fact in self.of(events.Metrics) if len(fact.steps)), default=0)

    @property
    def facts(self) -> list[events.Event]:
        """The events but metrics, in order."""
        return [entry.event for entry in self.entries if not isinstance(entry.event, events.Metrics)]

    def of(self, kind: type) -> list[Any]:
        """Return the events of one kind, in order."""
        return [entry.event for entry in self.entries if isinstance(entry.event, kind)]

    @overload
    def series(self) -> dict[str, Series]: ...

    @overload
    def series(self, name: str) -> Series: ...

    def series(self, name: str | None = None) -> dict[str, Series] | Series:
        """Return the steps, int64[N], and values, float64[N], of one metric; without a name, of every metric by name.

        Raises:
          KeyError: no metric has that name.
        """
        pieces: dict[str, list[Series]] = {}
        for metrics in self.of(events.Metrics):
            for each, values in metrics.values.items():
                if name in (None, each):
                    pieces.setdefault(each, []).append((metrics.steps, values))
        series = {each: (np.concatenate([steps for steps, _ in group]), np.concatenate([values for _, values in group]))
                  for each, group in pieces.items()}
        return series if name is None else series[name]

    def last(self) -> dict[str, float]:
        """Return the last value of every metric."""
        return {name: float(values[-1]) for fact in self.of(events.Metrics) if len(fact.steps)
                for name, values in fact.values.items()}

    def bytes_of(self, blob: events.Blob) -> bytes:
        """Return a blob's bytes. Raises RecordError if they are missing or do not match its digest."""
        return blobs.read(self.directory, blob)


def read(directory: Path | str) -> RunRecord:
    """Read the record of a run.

    Raises:
      UserError: the directory holds no run.
      RecordError: the record is damaged.
    """
    directory = Path(directory)
    fields = run_file.read(directory)
    follower = Follower(directory)
    entries = list(follower.new())
    sealed = fields.get("events")
    if sealed and fields["status"] != "running" and (len(entries), follower.digest) != (sealed["count"], sealed["sha256"]):
        raise errors.RecordError(f"{directory / 'events.jsonl'}: expected the {sealed['count']} events that run.json "
                                 f"seals, found {len(entries)} with another last digest")
    return RunRecord(directory, run_file.run(fields), status_of(directory, fields), entries, follower.digest)


class Follower:
    """Reads a record that may still grow; each call of `new` yields the entries since the last."""

    def __init__(self, directory: Path):
        self._reader = journal.JournalReader(directory / "events.jsonl")

    @property
    def digest(self) -> str:
        """The digest of the last line read."""
        return self._reader.digest

    def new(self) -> Iterator[Entry]:
        """Yield each new complete entry. Raises RecordError at a damaged line."""
        for fields in self._reader.new():
            try:
                entry = Entry(fields["sequence"], fields["time"], events.from_json(fields["kind"], fields["event"]))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise errors.RecordError(f"{self._reader.path}, line {self._reader.count}: damaged: {error}") from error
            yield entry


def status_of(directory: Path, fields: dict[str, Any]) -> str:
    """Return the status of a run; one that is "running" in run.json but has no live writer was "killed"."""
    if fields["status"] == "running" and not journal.is_locked(directory / "events.jsonl"):
        return "killed"
    return fields["status"]


def points(directory: Path, name: str) -> Series:
    """Return the points of one series that are recorded by now. Raises RecordError."""
    steps, values = array.array("q"), array.array("d")
    for entry in Follower(directory).new():
        if isinstance(entry.event, events.Metrics) and name in entry.event.values:
            steps.frombytes(entry.event.steps.tobytes())
            values.frombytes(entry.event.values[name].tobytes())
    return np.array(steps, np.int64), np.array(values, np.float64)
