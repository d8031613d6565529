"""A third party's tracker: it keeps events in a list; told to, it hangs, raises, loses its server or does not confirm."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mnist_jax import events
from mnist_jax.tracking import protocol


class ListTracker:
    """Keeps the contract of a tracker.

    Args:
      fault: "hang in M", "raise in M" or "lose the server in M" of a method M, or "never confirm".
    """

    support: Mapping[type, protocol.Support] = dict.fromkeys(events.KINDS.values(), protocol.Support("native", "in a list"))

    def __init__(self, name: str = "list", fault: str = ""):
        self.name, self.fault = name, fault
        self.events: list[events.Event] = []
        self.earlier: Sequence[events.Event] | None = None
        self.status: str | None = None

    def open(self, run: events.RunInfo, path_of: Callable[[events.Blob], Path], *,
             earlier: Sequence[events.Event] | None) -> str:
        self._fail("open")
        self.earlier, self.path_of = earlier, path_of
        return "a list"

    def write(self, event: events.Event) -> protocol.Receipt:
        self._fail("write")
        self.events.append(event)
        return protocol.Receipt("sent")

    def flush(self, timeout_s: float) -> bool:
        self._fail("flush")
        return self.fault != "never confirm"

    def close(self, status: str, timeout_s: float) -> None:
        self._fail("close")
        self.status = status

    def _fail(self, method: str) -> None:
        if self.fault == f"hang in {method}":
            time.sleep(3600)
        if self.fault == f"raise in {method}":
            raise ValueError(f"no {method}\nsecond line")
        if self.fault == f"lose the server in {method}":
            raise ConnectionError(f"no {method}\nsecond line")
