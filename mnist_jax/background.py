"""Deliveries beside a run: each named tracker in a process of its own, a third party's object in a thread.

Training never waits for one. At the end of a run they are told so, and one that makes no progress is ended: a process
by its pid, a thread by leaving it behind. What was not delivered stays in the record for a later `deliver`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from mnist_jax import delivery, errors, receipts, tracking

NO_PROGRESS_S = 10.0  # at the end of a run, a delivery that shows no progress for so long is ended
AT_MOST_S = 120.0  # and so is one that talks to a server for longer than this after the run
PATIENCE_S = 60.0  # without progress, where a person waits for a delivery alone
_PARENT = "MNIST_JAX_PARENT"  # tells a delivery the pid of its run
_BUSY = 3  # exit code of an attempt that found another process delivering
_LOOK_S = 0.5  # between two looks at an attempt while the run goes on
_RETRY_S = (2.0, 60.0)  # first and longest wait before a server is tried again while the run goes on


class Delivery(Protocol):
    """One replica being delivered."""

    directory: Path
    destination: tracking.Destination

    def run_is_over(self) -> None:
        """Tell it to send what is left and to end."""

    def ended(self) -> bool:
        """Return whether it has ended."""

    def end(self) -> None:
        """End it now."""


class Process:
    """A delivery in a process of its own. It sees the run's end, or its parent's death, as the end of its input."""

    def __init__(self, directory: Path, destination: tracking.Destination):
        self.directory, self.destination = directory, destination
        package = str(Path(__file__).resolve().parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
                       _PARENT: str(os.getpid())}
        arguments = [sys.executable, "-m", "mnist_jax", "deliver", str(directory), f"--tracker={destination.tracker}",
                     f"--tracker_mode={destination.mode}", "--follow"]
        with _asked(directory, destination).with_suffix(".log").open("ab") as output:
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
    """A delivery to a third party's object, which only this process has. Its daemon thread cannot be killed, only left."""

    def __init__(self, directory: Path, destination: tracking.Destination):
        self.directory, self.destination = directory, destination
        _asked(directory, destination)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name=f"delivery to {destination.label}", daemon=True)
        self._thread.start()

    def _deliver(self) -> None:
        with contextlib.suppress(Exception):  # the record says what is missing
            delivery.deliver(self.directory, self.destination, self._over.wait, self.destination.given)

    def run_is_over(self) -> None:
        self._over.set()

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        """Leave it behind: a thread cannot be ended."""


def start(directory: Path, destinations: Sequence[tracking.Destination]) -> list[Delivery]:
    """Start delivering a run that is being recorded. One that cannot start is said, and left to a later `deliver`."""
    started: list[Delivery] = []
    for destination in destinations:
        try:
            started.append((Thread if destination.given else Process)(directory, destination))
        except OSError as error:
            print(f"warning: {destination.label}: not delivered, since no process could be started: {error}", file=sys.stderr)
    return started


def finish(deliveries: Sequence[Delivery], no_progress_s: float | None = None, at_most_s: float | None = None,
           ) -> list[receipts.Replica]:
    """Wait for deliveries of a run that is over, all within the same bounds; return what each replica then holds.

    Args:
      no_progress_s: end one that makes no progress for so long, by default NO_PROGRESS_S.
      at_most_s: end one that talks to a server for longer, by default AT_MOST_S.
    """
    no_progress_s, at_most_s = no_progress_s or NO_PROGRESS_S, at_most_s or AT_MOST_S
    started = time.monotonic()
    progress: dict[str, tuple[object, float]] = {}
    for each in deliveries:
        each.run_is_over()
    waiting = list(deliveries)
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
    return [receipts.replica(each.directory, each.destination.label) for each in deliveries]


def deliver(directory: Path | str, tracker: tracking.Choice, tracker_mode: str = "auto") -> list[receipts.Replica]:
    """Send what trackers are missing of a recorded run; return what each replica then holds.

    Args:
      tracker: names, comma-separated, or third parties' objects.
      tracker_mode: "offline", "online", or "auto".

    Raises:
      UserError: there is no such tracker, or another process delivers to it.
    """
    directory = Path(directory)
    destinations = tracking.destinations(tracker, tracker_mode)
    if not destinations:
        raise errors.UserError(f"--tracker: expected some of {', '.join(tracking.BACKENDS)}, found local, to which nothing is "
                               f"delivered")
    for destination in destinations:
        for line in destination.said():
            print(line, file=sys.stderr)
        with receipts.locked(receipts.log_of(directory, destination.label)):
            pass  # refused here, in one line, and not in the log of a child
    return finish(start(directory, destinations), PATIENCE_S, float("inf"))


def child_main(directory: Path, destination: tracking.Destination) -> None:
    """Run as the child process: follow the record until standard input ends. Does not return.

    A client that lost its server is not repaired but replaced: each attempt is a fork of this process, which has imported
    the client (two seconds of CPU) once and never used it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(19 - os.nice(0))  # training comes first
    with contextlib.suppress(AttributeError, OSError):  # on Linux it is not even interrupted for it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    started = time.perf_counter()
    getattr(tracking.backend(destination.tracker), "prepare", lambda: None)()
    import_s = time.perf_counter() - started

    def over(timeout_s: float) -> bool:
        readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
        return bool(readable) or os.getppid() != int(os.environ.get(_PARENT, os.getppid()))

    while True:
        last_attempt = over(0.0)
        code = _attempt(directory, destination, over, import_s)
        if code == _BUSY:  # where a run was killed and resumed at once, its first delivery is still ending
            time.sleep(0.5)
            continue
        replica = receipts.replica(directory, destination.label)
        if replica.state == "complete" or last_attempt:
            break
        over(min(_RETRY_S[1], _RETRY_S[0] * 2 ** min(max(replica.failures, 1) - 1, 10)))
    sys.stdout.flush()
    os._exit(0)


def _attempt(directory: Path, destination: tracking.Destination, over: Callable[[float], bool], import_s: float) -> int:
    """Make one attempt in a fork, and tell it when the run is over; return its exit code."""
    hears, tells = os.pipe()
    attempt = os.fork()
    if attempt == 0:
        os.close(tells)
        code = 1
        try:
            delivery.deliver(directory, destination, lambda timeout_s: bool(select.select([hears], [], [], timeout_s)[0]),
                             import_s=import_s)
            code = 0
        except receipts.Busy:
            code = _BUSY
        except BaseException:
            traceback.print_exc()  # into the log of the process
        finally:
            sys.stdout.flush()
            os._exit(code)  # past the client's own exit hooks, which wait for a server that is gone
    os.close(hears)
    ended, status = 0, 0
    while not ended and not over(_LOOK_S):
        ended, status = os.waitpid(attempt, os.WNOHANG)
    os.close(tells)
    if not ended:
        _, status = os.waitpid(attempt, 0)
    return os.waitstatus_to_exitcode(status)


def _asked(directory: Path, destination: tracking.Destination) -> Path:
    """Note in the replica's log that it is wanted, so that it is known even if its delivery never starts."""
    path = receipts.log_of(directory, destination.label)
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as log:
        receipts.say(log, asked=destination.label)
    return path


def _progress(each: Delivery) -> object:
    replica = receipts.replica(each.directory, each.destination.label)
    size = 0
    if each.destination.mode == "offline":
        with contextlib.suppress(OSError):  # files come and go while they are counted
            for file in (each.directory / "deliveries" / each.destination.label).rglob("*"):
                size += file.stat().st_size
    return replica.delivered, replica.waits, replica.state == "complete", size


def _say_ended(each: Delivery, reason: str) -> None:
    with contextlib.suppress(OSError), receipts.log_of(each.directory, each.destination.label).open("a") as log:
        receipts.say(log, error=reason)
