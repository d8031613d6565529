"""Profiles a run: a table of its startup, and jax's trace of its training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax


class Startup:
    """Measures the time from the start of the program to the first update."""

    def __init__(self, started: float):
        self.started = started  # unix seconds
        self._marks: list[tuple[str, float]] = []

    def mark(self, name: str) -> None:
        """Note the end of a phase."""
        self._marks.append((name, time.time()))

    def table(self, metrics: Mapping[str, float]) -> str:
        """Return one line per phase, in seconds, with compilation and the first update from the run's metrics."""
        first, compiling = metrics["system/seconds_to_first_step"], metrics["system/compile_seconds"]
        phases, before = [], self.started
        for name, at in self._marks:
            phases.append((name, at - before))
            before = at
        rest = first - compiling - (before - self.started)
        phases += [("compile the epoch, or load it from the cache", compiling), ("order, and the first updates", rest)]
        return "\n".join([*(f"{seconds:7.2f} s  {name}" for name, seconds in phases), f"{first:7.2f} s  to the first update"])


@contextlib.contextmanager
def trace(folder: Path | str | None) -> Iterator[None]:
    """Write jax's trace of a block, for Perfetto or XProf, into a folder (docs.jax.dev/en/latest/profiling.html)."""
    if folder is None:
        yield
        return
    with jax.profiler.trace(str(folder)):
        yield
