"""The process that syncs one run to one tracker, until its standard input ends.

    python -m mnist_jax.tracking.worker DIRECTORY TRACKER MODE

A client that lost its server does not recover, so each attempt is a fork of this process, which has imported the client
(two seconds of CPU) and never used it.
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

from mnist_jax import secrets
from mnist_jax.tracking import protocol, receipts, replica

PARENT = "MNIST_JAX_PARENT"  # the variable with the pid of the run
_BUSY = 3  # exit code of an attempt while another process syncs
_POLL_S = 0.5  # between two checks of an attempt during the run
_RETRY_S = (2.0, 60.0)  # first and longest wait before the next attempt during the run


def main(directory: Path, destination: protocol.Destination) -> None:
    """Sync until the run has ended and the replica is complete, or the last attempt has failed. Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(19 - os.nice(0))  # training has priority
    with contextlib.suppress(AttributeError, OSError):  # on Linux this process does not even interrupt it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    started = time.perf_counter()
    getattr(protocol.backend(destination.tracker), "prepare", lambda: None)()
    import_s = time.perf_counter() - started

    def run_ended(timeout_s: float) -> bool:
        readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
        return bool(readable) or os.getppid() != int(os.environ.get(PARENT, os.getppid()))

    while True:
        last_attempt = run_ended(0.0)
        code = _attempt(directory, destination, run_ended, import_s)
        if code == _BUSY:  # the worker of a run that was killed and resumed at once has not ended yet
            time.sleep(0.5)
            continue
        status = receipts.sync_status(directory, destination.label)
        if status.state == "complete" or last_attempt:
            break
        run_ended(min(_RETRY_S[1], _RETRY_S[0] * 2 ** min(max(status.failures, 1) - 1, 10)))
    sys.stdout.flush()
    os._exit(0)


def _attempt(directory: Path, destination: protocol.Destination, run_ended: Callable[[float], bool], import_s: float) -> int:
    """Make one attempt in a fork, and tell it when the run has ended; return its exit code."""
    reads, writes = os.pipe()
    attempt = os.fork()
    if attempt == 0:
        os.close(writes)
        code = 1
        try:
            replica.update(directory, destination, lambda timeout_s: bool(select.select([reads], [], [], timeout_s)[0]),
                           import_s=import_s)
            code = 0
        except receipts.Busy:
            code = _BUSY
        except BaseException:
            for line in secrets.mask(traceback.format_exc()).split("\n"):
                secrets.warn(line)  # into the log of the process
        finally:
            sys.stdout.flush()
            os._exit(code)  # without the client's exit hooks, which wait for a server that is gone
    os.close(reads)
    ended, status = 0, 0
    while not ended and not run_ended(_POLL_S):
        ended, status = os.waitpid(attempt, os.WNOHANG)
    os.close(writes)
    if not ended:
        _, status = os.waitpid(attempt, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    (only,) = protocol.destinations(sys.argv[2], sys.argv[3])
    main(Path(sys.argv[1]), only)
