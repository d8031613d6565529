"""One attempt to sync one replica with the record, in this process; worker.py runs it beside training.

An offline replica is a pure function of the record: an incomplete one is renamed and written again from the first event.
An online one resumes from its cursor: receipts are written after a confirmed flush, and a tracker that resumes reads back
what the server holds before it sends what may have arrived.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from mnist_jax import errors, events, secrets
from mnist_jax.record import reader, run_file
from mnist_jax.tracking import protocol, receipts, sampling

# A call that takes longer has lost its server and ends the attempt. The clients' own timeouts are longer, or infinite.
OPEN_S, WRITE_S, FLUSH_S, CLOSE_S = 30.0, 60.0, 10.0, 60.0
_SLOW_BYTES_PER_S = 250_000
_POLL_S = 1.0  # between two reads of a growing record; its end is noticed at once
_BATCH = 64  # events between two confirmations, at most
_CONFIRM_S = 2.0  # and about so many seconds


def update(directory: Path, destination: protocol.Destination, run_ended: Callable[[float], bool] = lambda _: True,
           tracker: protocol.Tracker | None = None, import_s: float = 0.0) -> receipts.SyncStatus:
    """Send what the replica is missing until the run has ended; return its status. No error of a tracker is raised.

    Args:
      run_ended: waits up to so many seconds and returns whether the run has ended.
      tracker: by default a new one of the destination's backend.
      import_s: seconds that this process has spent on importing the client.

    Raises:
      UserError: another process syncs this replica.
      RecordError: the record is damaged.
    """
    with receipts.locked(receipts.log_path(directory, destination.label)) as log:
        before = receipts.sync_status(directory, destination.label)
        entries = reader.Follower(directory).new()
        if before.state == "complete" and run_ended(0.0) and sum(1 for _ in entries) == before.confirmed:
            return before
        try:
            _attempt(directory, destination, before, log, run_ended, tracker, import_s)
        except errors.RecordError:
            raise
        except protocol.ReplicaLost as error:
            receipts.write(log, replica_lost=True)
            receipts.write(log, error=_one_line(error))
        except Exception as error:  # a vendor's client may raise anything; it is logged, never raised
            receipts.write(log, error=_one_line(error))
    return receipts.sync_status(directory, destination.label)


def _attempt(directory: Path, destination: protocol.Destination, before: receipts.SyncStatus, log: TextIO,
             run_ended: Callable[[float], bool], tracker: protocol.Tracker | None, import_s: float) -> None:
    folder = directory / "sync" / destination.label
    offline = destination.mode == "offline"
    if offline:
        _rename_incomplete(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)  # the client's own queue of an earlier attempt; the receipts replace it
    folder.mkdir(exist_ok=True)
    resume = before.started and not offline
    receipts.write(log, opening="resume" if resume else "new")
    started = time.perf_counter()
    tracker = tracker or protocol.backend(destination.tracker).create(destination, folder)
    imported = time.perf_counter()
    follower, sampler = reader.Follower(directory), sampling.Sampler(destination.limits.values_per_metric)
    confirmed = itertools.islice(follower.new(), before.confirmed if resume else 0)
    samples = [(entry.sequence, sampler(entry.event)[0]) for entry in confirmed if not isinstance(entry.event, events.Unknown)]
    earlier = [event for sequence, sample in samples for event in sample if sequence not in before.refused]
    run = run_file.run(run_file.read(directory))
    with _bounded(OPEN_S):
        where = tracker.open(run, lambda blob: directory / "blobs" / blob.sha256, earlier=earlier if resume else None)
    receipts.write(log, opened=where, seconds={"import": import_s + imported - started, "open": time.perf_counter() - imported})
    beginning = time.process_time()
    limiter = sampling.RateLimiter(destination.limits.values_per_minute, lambda seconds: receipts.write(log, waiting=seconds),
                                   receipts.recent(directory, destination.label, 60) if resume else ())
    ended = False
    while not ended:
        ended = run_ended(_POLL_S)  # before reading, so that what was appended before the end is read
        _send(directory, follower.new(), tracker, sampler, limiter, log)
    closing = time.perf_counter()
    status = reader.status_of(directory, run_file.read(directory))
    with _bounded(CLOSE_S):
        tracker.close(status if status in events.STATUSES else "failed", CLOSE_S)
    seconds = {"close": time.perf_counter() - closing}
    if threading.current_thread() is threading.main_thread():  # a process of its own: the CPU time of the sync after open
        seconds["cpu"] = time.process_time() - beginning
    receipts.write(log, closed=status, seconds=seconds)


def _send(directory: Path, entries: Iterable[reader.Entry], tracker: protocol.Tracker, sampler: sampling.Sampler,
          limiter: sampling.RateLimiter, log: TextIO) -> None:
    """Write entries, and confirm them in batches."""
    unconfirmed: list[tuple[int, str, protocol.Receipt]] = []
    since, uploads = time.monotonic(), 0.0

    def confirm() -> None:
        seconds = FLUSH_S + uploads
        with _bounded(2 * seconds):
            if unconfirmed and not tracker.flush(seconds):
                raise TimeoutError(f"the tracker did not confirm within {seconds:g} s")
        receipts.confirm(log, unconfirmed)
        unconfirmed.clear()

    for entry in entries:
        uploads += _upload_s(entry.event)
        receipt = _write(directory, entry.event, tracker, sampler, limiter)
        unconfirmed.append((entry.sequence, events.kind_of(entry.event), receipt))
        if len(unconfirmed) >= _BATCH or time.monotonic() - since > _CONFIRM_S:
            confirm()
            since, uploads = time.monotonic(), 0.0
    confirm()


def _write(directory: Path, event: events.AnyEvent, tracker: protocol.Tracker, sampler: sampling.Sampler,
           limiter: sampling.RateLimiter) -> protocol.Receipt:
    """Write one event to the tracker; return its receipt."""
    if isinstance(event, events.Unknown):
        return protocol.Receipt("unsupported", f"{event.kind}: a later version recorded it")
    sample, count, total = sampler(event)
    missing = [blob.name for blob in events.blobs(event) if not (directory / "blobs" / blob.sha256).exists()]
    if missing:
        return protocol.Receipt("failed", f"the record lacks the bytes of {', '.join(missing)}")
    try:
        results = []
        for piece in itertools.chain.from_iterable(map(limiter.pieces, sample)):
            with _bounded(WRITE_S + _upload_s(event)):
                results.append(tracker.write(piece))
    except OSError:
        raise  # no server, no disk space: the attempt ends, and a later one sends the event
    except Exception as error:  # the tracker refuses the event
        return protocol.Receipt("failed", _one_line(error))
    lossy = [receipt for receipt in results if receipt.state == "sampled"]  # by the tracker itself
    count -= sum(receipt.total - receipt.count for receipt in lossy)
    notes = "; ".join(dict.fromkeys(receipt.note for receipt in results if receipt.note))
    if count < total:
        return protocol.Receipt("sampled", notes, count, total)
    first = next((receipt for receipt in results if receipt.state != "sent"), protocol.Receipt("sent", notes))
    return dataclasses.replace(first, count=count, total=total)


def _upload_s(event: events.AnyEvent) -> float:
    """Return the seconds that the upload of an event's files may take on a slow line."""
    return sum(blob.size for blob in events.blobs(event)) / _SLOW_BYTES_PER_S


@contextlib.contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer; only in the main thread, where a signal interrupts a blocking call."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(*_: object) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again each second, since a client may catch it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _one_line(error: Exception) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", f"{type(error).__name__}: {error}")  # Neptune colours its errors
    return secrets.mask(" ".join(plain.split()))[:500]


def _rename_incomplete(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        number = 1
        while (aside := folder.with_name(f"{folder.name}.incomplete-{number}")).exists():
            number += 1
        folder.rename(aside)
