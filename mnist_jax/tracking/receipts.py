"""The receipts of each replica, in a sealed journal beside the record, and their fold: the sync status.

A receipt is written only after the tracker has confirmed the event, so the journal is also the cursor: the events after the
last receipt may or may not have arrived. Damaged receipts are never believed: receipt_writer.py sets them aside, and begins
new ones as for a replica of which nothing is known.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors
from mnist_jax.record import journal, run_file

_STATES = ("sent", "converted", "sampled", "unsupported", "failed")
_PLACE = re.compile(r"[A-Za-z0-9.+_-]+")  # in a label, after the tracker's name


@dataclasses.dataclass(frozen=True)
class SyncStatus:
    """The status of one replica, folded from its receipts."""

    label: str
    where: str = ""
    state: str = "pending"  # complete | open | pending | failed
    started: bool = False  # an attempt was made, so the next one resumes
    confirmed: int = 0  # events with a receipt, in order from the first
    counts: dict[str, int] = dataclasses.field(default_factory=dict)  # receipts by state
    values_sent: int = 0  # of the `values_total` metric values in sampled events
    values_total: int = 0
    notes: tuple[str, ...] = ()
    error: str = ""
    failures: int = 0  # attempts in a row that ended without a receipt
    refused: frozenset[int] = frozenset()  # the numbers of events that failed
    damaged: bool = False  # its receipts
    lines: int = 0  # of the journal: more of them are progress
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # of import, open and close; CPU seconds after open

    def summary(self, event_count: int) -> dict[str, Any]:
        """Return the JSON that `show` prints.

        Args:
          event_count: the number of events in the record.
        """
        states = {name: self.counts.get(name, 0) for name in _STATES}
        state = self.state if self.state != "complete" or self.confirmed == event_count else "pending"
        return {"state": state, "where": self.where, **states, "pending": max(0, event_count - self.confirmed),
                "values_sent": self.values_sent, "values_total": self.values_total, "notes": list(self.notes),
                "error": self.error, "seconds": self.seconds}


class ReceiptsReader:
    """Reads the receipts of one replica while they grow; a poll reads what is new."""

    def __init__(self, directory: Path, label: str):
        self._directory, self._label = directory, label
        self._path = log_path(directory, label)
        self._restart()

    def status(self) -> SyncStatus:
        """Return the status by now; the state of damaged receipts is "failed", with an error that says what to do."""
        try:
            if inode(self._path) != self._inode:  # set aside by a sync, which began new ones
                self._restart()
            for line in self._journal.new():
                self._fold.add(line)
            return self._fold.status()
        except errors.RecordError as error:
            return self._damaged(str(error))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            return self._damaged(f"{self._path}, line {self._journal.count}: damaged: {error}")

    def _damaged(self, problem: str) -> SyncStatus:
        self._restart()  # the next poll finds the same, or new receipts
        offline = self._label.endswith("-offline")
        effect = "writes the replica anew" if offline else "asks what the server holds and sends what is missing"
        return SyncStatus(self._label, state="failed", damaged=True, error=f"{problem}; the receipts are not used: "
                          f"{command(self._directory, self._label)} {effect}")

    def _restart(self) -> None:
        self._inode = inode(self._path)
        self._journal = journal.JournalReader(self._path)
        self._fold = _Fold(self._label, _run_id(self._directory))


class _Fold:
    """Folds the lines of a replica's journal, each of which is checked: a seal only proves that its writer wrote it."""

    def __init__(self, label: str, run_id: str):
        self._label, self._run_id = label, run_id
        self._lines = 0
        self._begin(SyncStatus(label))

    def _begin(self, status: SyncStatus) -> None:
        self._status = status
        self._counts: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._refused: set[int] = set()
        self._confirmed, self._sent, self._total = 0, 0, 0

    def status(self) -> SyncStatus:
        notes = tuple(note if times == 1 else f"{note} ({times} times)" for note, times in self._notes.items())
        return dataclasses.replace(self._status, confirmed=self._confirmed, counts=dict(self._counts), notes=notes,
                                   refused=frozenset(self._refused), values_sent=self._sent, values_total=self._total,
                                   lines=self._lines)

    def add(self, line: dict[str, Any]) -> None:
        """Add a line. Raises ValueError, KeyError or TypeError at one that no sync writes."""
        self._lines += 1
        _number(line["at"])
        if "event" in line:
            return self._receipt(line)
        status = self._status
        seconds = {**status.seconds, **{_text(name): _number(value) for name, value in line.get("seconds", {}).items()}}
        if "opening" in line:
            if self._run_id and line["run"] != self._run_id:
                raise ValueError(f"expected receipts of the run {self._run_id}, found some of {str(line['run'])[:40]!r}")
            if line["label"] != self._label:
                raise ValueError(f"expected receipts of {self._label}, found some of {str(line['label'])[:80]!r}")
            if line["opening"] == "new":
                self._begin(SyncStatus(self._label, failures=status.failures, error=status.error))
            self._status = dataclasses.replace(self._status, started=True, state="open")
        elif "replica_lost" in line:  # the server no longer holds what it had confirmed
            self._begin(SyncStatus(self._label, where=status.where, started=True, failures=status.failures))
        elif "opened" in line:
            self._status = dataclasses.replace(status, where=_text(line["opened"]), state="open", seconds=seconds)
        elif "closed" in line:
            self._status = dataclasses.replace(status, state="complete", error="", seconds=seconds)
        elif "error" in line:
            self._status = dataclasses.replace(status, state="failed", error=_text(line["error"]), failures=status.failures + 1)

    def _receipt(self, line: dict[str, Any]) -> None:
        if type(line["event"]) is not int or line["event"] != self._confirmed:
            raise ValueError(f"expected the receipt of event {self._confirmed}, found that of {str(line['event'])[:40]}")
        if line["state"] not in _STATES:
            raise ValueError(f"expected one of {', '.join(_STATES)}, found {str(line['state'])[:40]!r}")
        kind, note, count, total = _text(line["kind"]), _text(line["note"]), _count(line["count"]), _count(line["total"])
        self._counts[line["state"]] += 1
        if note:
            self._notes[f"{kind}: {note}"] += 1
        if line["state"] == "failed":
            self._refused.add(self._confirmed)
        if line["state"] == "sampled":
            self._sent, self._total = self._sent + count, self._total + total
        self._confirmed += 1
        if self._status.failures:
            self._status = dataclasses.replace(self._status, failures=0)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, found {str(value)[:40]}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"expected a number, found {str(value)[:40]}")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"expected a count, found {str(value)[:40]}")
    return value


def _run_id(directory: Path) -> str:
    """Return the id of a run, or "" where it cannot be read."""
    with contextlib.suppress(errors.UserError, errors.RecordError):
        return str(run_file.read(directory).get("id", ""))
    return ""


def inode(path: Path) -> int:
    """Return which file bears a name, 0 for none."""
    with contextlib.suppress(OSError):
        return path.lstat().st_ino
    return 0


def log_path(directory: Path, label: str) -> Path:
    """Return the path of a replica's receipts."""
    return directory / "sync" / f"{label}.jsonl"


def sync_status(directory: Path, label: str) -> SyncStatus:
    """Return the status of one replica."""
    return ReceiptsReader(directory, label).status()


def sync_statuses(directory: Path) -> list[SyncStatus]:
    """Return the status of every replica of a run, by name."""
    labels = [path.stem for path in sorted((directory / "sync").glob("*.jsonl"))]
    return [sync_status(directory, label) for label in labels
            if label.partition("-")[0].isidentifier() and _PLACE.fullmatch(label.partition("-")[2])]


def lines(directory: Path, label: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a replica's receipts; each has "at", unix seconds. Raises RecordError at a damaged one."""
    yield from journal.JournalReader(log_path(directory, label)).new()


def command(directory: Path, label: str) -> str:
    """Return the command that syncs the pending events; for a tracker object, the call."""
    tracker, _, place = label.partition("-")
    if place == "object":
        return f"mnist_jax.sync({str(directory)!r}, your {tracker} object)"
    mode = "offline" if place == "offline" else "online"
    return f"python -m mnist_jax sync {shlex.quote(str(directory))} --tracker={tracker} --tracker_mode={mode}"


def incomplete_lines(directory: Path, statuses: Sequence[SyncStatus], event_count: int) -> list[str]:
    """Return a line for each replica with pending events, with the command that syncs them, and for each with failed events.

    Args:
      event_count: the number of events in the record.
    """
    result = []
    for status in statuses:
        state = status.summary(event_count)
        if state["failed"]:
            result.append(f"{status.label}: {state['failed']} events failed; mnist-jax show {directory} --json says why")
        if state["state"] != "complete":
            result.append(f"{status.label}: {state['pending']} events pending; sync them with: "
                          f"{command(directory, status.label)}")
    return result
