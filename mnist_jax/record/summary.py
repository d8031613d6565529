"""What a list says of a run, folded from its record; beside the journal in a file that may be deleted at any time.

A summary is used where the journal still has, at the offset up to which it was folded, the digest that it was folded at, and
where it is not longer. So a list decodes no events; it trusts the bytes before that offset, which `show` and `verify` read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax import errors, events
from mnist_jax.record import files, journal, reader, run_file

FILE = "summary.json"
_LIMIT = 2**26  # bytes


def read(directory: Path) -> dict[str, Any]:
    """Return the summary of a run: directory, id, name, status, created, tags, parent, config, steps, events; and last, min,
    max and count of every metric.

    Raises:
      UserError: there is no run.
      RecordError: its record is damaged.
    """
    fields = run_file.read(directory)
    folded = _load(directory, fields)
    if folded is None:
        folded = _fold(reader.read(directory))
        _save(directory, folded)
    known = ("id", "name", "created", "tags", "parent", "config")
    return {"directory": str(directory), **{name: fields[name] for name in known},
            "status": reader.status_of(directory, fields), "steps": folded["steps"], "events": folded["count"],
            "series": {name: {key: _number(value) for key, value in series.items()}
                       for name, series in folded["series"].items()}}


def _fold(record: reader.RunRecord) -> dict[str, Any]:
    series = {}
    for name, (steps, values) in record.series().items():
        finite = values[np.isfinite(values)]
        smallest, largest = (finite.min(), finite.max()) if len(finite) else (math.nan, math.nan)
        numbers = {"last": values[-1], "min": smallest, "max": largest}
        series[name] = {**{key: float(number) if math.isfinite(number) else events.float_word(float(number))
                           for key, number in numbers.items()}, "count": len(steps)}
    return {"format": run_file.FORMAT, "count": record.count, "digest": record.digest, "size": record.folded.size,
            "steps": record.steps, "series": series}


def _load(directory: Path, fields: dict[str, Any]) -> dict[str, Any] | None:
    """Return a summary that fits the journal and its seal, or None."""
    path = directory / "events.jsonl"
    try:
        folded = json.loads(files.read(directory / FILE, _LIMIT))
        body = {key: value for key, value in folded.items() if key != "sha256"}
        sealed = fields["events"]
        fits = (folded["sha256"] == _digest(body) and path.stat().st_size == folded["size"]
                and (not folded["size"] or journal.ends_with(path, folded["size"], folded["digest"]))
                and (not sealed or fields["status"] == "running" or (sealed["count"], sealed["sha256"]) == (
                    folded["count"], folded["digest"])))
        return body if fits else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _save(directory: Path, folded: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        data = json.dumps({**folded, "sha256": _digest(folded)}).encode()
        files.write_atomically(directory / FILE, data, sync=False)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _number(value: Any) -> float:
    try:
        return events.float_of(value)
    except (ValueError, TypeError) as error:
        raise errors.RecordError(f"expected a number in a summary, found {str(value)[:40]!r}") from error
