"""Syncs runs to trackers, beside the run or afterwards: each named tracker in a process of its own, a third party's object in a
thread.

Training never waits for one. At the end of a run they are told so, and one that makes no progress is ended: a process
by its pid, a thread by leaving it behind. What was not sent stays in the record for a later `sync`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mnist_jax import errors
from mnist_jax.tracking import protocol, receipts, replica, worker

NO_PROGRESS_S = 10.0  # at the end of a run, a sync that shows no progress for so long is ended
AT_MOST_S = 120.0  # and so is one that talks to a server for longer than this after the run
PATIENCE_S = 60.0  # without progress, where a person waits for a sync alone


class Syncing(Protocol):
    """One replica being synced."""

    directory: Path
    destination: protocol.Destination

    def run_is_over(self) -> None:
        """Tell it to send what is left and to end."""

    def ended(self) -> bool:
        """Return whether it has ended."""

    def end(self) -> None:
        """End it now."""


class Process:
    """A sync in a process of its own (worker.py). It sees the run's end, or its parent's death, as the end of its input."""

    def __init__(self, directory: Path, destination: protocol.Destination):
        self.directory, self.destination = directory, destination
        package = str(Path(__file__).resolve().parent.parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
                       worker.PARENT: str(os.getpid())}
        arguments = [sys.executable, "-m", "mnist_jax.tracking.worker", str(directory), destination.tracker, destination.mode]
        with _request(directory, destination).with_suffix(".log").open("ab") as output:
            self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=output, stderr=output,
                                             env=environment, start_new_session=True)

    def run_is_over(self) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):
            # A word, and not only the end of the input: a process that was forked meanwhile keeps that open.
            self._process.stdin.write(b"over")
            self._process.stdin.close()

    def ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the attempt, too: it is of the same session
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)


class Thread:
    """A sync to a third party's object, which only this process has. Its daemon thread cannot be killed, only left."""

    def __init__(self, directory: Path, destination: protocol.Destination):
        self.directory, self.destination = directory, destination
        _request(directory, destination)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._update, name=f"sync to {destination.label}", daemon=True)
        self._thread.start()

    def _update(self) -> None:
        with contextlib.suppress(Exception):  # the record says what is missing
            replica.update(self.directory, self.destination, self._over.wait, self.destination.given)

    def run_is_over(self) -> None:
        self._over.set()

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        """Leave it behind: a thread cannot be ended."""


def start(directory: Path, destinations: Sequence[protocol.Destination]) -> list[Syncing]:
    """Start to sync a run that is being recorded. One that cannot start is a warning, and left to a later `sync`."""
    started: list[Syncing] = []
    for destination in destinations:
        try:
            started.append((Thread if destination.given else Process)(directory, destination))
        except OSError as error:
            print(f"warning: {destination.label}: not synced, since no process could be started: {error}", file=sys.stderr)
    return started


def finish(syncs: Sequence[Syncing], no_progress_s: float | None = None, at_most_s: float | None = None,
           ) -> list[receipts.SyncStatus]:
    """Wait for the syncs of a run that is over, all within the same bounds; return what each replica then holds.

    Args:
      no_progress_s: end one that makes no progress for so long, by default NO_PROGRESS_S.
      at_most_s: end one that talks to a server for longer, by default AT_MOST_S.
    """
    no_progress_s, at_most_s = no_progress_s or NO_PROGRESS_S, at_most_s or AT_MOST_S
    started = time.monotonic()
    progress: dict[str, tuple[object, float]] = {}
    for each in syncs:
        each.run_is_over()
    waiting = list(syncs)
    while waiting := [each for each in waiting if not each.ended()]:
        now = time.monotonic()
        for each in list(waiting):
            label, seen = each.destination.label, _progress(each)
            if label not in progress or progress[label][0] != seen:
                progress[label] = (seen, now)
            idle = now - progress[label][1]
            if idle > no_progress_s or (each.destination.mode != "offline" and now - started > at_most_s):
                each.end()
                waiting.remove(each)
                _say_ended(each, f"ended after {idle:.0f} s without progress, {now - started:.0f} s in all")
        time.sleep(max(0.02, 3 * (time.monotonic() - now)))  # a long log takes a while to fold
    return [receipts.sync_status(each.directory, each.destination.label) for each in syncs]


def sync(directory: Path | str, tracker: protocol.Choice, tracker_mode: str = "auto") -> list[receipts.SyncStatus]:
    """Send what trackers are missing of a recorded run; return what each replica then holds.

    Args:
      tracker: names, comma-separated, or third parties' objects.
      tracker_mode: "offline", "online", or "auto".

    Raises:
      UserError: there is no such tracker, or another process syncs to it.
    """
    directory = Path(directory)
    destinations = protocol.destinations(tracker, tracker_mode)
    if not destinations:
        raise errors.UserError(f"--tracker: expected some of {', '.join(protocol.BACKENDS)}, found local, the record alone")
    for destination in destinations:
        for line in destination.announcements():
            print(line, file=sys.stderr)
        with receipts.locked(receipts.log_of(directory, destination.label)):
            pass  # refused here, in one line, and not in the log of a child
    return finish(start(directory, destinations), PATIENCE_S, float("inf"))


def _request(directory: Path, destination: protocol.Destination) -> Path:
    """Note in the replica's log that it is wanted, so that it is known even if its sync never starts."""
    path = receipts.log_of(directory, destination.label)
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as log:
        receipts.write(log, asked=destination.label)
    return path


def _progress(each: Syncing) -> object:
    replica = receipts.sync_status(each.directory, each.destination.label)
    size = 0
    if each.destination.mode == "offline":
        with contextlib.suppress(OSError):  # files come and go while they are counted
            for file in (each.directory / "sync" / each.destination.label).rglob("*"):
                size += file.stat().st_size
    return replica.confirmed, replica.waits, replica.state == "complete", size


def _say_ended(each: Syncing, reason: str) -> None:
    with contextlib.suppress(OSError), receipts.log_of(each.directory, each.destination.label).open("a") as log:
        receipts.write(log, error=reason)
