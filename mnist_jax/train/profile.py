"""Where the time of a run goes: a table of its start-up, and jax's own trace of its training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax


class Startup:
    """Marks on the way from the start of the program to the first update."""

    def __init__(self, started: float):
        self.started = started  # unix seconds
        self._marks: list[tuple[str, float]] = []

    def mark(self, name: str) -> None:
        """Note that what has this name is done."""
        self._marks.append((name, time.time()))

    def table(self, metrics: Mapping[str, float]) -> str:
        """Return a line a part, in seconds, with compilation and the first update from the run's metrics."""
        first, compiling = metrics["system/seconds_to_first_step"], metrics["system/compile_seconds"]
        parts, before = [], self.started
        for name, at in self._marks:
            parts.append((name, at - before))
            before = at
        rest = first - compiling - (before - self.started)
        parts += [("compile the epoch, or find it compiled", compiling), ("order, and the first updates", rest)]
        return "\n".join([*(f"{seconds:7.2f} s  {name}" for name, seconds in parts), f"{first:7.2f} s  to the first update"])


@contextlib.contextmanager
def traced(folder: Path | str | None) -> Iterator[None]:
    """Write jax's trace of a block, for Perfetto or XProf, into a folder (docs.jax.dev/en/latest/profiling.html)."""
    if folder is None:
        yield
        return
    with jax.profiler.trace(str(folder)):
        yield
