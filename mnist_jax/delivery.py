"""Delivery of a record to a tracker: by a child process during a run, by the same code afterwards.

Training never waits for a tracker: the child follows the record on disk, ignores the terminal's signals, and is
ended by its pid when it makes no progress. What it missed stays in the record for a later `deliver`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from mnist_jax import errors, events, record, tracking

NO_PROGRESS_S = 10.0  # at the end of a run, a child that shows no progress for so long is ended
AT_MOST_S = 120.0  # and so is one that talks to a server for longer than this after the run
_POLL_S = 0.2


@dataclasses.dataclass(frozen=True)
class Replica:
    """What one replica holds, folded from its receipts."""

    label: str
    where: str = ""
    state: str = "pending"  # complete | open | pending | failed
    delivered: int = 0  # events with a receipt, in order from the first
    counts: dict[str, int] = dataclasses.field(default_factory=dict)  # receipts by state
    notes: tuple[str, ...] = ()
    error: str = ""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # of import, open and close

    def summary(self, recorded: int) -> dict[str, Any]:
        """Return the JSON that `show` prints, given the number of events in the record."""
        states = {name: self.counts.get(name, 0) for name in ("sent", "translated", "thinned", "absent", "failed")}
        state = self.state if self.state != "complete" or self.delivered == recorded else "pending"
        return {"state": state, "where": self.where, **states, "pending": max(0, recorded - self.delivered),
                "notes": list(self.notes), "error": self.error, "seconds": self.seconds}


def deliver(directory: Path, destination: tracking.Destination, over: Callable[[float], bool] = lambda _: True) -> Replica:
    """Send what the replica is missing, until the record is `over`; return what it then holds.

    An offline replica is a pure function of the record: an incomplete one is set aside and rewritten whole.

    Args:
      over: waits up to the given seconds and returns whether the run has ended.

    Raises:
      UserError: another process delivers to this replica.
    """
    folder = directory / "deliveries" / destination.label
    folder.parent.mkdir(exist_ok=True)
    log_path = folder.with_name(folder.name + ".jsonl")
    with _locked(log_path) as log:
        run = record.run_of(record.read_run_file(directory))
        before = replica(directory, destination.label)
        follower = record.Follower(directory)
        if before.state == "complete" and over(0.0) and sum(1 for _ in follower.new()) == before.delivered:
            return before
        if destination.mode == "offline":
            _set_aside(folder)
        folder.mkdir(exist_ok=True)
        started = time.perf_counter()
        tracker = tracking.backend(destination.tracker).create(destination, folder)
        imported = time.perf_counter()
        try:
            where = tracker.open(run, lambda blob: directory / "blobs" / blob.sha256, resume=False)
        except Exception as error:  # a vendor's client may raise anything; it is said, never passed on
            _say(log, error=f"open: {_one_line(error)}")
            return replica(directory, destination.label)
        _say(log, opened=where, seconds={"import": imported - started, "open": time.perf_counter() - imported})
        _follow(record.Follower(directory), tracker, log, over)
        outcome = record.outcome_of(directory, record.read_run_file(directory))
        closing = time.perf_counter()
        try:
            tracker.close(outcome if outcome in events.OUTCOMES else "failed", AT_MOST_S)
        except Exception as error:
            _say(log, error=f"close: {_one_line(error)}")
        else:
            _say(log, closed=outcome, seconds={"close": time.perf_counter() - closing})
    return replica(directory, destination.label)


def replica(directory: Path, label: str) -> Replica:
    """Return what the receipts say of one replica."""
    result = Replica(label)
    counts: Counter[str] = Counter()
    notes: dict[str, int] = {}
    for line in _lines(directory / "deliveries" / f"{label}.jsonl"):
        seconds = {**result.seconds, **line.get("seconds", {})}
        if "opened" in line:
            counts, notes = Counter(), {}
            result = Replica(label, line["opened"], "open", seconds=seconds)
        elif "closed" in line:
            result = dataclasses.replace(result, state="complete", seconds=seconds)
        elif "error" in line:
            result = dataclasses.replace(result, state="failed", error=line["error"])
        elif "sequence" in line:
            counts[line["state"]] += 1
            if line.get("note"):
                note = f"{line['kind']}: {line['note']}"
                notes[note] = notes.get(note, 0) + 1
            result = dataclasses.replace(result, delivered=line["sequence"] + 1)
    said = tuple(note if times == 1 else f"{note} ({times} times)" for note, times in notes.items())
    return dataclasses.replace(result, counts=dict(counts), notes=said)


def replicas(directory: Path) -> list[Replica]:
    """Return every replica that a run has, by name."""
    return [replica(directory, path.stem) for path in sorted((directory / "deliveries").glob("*.jsonl"))]


def command(directory: Path, label: str) -> str:
    """Return the command line that sends what is left to a replica."""
    tracker, _, place = label.partition("-")
    mode = "offline" if place == "offline" else "online"
    return f"python -m mnist_jax deliver {shlex.quote(str(directory))} --tracker={tracker} --tracker_mode={mode}"


class Child:
    """A delivery in a process of its own. It sees the run's end, or its parent's death, as the end of its input."""

    def __init__(self, directory: Path, destination: tracking.Destination):
        self.directory, self.destination = directory, destination
        folder = directory / "deliveries"
        folder.mkdir(exist_ok=True)
        with (folder / f"{destination.label}.jsonl").open("a") as log:  # so that it is known even if it never starts
            _say(log, asked=destination.label)
        package = str(Path(__file__).resolve().parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
        arguments = [sys.executable, "-m", "mnist_jax", "deliver", str(directory), f"--tracker={destination.tracker}",
                     f"--tracker_mode={destination.mode}", "--follow"]
        with (folder / f"{destination.label}.log").open("ab") as output:
            self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=output, stderr=output,
                                             env=environment, start_new_session=True)

    def run_is_over(self) -> None:
        """Tell the child to send what is left and to end."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self) -> Replica:
        """Wait for the child within the bounds, and return what the replica then holds."""
        started = progressed = time.monotonic()
        seen = None
        while self._process.poll() is None:
            now, size = time.monotonic(), self._progress()
            if size != seen:
                seen, progressed = size, now
            healthy = self.destination.mode == "offline" or now - started < AT_MOST_S
            if now - progressed > NO_PROGRESS_S or not healthy:
                self._process.kill()
                break
            time.sleep(0.02)
        self._process.wait()
        return replica(self.directory, self.destination.label)

    def _progress(self) -> int:
        folder = self.directory / "deliveries"
        files = [folder / f"{self.destination.label}.jsonl", *(folder / self.destination.label).rglob("*")]
        size = 0
        for file in files:
            with contextlib.suppress(OSError):
                size += file.stat().st_size
        return size


def finish(children: list[Child]) -> list[Replica]:
    """End deliveries at the end of a run, all within the same bounds; a second call only reads what they hold."""
    for child in children:
        child.run_is_over()
    return [child.wait() for child in children]


def child_main(directory: Path, destination: tracking.Destination) -> Replica:
    """Run as the child process: follow the record until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(10)  # training comes first

    def over(timeout_s: float) -> bool:
        readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
        return bool(readable) and not os.read(sys.stdin.fileno(), 1)

    return deliver(directory, destination, over)


def _follow(follower: record.Follower, tracker: tracking.Tracker, log: TextIO, over: Callable[[float], bool]) -> None:
    while True:
        ended = over(_POLL_S)  # asked before reading, so that what was appended before the end is read
        for entry in follower.new():
            kind = type(entry.event).__name__
            try:
                receipt = tracker.write(entry.event)
            except Exception as error:  # as at open: the receipt says it
                receipt = tracking.Receipt("failed", _one_line(error))
            _say(log, sequence=entry.sequence, kind=kind, **dataclasses.asdict(receipt))
        if ended:
            return


def _say(log: TextIO, **fields: Any) -> None:
    log.write(json.dumps({"at": time.time(), **fields}) + "\n")
    log.flush()


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[TextIO]:
    with path.open("a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.UserError(f"{path.stem}: another process delivers this run to it; wait for it to end") from None
        yield log


def _set_aside(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        number = 1
        while (aside := folder.with_name(f"{folder.name}.incomplete-{number}")).exists():
            number += 1
        folder.rename(aside)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().split("\n"):
            with contextlib.suppress(ValueError):  # a torn last line: the receipt was not given
                fields = json.loads(line)
                if isinstance(fields, dict):
                    yield fields
