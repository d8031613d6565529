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

from mnist_jax import errors, events, secrets
from mnist_jax.record import blobs, reader, run_file
from mnist_jax.tracking import protocol, receipt_writer, receipts, sampling

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
    with receipt_writer.locked(directory, destination.label) as log:
        update_locked(log, directory, destination, run_ended, tracker, import_s)
    return receipts.sync_status(directory, destination.label)


def update_locked(log: receipt_writer.ReceiptWriter, directory: Path, destination: protocol.Destination,
                  run_ended: Callable[[float], bool], tracker: protocol.Tracker | None, import_s: float = 0.0) -> None:
    """Do what `update` does, with the receipts already open."""
    if log.before.state == "complete" and run_ended(0.0) and (
            sum(1 for _ in reader.Follower(directory).new()) == log.before.confirmed):
        return
    try:
        _attempt(directory, destination, log, run_ended, tracker, import_s)
    except errors.RecordError as error:
        log.write(error=_one_line(error))
        raise
    except protocol.ReplicaLost as error:
        log.write(replica_lost=True)
        log.write(error=_one_line(error))
    except Exception as error:  # a vendor's client may raise anything; it is logged, never raised
        log.write(error=_one_line(error))


def _attempt(directory: Path, destination: protocol.Destination, log: receipt_writer.ReceiptWriter,
             run_ended: Callable[[float], bool], tracker: protocol.Tracker | None, import_s: float) -> None:
    folder, before = directory / "sync" / destination.label, log.before
    offline = destination.mode == "offline"
    if offline or folder.is_symlink() or not folder.is_dir():
        _rename_incomplete(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)  # the client's own queue of an earlier attempt; the receipts replace it
    folder.mkdir(exist_ok=True)
    resume = before.started and not offline
    run = run_file.run(run_file.read(directory))
    log.write(opening="resume" if resume else "new", run=run.id, label=destination.label)
    started = time.perf_counter()
    tracker = tracker or protocol.backend(destination.tracker).create(destination, folder)
    imported = time.perf_counter()
    follower, sampler = reader.Follower(directory), sampling.Sampler(destination.limits.values_per_metric)
    confirmed = itertools.islice(follower.new(), before.confirmed if resume else 0)
    samples = [(entry.sequence, sampler(entry.event)[0]) for entry in confirmed if not isinstance(entry.event, events.Unknown)]
    earlier = [event for sequence, sample in samples for event in sample if sequence not in before.refused]
    path_of = blobs.VerifiedPaths(directory)
    with _bounded(OPEN_S):
        where = tracker.open(run, path_of, earlier=earlier if resume else None)
    log.write(opened=where, seconds={"import": import_s + imported - started, "open": time.perf_counter() - imported})
    beginning = time.process_time()
    limiter = sampling.RateLimiter(destination.limits.values_per_minute, lambda seconds: log.write(waiting=seconds),
                                   _recent(directory, destination.label, 60) if resume else ())
    ended = False
    while not ended:
        ended = run_ended(_POLL_S)  # before reading, so that what was appended before the end is read
        _send(follower.new(), path_of, tracker, sampler, limiter, log)
    closing = time.perf_counter()
    status = reader.status_of(directory, run_file.read(directory))
    with _bounded(CLOSE_S):
        tracker.close(status if status in events.STATUSES else "failed", CLOSE_S)
    seconds = {"close": time.perf_counter() - closing}
    if threading.current_thread() is threading.main_thread():  # a process of its own: the CPU time of the sync after open
        seconds["cpu"] = time.process_time() - beginning
    log.write(closed=status, seconds=seconds)


def _recent(directory: Path, label: str, seconds: float) -> list[tuple[float, int]]:
    """Return (seconds ago, values) of the metrics that were confirmed in the last `seconds`."""
    now = time.time()
    return [(now - line["at"], line["count"]) for line in receipts.lines(directory, label)
            if line.get("kind") == "Metrics" and 0 <= now - line["at"] < seconds]


def _send(entries: Iterable[reader.Entry], path_of: blobs.VerifiedPaths, tracker: protocol.Tracker, sampler: sampling.Sampler,
          limiter: sampling.RateLimiter, log: receipt_writer.ReceiptWriter) -> None:
    """Write entries, and confirm them in batches."""
    unconfirmed: list[tuple[int, str, protocol.Receipt]] = []
    since, uploads = time.monotonic(), 0.0

    def confirm() -> None:
        seconds = FLUSH_S + uploads
        with _bounded(2 * seconds):
            if unconfirmed and not tracker.flush(seconds):
                raise TimeoutError(f"the tracker did not confirm within {seconds:g} s")
        log.confirm(unconfirmed)
        unconfirmed.clear()

    for entry in entries:
        receipt, upload_s = _write(entry.event, path_of, tracker, sampler, limiter)
        uploads += upload_s
        unconfirmed.append((entry.sequence, events.kind_of(entry.event), receipt))
        if len(unconfirmed) >= _BATCH or time.monotonic() - since > _CONFIRM_S:
            confirm()
            since, uploads = time.monotonic(), 0.0
    confirm()


def _write(event: events.AnyEvent, path_of: blobs.VerifiedPaths, tracker: protocol.Tracker, sampler: sampling.Sampler,
           limiter: sampling.RateLimiter) -> tuple[protocol.Receipt, float]:
    """Write one event to the tracker, if all of its bytes are as recorded; return its receipt.

    Returns also the seconds that the upload of its files may take on a slow line.
    """
    if isinstance(event, events.Unknown):
        return protocol.Receipt("unsupported", f"{event.kind}: a later version recorded it"), 0.0
    sample, count, total = sampler(event)
    try:
        upload_s = sum(path_of(blob).stat().st_size for blob in events.blobs(event)) / _SLOW_BYTES_PER_S
    except errors.RecordError as error:
        return protocol.Receipt("failed", _one_line(error)), 0.0
    try:
        results = []
        for piece in itertools.chain.from_iterable(map(limiter.pieces, sample)):
            with _bounded(WRITE_S + upload_s):
                results.append(tracker.write(piece))
    except OSError:
        raise  # no server, no disk space: the attempt ends, and a later one sends the event
    except Exception as error:  # the tracker refuses the event
        return protocol.Receipt("failed", _one_line(error)), upload_s
    lossy = [receipt for receipt in results if receipt.state == "sampled"]  # by the tracker itself
    count -= sum(receipt.total - receipt.count for receipt in lossy)
    notes = "; ".join(dict.fromkeys(receipt.note for receipt in results if receipt.note))
    if count < total:
        return protocol.Receipt("sampled", notes, count, total), upload_s
    first = next((receipt for receipt in results if receipt.state != "sent"), protocol.Receipt("sent", notes))
    return dataclasses.replace(first, count=count, total=total), upload_s


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
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        number = 1
        while (aside := folder.with_name(f"{folder.name}.incomplete-{number}")).exists():
            number += 1
        folder.rename(aside)
