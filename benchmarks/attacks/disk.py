"""Full, read-only and slow disks: a run stops with one line, what was recorded stays readable, and with room it resumes."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.attacks import killing, world
from benchmarks.attacks.world import Attack, World
from tests.helpers import killed_runs

_SLOW = """
import os, random, time
chance, fsync = random.Random({seed}), os.fsync
os.fsync = lambda file: (time.sleep(chance.random() / 2), fsync(file))[1]
"""


def small_files(around: World, chance: random.Random, folder: Path) -> str:
    """No file may grow beyond a random size: every kind of write fails in some attempt."""
    size = int(10 ** chance.uniform(2.5, 7))
    return _stopped(around, folder / "run", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))


def full(around: World, chance: random.Random, folder: Path) -> str:
    """A file system of a random size gets full; it is enlarged, and the run resumes."""
    with _mounted(folder / "disk", f"size={int(10 ** chance.uniform(4.3, 7.3))}"):
        if problem := _stopped(around, folder / "disk" / "run", None, resume=False):
            return problem
        _mount("-o", "remount,size=1G", str(folder / "disk"))
        return killing.again(around, folder / "disk" / "run")


def read_only(around: World, chance: random.Random, folder: Path) -> str:
    """A file system becomes read-only in the middle of a run; it becomes writable again, and the run resumes."""
    with _mounted(folder / "disk", "size=1G"):
        process = killed_runs.start(folder / "disk" / "run", world.CONFIG, "neptune,comet", "offline")
        time.sleep(chance.uniform(2, 2 + around.seconds))
        # A file that is open for writing keeps a file system from becoming read-only, as it does on a real failure.
        remounted = _mount("-o", "remount,ro", str(folder / "disk"), check=False)
        _, problems = process.communicate(timeout=world.PATIENCE_S * 6)
        if remounted == 0:
            _mount("-o", "remount,rw", str(folder / "disk"))
        if b"Traceback" in problems:
            return problems.decode()[-300:]
        return killing.again(around, folder / "disk" / "run")


def slow(around: World, chance: random.Random, folder: Path) -> str:
    """Every fsync of the run takes up to half a second."""
    folder.joinpath("sitecustomize.py").write_text(_SLOW.format(seed=chance.random()))
    process = killed_runs.start(folder / "run", world.CONFIG, "neptune,comet", "offline", {"PYTHONPATH": str(folder)})
    _, problems = process.communicate(timeout=world.PATIENCE_S * 6)
    if process.returncode:
        return f"exit code {process.returncode}: {problems.decode()[-300:]}"
    return killing.again(around, folder / "run")


def _stopped(around: World, directory: Path, limit: object, resume: bool = True) -> str:
    """Train where writing fails at some moment; return what a user should not see, and how the resumed run differs."""
    done = subprocess.run([sys.executable, "run.py", *world.CONFIG, "--tracker=neptune,comet", f"--workdir={directory}"],
                          cwd=world.ROOT, capture_output=True, text=True, check=False, preexec_fn=limit,  # type: ignore[call-overload]
                          timeout=world.PATIENCE_S * 6)
    if "Traceback" in done.stderr or done.returncode not in (0, 1, 2):
        return f"exit code {done.returncode}: {done.stderr[-400:]}"
    if done.returncode and not done.stderr.strip():
        return f"exit code {done.returncode} without a word"
    if (directory / "run.json").exists():
        shown = world.command("show", directory)
        if problem := shown.fault((0,)):
            return f"show after the full disk: {problem}"
    return killing.again(around, directory) if resume else ""


@contextlib.contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str, check: bool = True) -> int:
    return subprocess.run(["mount", *arguments], check=check, capture_output=True).returncode


ATTACKS = [
    Attack("disk", "no file can grow: one line, what was recorded is readable, and with room the run resumes", 25, 0,
           small_files),
    Attack("disk", "a slow disk, up to half a second for an fsync, changes nothing", 5, 0, slow),
    *([Attack("disk", "a full file system: the same", 20, 0, full),
       Attack("disk", "a file system that becomes read-only: the same", 5, 0, read_only)] if os.geteuid() == 0 else []),
]
