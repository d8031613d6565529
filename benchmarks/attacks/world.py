"""What every attack has at hand: a finished run, and ways to call the command line that see a traceback and a hang."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.cli import main
from mnist_jax.data import idx, sources
from mnist_jax.record import reader
from tests.helpers import killed_runs

ROOT = Path(__file__).resolve().parent.parent.parent

CONFIG = ["--config=configs/mlp.py:digits", "--config.epochs=40", "--config.checkpoint.every_s=0.0"]
PATIENCE_S = 60


class Attack(NamedTuple):
    """A promise, and one attempt to break it: it returns what broke, or "" where the promise held."""

    family: str
    promise: str
    attempts: int
    quick: int  # attempts in the tests
    attempt: Callable[[World, random.Random, Path], str]  # a folder of its own is given and removed


@dataclasses.dataclass(frozen=True)
class World:
    """Made once: what an undisturbed run leaves."""

    folder: Path
    whole: Path  # the directory of a finished run, synced offline to both trackers
    seconds: float  # that it took from its first event to the end

    def copy(self, to: Path) -> Path:
        """Return a copy of the finished run."""
        return Path(shutil.copytree(self.whole, to / "run"))


class Called(NamedTuple):
    code: int
    out: str
    err: str

    def fault(self, codes: tuple[int, ...] = (0, 1, 2)) -> str:
        """Return what a user should never see of it: a traceback, an unknown exit code, a mistake without a word."""
        if "Traceback" in self.err:
            return f"a traceback: {self.err.strip().splitlines()[-1][:200]}"
        if self.code not in codes:
            return f"exit code {self.code}: {self.err[-200:]}"
        return "" if self.code == 0 or self.err.strip() or self.out.strip() else f"exit code {self.code} without a word"


def make(folder: Path) -> World:
    """Train the run that everything is compared with."""
    whole = folder / "whole"
    if killed_runs.start(whole, CONFIG, "neptune,comet", "offline").wait() != 0:
        raise SystemExit("the run that everything is compared with did not finish")
    entries = reader.read(whole).entries
    return World(folder, whole, entries[-1].time - entries[0].time + 2)


def command(*arguments: Any) -> Called:
    """Call `python -m mnist_jax` in this process; what it raises is a traceback, and a minute is a hang."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _in_time():
        try:
            code = main.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:  # a user would see the traceback
            err.write(traceback.format_exc())
            code = 1
    return Called(code, out.getvalue(), err.getvalue())


def shell(*arguments: Any, place: Path = ROOT, environment: dict[str, str] | None = None) -> Called:
    """Call `python ...` in a process of its own, in a folder."""
    try:
        done = subprocess.run([sys.executable, *map(str, arguments)], cwd=place, capture_output=True, text=True, check=False,
                              timeout=PATIENCE_S * 3, env={**os.environ, **(environment or {})})
    except subprocess.TimeoutExpired:
        return Called(124, "", "a hang")
    return Called(done.returncode, done.stdout, done.stderr)


def damage(path: Path, chance: random.Random) -> str:
    """Flip one bit of a file, or cut it at a random place; return what was done."""
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    if chance.random() < 0.5:
        bit = chance.randrange(8)
        data[place] ^= 1 << bit
        done = f"bit {bit} of byte {place} of {path.name}"
    else:
        del data[place:]
        done = f"{path.name} cut at byte {place}"
    path.chmod(0o644)
    path.write_bytes(data)
    return done


def shown(directory: Path) -> dict[str, Any]:
    """Return what `show --json` says of a run, without what depends on where and when it lies."""
    facts = json.loads(command("show", directory, "--json").out)
    return {name: facts[name] for name in ("id", "status", "config", "steps", "parameters_sha256", "datasets", "metrics",
                                           "events")}


def idx_folder(folder: Path) -> Path:
    """Write the embedded digits as IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in idx.FILES.items():
        images, labels = sources.load("digits", "").arrays[split]
        for name, array in zip(names, (images[..., 0], labels.astype(np.uint8)), strict=True):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / name).write_bytes(header + array.tobytes())
    return folder


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError(f"a hang: no end within {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
