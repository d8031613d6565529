"""Two programs compared on a machine whose speed drifts: they take turns, one stopped (SIGSTOP) while the other runs."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import time

import psutil

TURN_S = 2.0


@dataclasses.dataclass(frozen=True)
class Turns:
    """When a program ran: start and end of each turn, unix seconds."""

    spans: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def own(self, moment: float) -> float:
        """Return the seconds that the program had run for at a moment."""
        return sum(max(0.0, min(moment, end) - start) for start, end in self.spans)


def take_turns(runs: dict[str, subprocess.Popen[bytes]]) -> dict[str, Turns]:
    """Let one run continue at a time, until all have ended; return the turns of each."""
    turns = {name: Turns() for name in runs}
    for run in runs.values():
        signal_all(run, signal.SIGSTOP)
    while going := [name for name, run in runs.items() if run.poll() is None]:
        for name in going:
            signal_all(runs[name], signal.SIGCONT)
            started = time.time()
            with contextlib.suppress(subprocess.TimeoutExpired):
                runs[name].wait(TURN_S)
            turns[name].spans.append((started, time.time()))
            signal_all(runs[name], signal.SIGSTOP)
    failed = [name for name, run in runs.items() if run.returncode]
    if failed:
        raise SystemExit(f"expected exit code 0 of the runs, found another of {', '.join(failed)}")
    return turns


def signal_all(run: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a run and its syncs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(run.pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)
