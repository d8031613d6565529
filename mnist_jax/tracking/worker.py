"""The process that syncs one run to one tracker, until its standard input ends.

    python -m mnist_jax.tracking.worker DIRECTORY TRACKER MODE

A client that lost its server does not recover, so each attempt is a fork of this process, which has imported the client
(two seconds of CPU) and never used it. An attempt during the run has a low priority; the import and an attempt after the run
have the usual one, since a priority cannot be raised again and a person may wait for their end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from mnist_jax import errors, secrets
from mnist_jax.tracking import protocol, receipt_writer, receipts, replica

PARENT = "MNIST_JAX_PARENT"  # the variable with the pid of the run
_BUSY = 3  # exit code of an attempt while another process syncs
_POLL_S = 0.5  # between two checks of an attempt during the run
_NICE = 10  # of an attempt during the run; at 19 a busy machine gives a process one hundredth of a core
_IMPORT_SIGN_S = 1.0  # between two signs of a slow import
_RETRY_S = (2.0, 60.0)  # first and longest wait before the next attempt during the run


def main(directory: Path, destination: protocol.Destination) -> None:
    """Sync until the run has ended and the replica is complete, or the last attempt has failed. Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(AttributeError, OSError):  # on Linux this process takes its share, but does not interrupt training
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    started = time.perf_counter()
    with _importing(directory, destination):
        getattr(protocol.backend(destination.tracker), "prepare", lambda: None)()
    import_s = time.perf_counter() - started

    def run_ended(timeout_s: float) -> bool:
        readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
        return bool(readable) or os.getppid() != int(os.environ.get(PARENT, os.getppid()))

    while True:
        last_attempt = run_ended(0.0)
        code = _attempt(directory, destination, run_ended, import_s, nice=0 if last_attempt else _NICE)
        if code == _BUSY:  # the worker of a run that was killed and resumed at once has not ended yet
            time.sleep(0.5)
            continue
        status = receipts.sync_status(directory, destination.label)
        if status.state == "complete" or last_attempt:
            break
        run_ended(min(_RETRY_S[1], _RETRY_S[0] * 2 ** min(max(status.failures, 1) - 1, 10)))
    sys.stdout.flush()
    os._exit(0)


@contextlib.contextmanager
def _importing(directory: Path, destination: protocol.Destination) -> Iterator[None]:
    """Write into the receipts that the client is being imported, and from time to time how many modules by now."""
    with contextlib.ExitStack() as stack:
        try:
            log = stack.enter_context(receipt_writer.locked(directory, destination.label))
            log.write(importing=len(sys.modules))
        except (receipt_writer.Busy, errors.RecordError, OSError):  # the attempt will say so
            yield
            return
        imported = threading.Event()

        def write_progress() -> None:
            modules = len(sys.modules)
            with contextlib.suppress(OSError):
                while not imported.wait(_IMPORT_SIGN_S):
                    if modules != (modules := len(sys.modules)):  # an import that hangs gives no sign
                        log.write(importing=modules)

        thread = threading.Thread(target=write_progress)
        thread.start()
        try:
            yield
        finally:
            imported.set()
            thread.join()  # no thread is left at the fork
        with contextlib.suppress(OSError):
            log.write(importing=len(sys.modules))


def _attempt(directory: Path, destination: protocol.Destination, run_ended: Callable[[float], bool], import_s: float,
             nice: int) -> int:
    """Make one attempt in a fork, and tell it when the run has ended; return its exit code."""
    reads, writes = os.pipe()
    attempt = os.fork()
    if attempt == 0:
        os.close(writes)
        code = 1
        try:
            os.nice(nice)
            replica.update(directory, destination, lambda timeout_s: bool(select.select([reads], [], [], timeout_s)[0]),
                           import_s=import_s)
            code = 0
        except receipt_writer.Busy:
            code = _BUSY
        except errors.RecordError as error:
            print(error)  # into the log of the process, as the next
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
