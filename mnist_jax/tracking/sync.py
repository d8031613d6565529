"""Syncs runs to trackers, during the run or afterwards: a named tracker in a process of its own, an object in a thread.

Training never waits for a tracker. At the end of the run, a sync that makes no progress is stopped: a process is killed, a
thread is abandoned. Events that were not sent are still in the record, for a later `sync`.
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

from mnist_jax import errors, secrets
from mnist_jax.tracking import protocol, receipts, replica, worker

NO_PROGRESS_S = 10.0  # at the end of a run, a sync without progress for so long is stopped
AT_MOST_S = 120.0  # and so is one that talks to a server for longer after the run
PATIENCE_S = 60.0  # the same without progress, in `mnist-jax sync`


class SyncJob(Protocol):
    """The sync of one replica."""

    directory: Path
    destination: protocol.Destination

    def finish(self) -> None:
        """Tell it that the run has ended: it sends the pending events and ends."""

    def is_done(self) -> bool:
        """Return whether it has ended."""

    def stop(self) -> None:
        """Stop it now."""


class SyncProcess:
    """A sync in a process of its own (worker.py). The end of its standard input tells it that the run has ended or died."""

    def __init__(self, directory: Path, destination: protocol.Destination):
        self.directory, self.destination = directory, destination
        package = str(Path(__file__).resolve().parent.parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
                       worker.PARENT: str(os.getpid())}
        arguments = [sys.executable, "-m", "mnist_jax.tracking.worker", str(directory), destination.tracker, destination.mode]
        with _request(directory, destination).with_suffix(".log").open("ab") as output:
            self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=output, stderr=output,
                                             env=environment, start_new_session=True)

    def finish(self) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):
            # Some bytes, not only the end of the input: a process that was forked meanwhile keeps the pipe open.
            self._process.stdin.write(b"end")
            self._process.stdin.close()

    def is_done(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its attempts, too: they are in the same session
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)


class SyncThread:
    """A sync to a tracker object, which only this process has. Its daemon thread cannot be killed, only abandoned."""

    def __init__(self, directory: Path, destination: protocol.Destination):
        self.directory, self.destination = directory, destination
        _request(directory, destination)
        self._run_ended = threading.Event()
        self._thread = threading.Thread(target=self._update, name=f"sync to {destination.label}", daemon=True)
        self._thread.start()

    def _update(self) -> None:
        with contextlib.suppress(Exception):  # the receipts say what is missing
            replica.update(self.directory, self.destination, self._run_ended.wait, self.destination.tracker_object)

    def finish(self) -> None:
        self._run_ended.set()

    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Abandon it: a thread cannot be killed."""


def start(directory: Path, destinations: Sequence[protocol.Destination]) -> list[SyncJob]:
    """Start to sync a run while it is recorded. A sync that cannot start is a warning; a later `sync` sends its events."""
    started: list[SyncJob] = []
    for destination in destinations:
        try:
            started.append((SyncThread if destination.tracker_object else SyncProcess)(directory, destination))
        except OSError as error:
            secrets.warn(f"warning: {destination.label}: not synced, because its process did not start: {error}")
    return started


def finish(syncs: Sequence[SyncJob], no_progress_s: float | None = None, at_most_s: float | None = None,
           ) -> list[receipts.SyncStatus]:
    """Wait for the syncs of a run that has ended, all within the same limits; return the status of each replica.

    Args:
      no_progress_s: stop one without progress for so long, by default NO_PROGRESS_S.
      at_most_s: stop one that talks to a server for longer, by default AT_MOST_S.
    """
    no_progress_s, at_most_s = no_progress_s or NO_PROGRESS_S, at_most_s or AT_MOST_S
    started = time.monotonic()
    progress: dict[str, tuple[object, float]] = {}
    for each in syncs:
        each.finish()
    waiting = list(syncs)
    while waiting := [each for each in waiting if not each.is_done()]:
        now = time.monotonic()
        for each in list(waiting):
            label, current = each.destination.label, _progress(each)
            if label not in progress or progress[label][0] != current:
                progress[label] = (current, now)
            idle = now - progress[label][1]
            if idle > no_progress_s or (each.destination.mode != "offline" and now - started > at_most_s):
                each.stop()
                waiting.remove(each)
                _log_error(each, f"stopped after {idle:.0f} s without progress, {now - started:.0f} s in all")
        time.sleep(max(0.02, 3 * (time.monotonic() - now)))  # a long log takes a while to fold
    return [receipts.sync_status(each.directory, each.destination.label) for each in syncs]


def sync(directory: Path | str, tracker: protocol.Choice, tracker_mode: str = "auto") -> list[receipts.SyncStatus]:
    """Send trackers the events of a recorded run that they are missing; return the status of each replica.

    Args:
      tracker: comma-separated names, or tracker objects.
      tracker_mode: "offline", "online", or "auto".

    Raises:
      UserError: there is no such tracker, or another process syncs it.
    """
    directory = Path(directory)
    destinations = protocol.destinations(tracker, tracker_mode)
    if not destinations:
        raise errors.UserError(f"--tracker: expected some of {', '.join(protocol.BACKENDS)}, found local; name one of them")
    for destination in destinations:
        for line in destination.announcements():
            secrets.warn(line)
        with receipts.locked(receipts.log_path(directory, destination.label)):
            pass  # a busy replica is an error here, not in the log of a child process
    return finish(start(directory, destinations), PATIENCE_S, float("inf"))


def _request(directory: Path, destination: protocol.Destination) -> Path:
    """Log that a replica is requested, so that it has a status even if its sync never starts."""
    path = receipts.log_path(directory, destination.label)
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as log:
        receipts.write(log, requested=destination.label)
    return path


def _progress(each: SyncJob) -> object:
    status = receipts.sync_status(each.directory, each.destination.label)
    size = 0
    if each.destination.mode == "offline":
        with contextlib.suppress(OSError):  # files come and go while they are counted
            for file in (each.directory / "sync" / each.destination.label).rglob("*"):
                size += file.stat().st_size
    return status.confirmed, status.waits, status.state == "complete", size


def _log_error(each: SyncJob, reason: str) -> None:
    with contextlib.suppress(OSError), receipts.log_path(each.directory, each.destination.label).open("a") as log:
        receipts.write(log, error=reason)
