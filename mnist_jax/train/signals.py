"""Handles SIGINT and SIGTERM: in a deferred block they only set a flag for the loop, elsewhere they raise.

A second signal always raises at once. Outside the main thread, where Python allows no handlers, nothing changes.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class Signals:
    """A context manager that installs the handlers during a run, and restores the old ones."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block the first signal only sets `received`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def exit(self) -> None:
        """Raise the exception of the received signal, if any: KeyboardInterrupt, or SystemExit with 128 + its number."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received:
            raise SystemExit(128 + self.received)

    def _handle(self, number: int, _: FrameType | None) -> None:
        again, self.received = self.received is not None, signal.Signals(number)
        if again or not self._deferred:
            self.exit()
