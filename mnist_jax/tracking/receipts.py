"""The receipts of each replica, in a log beside the record, and their fold: the sync status.

A receipt is written only after the tracker has confirmed the event, so the log is also the cursor: the events after the
last receipt may or may not have arrived.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from mnist_jax import errors
from mnist_jax.tracking import protocol

_STATES = ("sent", "converted", "sampled", "unsupported", "failed")


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
    refused: frozenset[int] = frozenset()  # sequence numbers of events that failed
    waits: int = 0  # for the rate limit of the destination
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


def log_path(directory: Path, label: str) -> Path:
    """Return the path of a replica's log."""
    return directory / "sync" / f"{label}.jsonl"


def sync_status(directory: Path, label: str) -> SyncStatus:
    """Return the status of one replica."""
    result = SyncStatus(label)
    counts: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for line in lines(directory, label):
        seconds = {**result.seconds, **line.get("seconds", {})}
        if "opening" in line:
            if line["opening"] == "new":
                counts.clear()
                notes.clear()
                result = SyncStatus(label, failures=result.failures, error=result.error)
            result = dataclasses.replace(result, started=True, state="open")
        elif "replica_lost" in line:  # the server no longer holds what it had confirmed
            counts.clear()
            notes.clear()
            result = SyncStatus(label, where=result.where, started=True, failures=result.failures)
        elif "opened" in line:
            result = dataclasses.replace(result, where=line["opened"], state="open", seconds=seconds)
        elif "closed" in line:
            result = dataclasses.replace(result, state="complete", error="", seconds=seconds)
        elif "error" in line:
            result = dataclasses.replace(result, state="failed", error=line["error"], failures=result.failures + 1)
        elif "waiting" in line:
            result = dataclasses.replace(result, waits=result.waits + 1)
        elif "sequence" in line:
            counts[line["state"]] += 1
            if line.get("note"):
                notes[f"{line['kind']}: {line['note']}"] += 1
            refused = result.refused | {line["sequence"]} if line["state"] == "failed" else result.refused
            sampled = (line["count"], line["total"]) if line["state"] == "sampled" else (0, 0)
            result = dataclasses.replace(result, confirmed=line["sequence"] + 1, failures=0, refused=refused,
                                         values_sent=result.values_sent + sampled[0],
                                         values_total=result.values_total + sampled[1])
    texts = tuple(note if times == 1 else f"{note} ({times} times)" for note, times in notes.items())
    return dataclasses.replace(result, counts=dict(counts), notes=texts)


def sync_statuses(directory: Path) -> list[SyncStatus]:
    """Return the status of every replica of a run, by name."""
    return [sync_status(directory, path.stem) for path in sorted((directory / "sync").glob("*.jsonl"))]


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
    lines = []
    for status in statuses:
        state = status.summary(event_count)
        if state["failed"]:
            lines.append(f"{status.label}: {state['failed']} events failed; mnist-jax show {directory} --json says why")
        if state["state"] != "complete":
            lines.append(f"{status.label}: {state['pending']} events pending; sync them with: "
                         f"{command(directory, status.label)}")
    return lines


class Busy(errors.UserError):
    """Another process syncs the replica."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[TextIO]:
    """Open a replica's log for the one process that syncs it. Raises Busy if another process does."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{path.stem}: another process syncs this run; wait for it to end") from None
        if log.tell() and path.read_bytes()[-1:] != b"\n":
            log.write("\n")  # a crash left the last line incomplete
        yield log


def write(log: TextIO, **fields: Any) -> None:
    """Append one line to a replica's log."""
    log.write(json.dumps({"at": time.time(), **fields}) + "\n")
    log.flush()


def confirm(log: TextIO, receipts: list[tuple[int, str, protocol.Receipt]]) -> None:
    """Append the receipts (sequence number, kind, receipt) of events that a tracker has confirmed."""
    now = time.time()
    log.write("".join(json.dumps({"at": now, "sequence": sequence, "kind": kind, **dataclasses.asdict(receipt)}) + "\n"
                      for sequence, kind, receipt in receipts))
    log.flush()


def lines(directory: Path, label: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a replica's log; each has "at", unix seconds."""
    with contextlib.suppress(FileNotFoundError):
        for line in log_path(directory, label).read_text(errors="replace").split("\n"):
            with contextlib.suppress(ValueError):  # an incomplete last line is no receipt
                fields = json.loads(line)
                if isinstance(fields, dict):
                    yield fields


def recent(directory: Path, label: str, seconds: float) -> list[tuple[float, int]]:
    """Return (seconds ago, values) of the metrics that were confirmed in the last `seconds`."""
    now = time.time()
    return [(now - line["at"], line["count"]) for line in lines(directory, label)
            if line.get("kind") == "Metrics" and now - line["at"] < seconds]
