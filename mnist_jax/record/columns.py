"""The series of a record as columns, folded from its lines; and a cache of them in a file that may be deleted at any time.

A cache is used where the journal still has, at the offset up to which it was folded, the digest that it was folded at; lines
that were appended since are read from there on. The bytes before that offset are not read again: `verify` reads them all.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax import errors, events
from mnist_jax.record import files, journal

FILE = "columns.bin"
CACHED_FROM = 2**20  # bytes of a journal; a smaller one is read sooner than its cache
_MAGIC = b"mnist_jax columns 1\n"
_LIMIT = 2**34  # bytes
Points = tuple[np.ndarray, np.ndarray]  # steps int64[N], values float64[N]


class Columns:
    """Series by name, and where the lines lie that hold other events; `count`, `digest` and `size` say how far it was read."""

    def __init__(self) -> None:
        self.count, self.digest, self.size = 0, "", 0
        self._series: dict[str, tuple[array.array, array.array, array.array]] = {}  # steps, values, unix times
        self._lines = array.array("q")  # offset, length and number of each line that holds no metrics

    def read(self, path: Path) -> Iterator[dict[str, Any]]:
        """Fold the metrics of the lines that a journal has beyond this; yield the fields of the others. Raises RecordError."""
        lines = journal.JournalReader(path, self.count, self.digest, self.size)
        for body in lines.lines():
            start, fields = self.size, lines.parsed(body)
            if fields.get("kind") == "Metrics":
                try:
                    self._add(fields["event"])
                except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
                    raise lines.damaged(error) from error
            else:
                self._lines.extend((start, lines.size - start, lines.count - 1))
            self.count, self.digest, self.size = lines.count, lines.digest, lines.size
            if fields.get("kind") != "Metrics":
                yield fields

    def other_lines(self, path: Path) -> Iterator[dict[str, Any]]:
        """Yield the fields of the lines up to here that hold no metrics, each checked by its seal. Raises RecordError."""
        if not self._lines:
            return
        file = files.open_regular(path)
        try:
            for place in range(0, len(self._lines), 3):
                start, length, number = self._lines[place:place + 3]
                yield journal.line_at(file, path, start, length, number)
        finally:
            os.close(file)

    def names(self) -> list[str]:
        """Return the names of the series, in the order in which they came."""
        return list(self._series)

    def points(self, name: str) -> Points:
        """Return the steps and values of a series, in the order in which they were recorded. Raises KeyError."""
        steps, values, _ = self._series[name]
        return np.array(steps, np.int64), np.array(values, np.float64)

    def _add(self, event: Mapping[str, Any]) -> None:
        steps, times = array.array("q", event["steps"]), _floats(event["times"])
        for name, values in event["values"].items():
            column = _floats(values)
            if not len(steps) == len(column) == len(times):
                raise ValueError(f"expected {len(steps)} values of {name!r}, found {len(column)}")
            series = self._series.get(name)
            if series is None:
                series = self._series[name] = (array.array("q"), array.array("d"), array.array("d"))
            series[0].extend(steps)
            series[1].extend(column)
            series[2].extend(times)


def load(directory: Path) -> Columns:
    """Return the cached columns of a run; empty ones where there are none, or none that fit its journal."""
    columns = Columns()
    try:
        data = files.read(directory / FILE, _LIMIT)
        body = data[len(_MAGIC) + 32:]
        if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != data[len(_MAGIC):len(_MAGIC) + 32]:
            return columns
        line, _, rest = body.partition(b"\n")
        head = json.loads(line)
        if not journal.ends_with(directory / "events.jsonl", head["size"], head["digest"]):
            return columns
        place = 8 * head["lines"]
        columns._lines.frombytes(rest[:place])
        for name, length in head["series"]:
            series = (array.array("q"), array.array("d"), array.array("d"))
            for column in series:
                column.frombytes(rest[place:place + 8 * length])
                place += 8 * length
            columns._series[name] = series
        columns.count, columns.digest, columns.size = head["count"], head["digest"], head["size"]
    except (OSError, ValueError, KeyError, TypeError, errors.RecordError):
        return Columns()
    return columns


def save(directory: Path, columns: Columns) -> None:
    """Write the cache of a run's columns, if its directory can be written to."""
    head = {"count": columns.count, "digest": columns.digest, "size": columns.size, "lines": len(columns._lines),
            "series": [[name, len(series[0])] for name, series in columns._series.items()]}
    body = b"".join([json.dumps(head).encode(), b"\n", columns._lines.tobytes(),
                     *(column.tobytes() for series in columns._series.values() for column in series)])
    with contextlib.suppress(OSError):
        files.write_atomically(directory / FILE, b"".join([_MAGIC, hashlib.sha256(body).digest(), body]), sync=False)


def _floats(values: list[Any]) -> array.array:
    """Return numbers, and the words for those that are not finite, as float64."""
    try:
        return array.array("d", values)
    except TypeError:
        return array.array("d", [events.float_of(value) for value in values])
