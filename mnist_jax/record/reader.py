"""Reads the record of a run: the whole, or event by event while it grows."""

from __future__ import annotations

import dataclasses
import functools
import html
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

from mnist_jax import errors, events
from mnist_jax.record import blobs, columns, journal, run_file


@dataclasses.dataclass(frozen=True)
class Entry:
    """An event as recorded: its sequence number from 0, and the unix time of the append."""

    sequence: int
    time: float
    event: events.AnyEvent


@dataclasses.dataclass(frozen=True, repr=False)
class RunRecord:
    """A run as read from its record: identity, status ("running" and "killed" among them), events and series."""

    directory: Path
    run: events.RunInfo
    status: str
    others: list[Entry]  # every event but metrics, in order
    folded: columns.Columns  # the metrics

    def __repr__(self) -> str:
        return (f"<RunRecord {self.run.name!r} in {str(self.directory)!r}: {self.status}, {self.steps:,} steps, "
                f"{self.count:,} events>")

    def _repr_html_(self) -> str:
        rows = [("run", f"{self.run.name}  {self.run.id}"), ("directory", self.directory), ("status", self.status),
                ("steps", f"{self.steps:,}"), *((name, f"{value:.6g}") for name, value in sorted(self.last().items()))]
        cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows)
        return f"<table>{''.join(cells)}</table>"

    @property
    def config(self) -> Mapping[str, Any]:
        """The config that the run began with."""
        return self.run.config

    @property
    def count(self) -> int:
        """The number of events."""
        return self.folded.count

    @property
    def digest(self) -> str:
        """The digest of the last event."""
        return self.folded.digest

    @functools.cached_property
    def steps(self) -> int:
        """The last step of any metric."""
        return max((int(steps.max()) for steps, _ in self.series().values()), default=0)

    @functools.cached_property
    def entries(self) -> list[Entry]:
        """Every event as it was recorded, in order. Those of metrics are read from the journal again."""
        return list(itertools.islice(Follower(self.directory).new(), self.count)) if self.count else []

    @property
    def facts(self) -> list[events.AnyEvent]:
        """Every event but metrics, in order."""
        return [entry.event for entry in self.others]

    def of(self, kind: type) -> list[Any]:
        """Return the events of one kind, in order."""
        entries = self.entries if issubclass(events.Metrics, kind) else self.others
        return [entry.event for entry in entries if isinstance(entry.event, kind)]

    @overload
    def series(self) -> dict[str, columns.Points]: ...

    @overload
    def series(self, name: str) -> columns.Points: ...

    def series(self, name: str | None = None) -> dict[str, columns.Points] | columns.Points:
        """Return the steps, int64[N], and values, float64[N], of one metric; without a name, of every metric by name.

        Raises:
          KeyError: no metric has that name.
        """
        if name is not None:
            return self.folded.points(name)
        return {name: self.folded.points(name) for name in self.folded.names()}

    def last(self) -> dict[str, float]:
        """Return the last value of every metric."""
        return {name: float(values[-1]) for name, (_, values) in self.series().items()}

    def bytes_of(self, blob: events.Blob) -> bytes:
        """Return a blob's bytes. Raises RecordError if they are missing or do not match its digest."""
        return blobs.read(self.directory, blob)


def read(directory: Path | str, salvage: bool = False) -> RunRecord:
    """Read the record of a run.

    Args:
      salvage: read a damaged journal up to the damage, whatever run.json says of it; the status is then "damaged".

    Raises:
      UserError: the directory holds no run.
      RecordError: the record is damaged.
    """
    directory = Path(directory)
    fields = run_file.read(directory)
    path, status, folded = directory / "events.jsonl", status_of(directory, fields), columns.Columns()
    others: list[Entry] = []
    try:
        if not salvage:
            folded = columns.load(directory)
            cached = folded.size
            others += [_entry(path, each) for each in folded.other_lines(path)]
        others += [_entry(path, each) for each in folded.read(path)]
        sealed = fields.get("events")
        if sealed and fields["status"] != "running" and (folded.count, folded.digest) != (sealed["count"], sealed["sha256"]):
            raise errors.RecordError(f"{path}: damaged: expected the {sealed['count']} events that run.json seals, found "
                                     f"{folded.count} with another last digest")
        if not salvage and folded.size - cached >= columns.CACHED_FROM:
            columns.save(directory, folded)
    except errors.RecordError as error:
        if not salvage:
            raise errors.RecordError(f"{error}; what is whole can be read: mnist-jax show --salvage {directory}") from error
        status = "damaged"
    return RunRecord(directory, run_file.run(fields), status, others, folded)


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
            yield _entry(self._reader.path, fields)


def status_of(directory: Path, fields: dict[str, Any]) -> str:
    """Return the status of a run; one that is "running" in run.json but has no live writer was "killed"."""
    if fields["status"] == "running" and not journal.is_locked(directory / "events.jsonl"):
        return "killed"
    return fields["status"]


def _entry(path: Path, fields: dict[str, Any]) -> Entry:
    try:
        return Entry(fields["sequence"], float(fields["time"]), events.from_json(fields["kind"], fields["event"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise errors.RecordError(f"{path}, line {fields['sequence'] + 1}: damaged: {error}") from error


def points(directory: Path, name: str) -> columns.Points:
    """Return the points of one series that are recorded by now. Raises KeyError or RecordError."""
    folded = columns.load(directory)
    for _ in folded.read(directory / "events.jsonl"):
        pass
    return folded.points(name)
