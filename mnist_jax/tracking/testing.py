"""Tests a third-party tracker against the protocol: call `testing.prove(create, folder)` in a test.

    def test_my_tracker_keeps_the_protocol(tmp_path):
        testing.prove(lambda: MyTracker("some", "settings"), tmp_path)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mnist_jax import events
from mnist_jax.record import reader, writer
from mnist_jax.tracking import protocol, replica

# The states that a receipt may have, by the level of the support.
LEVELS = {"native": ("sent", "converted", "sampled"), "converted": ("sent", "converted", "sampled"),
          "unsupported": ("unsupported",)}


class ProtocolError(AssertionError):
    """A tracker breaks the protocol; the message says where."""


def prove(create: Callable[[], protocol.Tracker], folder: Path) -> None:
    """Prove that a tracker keeps the protocol.

    Args:
      create: returns an unopened tracker, always of the same destination.
      folder: an empty folder for the records of the test.

    Raises:
      ProtocolError: it does not.
    """
    tracker = create()
    _require(str(tracker.name).isidentifier(), f"name: expected an identifier, found {tracker.name!r}")
    _prove_support(tracker)
    _prove_sync(create, folder / "whole", every_kind)
    _prove_sync(create, folder / "odd", odd_values)
    _prove_resume(create, folder / "resumed")


def every_kind(run_writer: writer.RunWriter) -> list[events.Event]:
    """Return events of every kind, as of an ordinary run; their blobs are written into the record."""
    data, picture, text = "0" * 64, run_writer.blob(png(), "pixel.png"), run_writer.blob(b"print()\n", "run.py")
    steps = np.arange(1, 6)
    return [
        events.Status(0, "running"),
        events.Environment({"python": "3.11", "cores": 2, "packages/jax": "0.10.2", "gpu": None, "shared": True}),
        events.Source("c" * 40, "main", "https://host/repository", True, run_writer.blob(b"+x\n", "uncommitted.diff"), (text,)),
        events.Dataset("digits", "train", "1", data, 3, (28, 28, 1), "embedded", (1, 1, 1)),
        events.Hyperparameters({"optimizer.learning_rate": 0.1, "model.features": [32, 64], "name": "x", "none": None}),
        events.Metrics(steps, {"train/loss": 1 / steps, "train/accuracy": steps / 5}, 1.7e9 + steps),
        events.Image("filters", 5, picture, "a pixel"),
        events.Artifact("table", run_writer.blob(b"a,b\n1,2\n", "table.csv"), "table", {"rows": 1}),
        events.Text("note", 5, "done"),
        events.Model("model", "1", 5, run_writer.blob(b"weights", "model.zip"), (data,), (), {"test/accuracy": 0.9}, {"a": 1}),
        events.Status(5, "finished"),
    ]


def odd_values(run_writer: writer.RunWriter) -> list[events.Event]:
    """Return events at the limits: non-finite values, negative zero, large steps, long names, empty and huge texts."""
    odd = np.array([1.5, np.nan, np.inf, -np.inf, -0.0, float(np.float32(0.1)), float.fromhex("0x1.fcp-3")])  # bfloat16 last
    steps = np.array([1, 2, 3, 4, 5, 2**31 + 1, 2**40])
    return [
        events.Metrics(steps, {"odd/värde ∞": odd}, 1.7e9 + np.arange(7)),
        events.Metrics(np.array([1]), {"n" * 500: np.array([1.0])}, np.array([1.7e9])),
        events.Metrics(np.array([3, 4, 1]), {"again": np.array([1.0, 2.0, 3.0])}, np.array([1.7e9] * 3)),
        events.Hyperparameters({"nan": float("nan"), "big": 2**70, "long": "x" * 20_000, "p" * 500: 1, "lines": "a\nb\u2028c"}),
        events.Environment({"infinite": float("inf")}),
        events.Text("empty", 1, ""), events.Text("same", 1, "once"), events.Text("same", 1, "twice"),
        events.Text("huge", 1, "é" * 5 * 2**20),
        events.Artifact("nothing", run_writer.blob(b"", "nothing"), "file", {}),
        events.Status(2**40, "diverged"),
    ]


def _prove_support(tracker: protocol.Tracker) -> None:
    for kind in events.KINDS.values():
        _require(kind in tracker.support, f"support: expected an entry for every kind of event, found none for {kind.__name__}")
        level, note = tracker.support[kind].level, tracker.support[kind].note
        _require(level in LEVELS, f"support of {kind.__name__}: expected one of {', '.join(LEVELS)}, found {level!r}")
        _require(note, f"support of {kind.__name__}: expected a note that says how, or why not")


def _prove_sync(create: Callable[[], protocol.Tracker], directory: Path,
                facts_of: Callable[[writer.RunWriter], list[events.Event]]) -> None:
    """Prove that every event has a receipt that agrees with the support that the tracker declares."""
    with _record(directory, directory.name) as run_writer:
        facts = facts_of(run_writer)
        run_writer.append(*facts)
        run_writer.close("finished")
    tracker = _Recorder(create())
    _sync(directory, tracker)
    for event, receipt in zip(facts, tracker.receipts, strict=True):
        call, level = f"write({type(event).__name__})", tracker.support[type(event)].level
        _require(isinstance(receipt, protocol.Receipt), f"{call}: expected a Receipt, found {receipt!r}")
        allowed = (*LEVELS[level], "failed") if directory.name == "odd" else LEVELS[level]
        _require(receipt.state in allowed, f"{call}: its support says {level}, its receipt {receipt.state}: {receipt.note}")
        _require(receipt.state == "sent" or receipt.note, f"{call}: a receipt that is not sent needs a note")
    _require(tracker.where and isinstance(tracker.where, str), f"open: expected an address to look at, found {tracker.where!r}")
    try:
        tracker.close("finished", 10.0)
    except Exception as error:
        raise ProtocolError(f"tracker: close: expected a second call to do nothing, found {error!r}") from error


def _prove_resume(create: Callable[[], protocol.Tracker], directory: Path) -> None:
    """Prove that a second tracker resumes where the first was lost without a close, from the confirmed events."""
    with _record(directory, "resumed") as run_writer:
        facts = every_kind(run_writer)
        run_writer.append(*facts[:6])
        first = _Recorder(create())
        first.close = _raise_lost  # type: ignore[method-assign]
        status = replica.update(directory, protocol.Destination(first.name, "object"), tracker=first)
        _require(status.confirmed == 6, f"expected receipts for 6 events, found {status.confirmed}: {status.error}")
        run_writer.append(*facts[6:])
        run_writer.close("finished")
    second = _Recorder(create())
    _sync(directory, second)
    _require(second.earlier == facts[:6] and len(second.receipts) == 5, "open: expected the 6 confirmed events as `earlier`")


def _sync(directory: Path, tracker: _Recorder) -> None:
    status = replica.update(directory, protocol.Destination(tracker.name, "object"), tracker=tracker)
    event_count = len(reader.read(directory).entries)
    _require(status.state == "complete" and status.confirmed == event_count,
             f"expected receipts for {event_count} events and a close, found {status.confirmed}: {status.error}")


class _Recorder:
    """A tracker that records the calls of another and its receipts."""

    def __init__(self, tracker: protocol.Tracker):
        self._tracker = tracker
        self.name, self.support = tracker.name, tracker.support
        self.receipts: list[protocol.Receipt] = []
        self.where: object = None
        self.earlier: list[events.Event] | None = None

    def open(self, run, path_of, *, earlier):  # type: ignore[no-untyped-def]
        self.earlier = earlier
        self.where = self._tracker.open(run, path_of, earlier=earlier)
        return self.where

    def write(self, event: events.Event) -> protocol.Receipt:
        try:
            receipt = self._tracker.write(event)
        except OSError:
            raise
        except Exception as error:
            self.receipts.append(protocol.Receipt("failed", str(error) or type(error).__name__))
            raise
        self.receipts.append(receipt)
        return receipt

    def flush(self, timeout_s: float) -> bool:
        return self._tracker.flush(timeout_s)

    def close(self, status: str, timeout_s: float) -> None:
        self._tracker.close(status, timeout_s)


def _raise_lost(status: str, timeout_s: float) -> None:
    raise ConnectionError("the test loses the first tracker before it is closed")


def _record(directory: Path, name: str) -> writer.RunWriter:
    return writer.create(directory, events.RunInfo(writer.new_id(), name, 1.7e9, {"epochs": 1}, ("prove",), steps_per_epoch=5))


def _require(holds: object, promise: str) -> None:
    if not holds:
        raise ProtocolError(f"tracker: {promise}")


def png() -> bytes:
    """Return a PNG file of one black pixel."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
