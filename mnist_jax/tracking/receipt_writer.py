"""Writes the receipts of a replica: one process at a time, beginning anew where they are damaged."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors
from mnist_jax.record import files, journal
from mnist_jax.tracking import protocol, receipts


class Busy(errors.UserError):
    """Another process syncs the replica."""


class ReceiptWriter:
    """The receipts of one replica, open for the one process, and the one attempt, that syncs it."""

    def __init__(self, lines_of: journal.Journal, status: receipts.SyncStatus):
        self._journal = lines_of
        self.before = status  # when they were opened

    def write(self, **fields: Any) -> None:
        """Append one line."""
        self._journal.append([{"at": time.time(), **fields}], sync=False)

    def confirm(self, confirmed: Sequence[tuple[int, str, protocol.Receipt]]) -> None:
        """Append the receipts (number of the event, its kind, receipt) of events that a tracker has confirmed."""
        now = time.time()
        self._journal.append([{"at": now, "event": number, "kind": kind, **dataclasses.asdict(receipt)}
                              for number, kind, receipt in confirmed], sync=False)


@contextlib.contextmanager
def locked(directory: Path, label: str, patience_s: float = 0.2) -> Iterator[ReceiptWriter]:
    """Open a replica's receipts for the one process that syncs it. Damaged ones are set aside.

    Raises:
      Busy: another process still syncs it after `patience_s`.
      RecordError: they cannot be written.
    """
    path = receipts.log_path(directory, label)
    try:
        if path.parent.is_symlink():
            raise OSError(None, "expected a folder, found a link")
        path.parent.mkdir(exist_ok=True)
        opened, status = _open(directory, label, patience_s)
    except journal.Locked:
        raise Busy(f"{label}: another process syncs this run; wait for it to end") from None
    except OSError as error:
        raise errors.RecordError(f"{path.parent}: cannot be written: {error.strerror}; free disk space or restore "
                                 f"access") from error
    try:
        yield ReceiptWriter(opened, status)
    finally:
        opened.close()


def _open(directory: Path, label: str, patience_s: float) -> tuple[journal.Journal, receipts.SyncStatus]:
    path = receipts.log_path(directory, label)
    for _ in range(10):  # others may set the same file aside at the same moment
        which = receipts.inode(path)
        try:
            opened = journal.Journal(path, patience_s)
            status = receipts.sync_status(directory, label)
            if not status.damaged:
                return opened, status
            opened.close()
        except errors.RecordError:
            pass
        except OSError:
            if not path.is_symlink() and not path.is_dir():
                raise
        _set_aside(path, which)
    raise OSError(None, f"{path.name} is damaged and cannot be renamed")


def _set_aside(path: Path, which: int) -> None:
    """Rename a damaged journal, whatever it is, unless another process has done so: then another file bears its name."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # no regular file: nobody writes it
            file = files.open_regular(path)
            stack.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        number = 1
        while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{number}")):
            number += 1
        if which and receipts.inode(path) == which:
            path.rename(aside)
