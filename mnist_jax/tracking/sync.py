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
from mnist_jax.tracking import protocol, receipt_writer, receipts, replica, worker

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

    def waited_s(self) -> float:
        """Return the seconds for which it could have run and the machine had no CPU for it, so far."""

    def stop(self, reason: str = "stopped") -> None:
        """Stop it now, and write the reason into the receipts."""


class SyncProcess:
    """A sync in a process of its own (worker.py). The end of its standard input tells it that the run has ended or died."""

    def __init__(self, directory: Path, destination: protocol.Destination):
        self.directory, self.destination = directory, destination
        package = str(Path(__file__).resolve().parent.parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
                       worker.PARENT: str(os.getpid())}
        arguments = [sys.executable, "-m", "mnist_jax.tracking.worker", str(directory), destination.tracker, destination.mode]
        with open(_request(directory, destination), "ab", opener=_open_log) as output:
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

    def waited_s(self) -> float:
        return _waited_s(self._process.pid)

    def stop(self, reason: str = "stopped") -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its attempts, too: they are in the same session
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        with (contextlib.suppress(OSError, errors.UserError, errors.RecordError),
              receipt_writer.locked(self.directory, self.destination.label, patience_s=2.0) as log):
            log.write(error=reason)


class SyncThread:
    """A sync to a tracker object, which only this process has. Its daemon thread cannot be killed, only abandoned."""

    def __init__(self, directory: Path, destination: protocol.Destination):
        self.directory, self.destination = directory, destination
        _request(directory, destination)
        self._run_ended = threading.Event()
        self._log: receipt_writer.ReceiptWriter | None = None
        self._thread = threading.Thread(target=self._update, name=f"sync to {destination.label}", daemon=True)
        self._thread.start()

    def _update(self) -> None:
        with contextlib.suppress(Exception), receipt_writer.locked(self.directory, self.destination.label) as self._log:
            replica.update_locked(self._log, self.directory, self.destination, self._run_ended.wait,
                                  self.destination.tracker_object)  # the receipts say what is missing

    def finish(self) -> None:
        self._run_ended.set()

    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def waited_s(self) -> float:
        return 0.0  # it shares the CPU time of this process

    def stop(self, reason: str = "stopped") -> None:
        """Abandon it: a thread cannot be killed. It keeps its receipts, so that nothing is sent beside it."""
        if self._log is not None:
            with contextlib.suppress(Exception):
                self._log.write(error=reason)


def start(directory: Path, destinations: Sequence[protocol.Destination]) -> list[SyncJob]:
    """Start to sync a run while it is recorded. A sync that cannot start is a warning; a later `sync` sends its events."""
    started: list[SyncJob] = []
    for destination in destinations:
        try:
            started.append((SyncThread if destination.tracker_object else SyncProcess)(directory, destination))
        except (OSError, errors.RecordError) as error:
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
    for each in syncs:
        each.finish()
    waiting = [_Waiting(job) for job in syncs]
    while waiting := [wait for wait in waiting if not wait.job.is_done()]:
        now = time.monotonic()
        for wait in list(waiting):
            idle = wait.idle_s(now)
            if idle > no_progress_s or (wait.job.destination.mode != "offline" and now - started > at_most_s):
                wait.job.stop(f"stopped after {idle:.0f} s without progress, {now - started:.0f} s in all")
                waiting.remove(wait)
        time.sleep(max(0.02, 3 * (time.monotonic() - now)))  # counting the files of a replica takes a while
    return [receipts.sync_status(job.directory, job.destination.label) for job in syncs]


class _Waiting:
    """The end of one sync that is waited for, and for how long it has made no progress."""

    def __init__(self, job: SyncJob):
        self.job = job
        self._receipts = receipts.ReceiptsReader(job.directory, job.destination.label)
        self._progress: object = None
        self._last, self._waited, self._idle = time.monotonic(), job.waited_s(), 0.0

    def idle_s(self, now: float) -> float:
        """Return the seconds without progress; those in which it waited for a CPU count as a tenth, so that there is an end."""
        waited, progress, since = self.job.waited_s(), self._current(), now - self._last
        own = max(since / 10, since - max(0.0, waited - self._waited))
        self._idle = 0.0 if progress != self._progress else self._idle + own
        self._progress, self._last, self._waited = progress, now, waited
        return self._idle

    def _current(self) -> object:
        status, size = self._receipts.status(), 0
        if self.job.destination.mode == "offline":
            with contextlib.suppress(OSError):  # files come and go while they are counted
                for file in (self.job.directory / "sync" / self.job.destination.label).rglob("*"):
                    size += file.lstat().st_size
        return status.lines, size


def _open_log(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)  # whatever lies there: no link, and no wait for a reader


def _waited_s(pid: int) -> float:
    """Return for how long a process, its threads and its children have waited for a CPU, 0.0 where the system does not say."""
    nanoseconds = 0
    with contextlib.suppress(OSError, ValueError, IndexError):  # processes end while they are counted
        for thread in Path(f"/proc/{pid}/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[1])
            nanoseconds += sum(int(1e9 * _waited_s(int(child))) for child in (thread / "children").read_text().split())
    return nanoseconds / 1e9


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
        with receipt_writer.locked(directory, destination.label):
            pass  # a busy replica is an error here, not in the log of a child process
    return finish(start(directory, destinations), PATIENCE_S, float("inf"))


def _request(directory: Path, destination: protocol.Destination) -> Path:
    """Write that a replica is requested, so that it has a status even if its sync never starts; return its process's log."""
    with (contextlib.suppress(receipt_writer.Busy),  # the process of a killed run still syncs
          receipt_writer.locked(directory, destination.label) as log):
        log.write(requested=destination.label)
    return receipts.log_path(directory, destination.label).with_suffix(".log")
