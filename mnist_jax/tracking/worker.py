"""The process that syncs one run to one tracker: it follows the record until its standard input ends.

    python -m mnist_jax.tracking.worker DIRECTORY TRACKER MODE

A client that lost its server is not repaired but replaced: each attempt is a fork of this process, which has imported the
client (two seconds of CPU) once and never used it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from mnist_jax.tracking import protocol, receipts, replica

PARENT = "MNIST_JAX_PARENT"  # tells a worker the pid of its run
_BUSY = 3  # exit code of an attempt that found another process syncing
_LOOK_S = 0.5  # between two looks at an attempt while the run goes on
_RETRY_S = (2.0, 60.0)  # first and longest wait before a server is tried again while the run goes on


def main(directory: Path, destination: protocol.Destination) -> None:
    """Sync until the run is over and the replica complete, or until nothing more can be done. Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(19 - os.nice(0))  # training comes first
    with contextlib.suppress(AttributeError, OSError):  # on Linux it is not even interrupted for it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    started = time.perf_counter()
    getattr(protocol.backend(destination.tracker), "prepare", lambda: None)()
    import_s = time.perf_counter() - started

    def over(timeout_s: float) -> bool:
        readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
        return bool(readable) or os.getppid() != int(os.environ.get(PARENT, os.getppid()))

    while True:
        last_attempt = over(0.0)
        code = _attempt(directory, destination, over, import_s)
        if code == _BUSY:  # where a run was killed and resumed at once, its first worker is still ending
            time.sleep(0.5)
            continue
        status = receipts.sync_status(directory, destination.label)
        if status.state == "complete" or last_attempt:
            break
        over(min(_RETRY_S[1], _RETRY_S[0] * 2 ** min(max(status.failures, 1) - 1, 10)))
    sys.stdout.flush()
    os._exit(0)


def _attempt(directory: Path, destination: protocol.Destination, over: Callable[[float], bool], import_s: float) -> int:
    """Make one attempt in a fork, and tell it when the run is over; return its exit code."""
    hears, tells = os.pipe()
    attempt = os.fork()
    if attempt == 0:
        os.close(tells)
        code = 1
        try:
            replica.update(directory, destination, lambda timeout_s: bool(select.select([hears], [], [], timeout_s)[0]),
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


if __name__ == "__main__":
    (chosen,) = protocol.destinations(sys.argv[2], sys.argv[3])
    main(Path(sys.argv[1]), chosen)
