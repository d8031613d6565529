"""kill -9, SIGTERM and SIGSTOP at random moments: nothing lost, nothing doubled, bits equal."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.attacks import world
from benchmarks.attacks.world import Attack, World
from mnist_jax.record import reader
from mnist_jax.tracking import receipt_writer, receipts, sync
from tests.helpers import killed_runs, tracker_servers

SWEEP = ["--config=configs/sweep.py:mlp-digits", "--config.epochs=8", "--config.sweep.seeds=2",
         "--config.sweep.learning_rate=(0.001,0.002)", "--config.checkpoint.every_s=0.0"]
SHARED = ["--config=configs/mlp.py:digits", "--config.epochs=15", "--config.checkpoint.every_s=0.0"]


def run(around: World, chance: random.Random, folder: Path) -> str:
    """Kill a run that is synced to both trackers, one half of them online, and start it again."""
    with contextlib.ExitStack() as servers:
        mode = chance.choice(("offline", "online"))
        stores: dict[str, Any] = {}
        environment: dict[str, str] = dict(tracker_servers.PATIENT)
        for tracker in tracker_servers.TRACKERS if mode == "online" else ():
            served = servers.enter_context(tracker_servers.serve(tracker))
            stores[tracker] = served.store
            environment |= served.environment
        killed_runs.kill(killed_runs.start(folder / "run", world.CONFIG, "neptune,comet", mode, environment), folder / "run",
                   around.seconds, chance)
        return again(around, folder / "run", mode, environment, stores)


def again(around: World, directory: Path, mode: str = "offline", environment: dict[str, str] | None = None,
          stores: dict[str, Any] | None = None) -> str:
    """Start a run again and return how it differs from the undisturbed one."""
    started = killed_runs.start(directory, world.CONFIG, "neptune,comet", mode, environment)
    _, problems = started.communicate(timeout=world.PATIENCE_S * 6)
    if started.returncode != 0:
        return f"exit code {started.returncode}: {problems.decode()[-300:]}"
    before = {name: os.environ.get(name) for name in environment or {}}
    os.environ.update(environment or {})
    try:
        wrong = [f"{replica.label} is {replica.state}" for replica in _synced(directory, mode)
                 if replica.state != "complete"]
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    whole = killed_runs.facts_of(around.whole)
    wrong += [part for part, facts in killed_runs.facts_of(directory).items() if facts != whole[part]]
    rows = killed_runs.rows_of(reader.read(directory))
    wrong += [f"rows in {tracker}" for tracker in tracker_servers.TRACKERS
              if rows != (killed_runs.online_rows(stores[tracker], tracker, directory) if stores
                          else killed_runs.offline_rows(directory, tracker))]
    return ", ".join(wrong)


def _synced(directory: Path, mode: str) -> list[receipts.SyncStatus]:
    """Sync to both trackers, once the syncs that a run did not wait for have ended."""
    deadline = time.monotonic() + world.PATIENCE_S
    while True:
        try:
            return list(sync.sync(directory, "neptune,comet", mode))
        except receipt_writer.Busy:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def terminated(around: World, chance: random.Random, folder: Path) -> str:
    """SIGTERM or SIGINT at a random moment: a good end with its exit code, and the same bits after another start."""
    process = killed_runs.start(folder / "run", world.CONFIG, "neptune,comet", "offline")
    time.sleep(chance.uniform(1, 3 + around.seconds))
    sent = chance.choice((signal.SIGTERM, signal.SIGINT))
    process.send_signal(sent)
    _, problems = process.communicate(timeout=world.PATIENCE_S * 2)
    # Before Python has installed any handler the system ends it; after the last step it has nothing left to stop.
    if process.returncode not in (128 + sent, -sent, 0):
        return f"exit code {process.returncode} after {sent.name}: {problems.decode()[-300:]}"
    return again(around, folder / "run")


def stopped(around: World, chance: random.Random, folder: Path, seconds: float = 60) -> str:
    """SIGSTOP for a minute, then SIGCONT: the run ends as if nothing had been."""
    process = killed_runs.start(folder / "run", world.CONFIG, "neptune,comet", "offline")
    time.sleep(chance.uniform(1, 2 + around.seconds))
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
    _, problems = process.communicate(timeout=world.PATIENCE_S * 6)
    if process.returncode:
        return f"exit code {process.returncode}: {problems.decode()[-200:]}"
    return again(around, folder / "run")


def sweep(around: World, chance: random.Random, folder: Path) -> str:
    """Kill a sweep and start it again: every member is the one of an undisturbed sweep."""
    whole = _once(around, "sweep", SWEEP)
    process = _train(folder / "run", SWEEP)
    time.sleep(chance.uniform(0.5, 14))
    process.kill()
    process.wait()
    if problem := _finish(_train(folder / "run", SWEEP)):
        return problem
    there, undisturbed = ({path.name: killed_runs.facts_of(path) for path in sorted((place / "members").iterdir())}
                          for place in (folder / "run", whole))
    return "" if there == undisturbed else "members differ"


def processes(around: World, chance: random.Random, folder: Path) -> str:
    """Kill one of two processes that train one run, or both, and start both again."""
    whole = _once(around, "shared", SHARED, processes=2)
    pair = _pair(folder / "run")
    time.sleep(chance.uniform(1, 10))
    victims = chance.choice(([0], [1], [0, 1]))
    for index in victims:
        pair[index].kill()
    for process in pair:  # one that lost its partner may wait for it: jax ends it in its own time
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for problem in map(_finish, _pair(folder / "run")):
        if problem:
            return problem
    return "" if killed_runs.facts_of(folder / "run") == killed_runs.facts_of(whole) else "the run differs"


def syncing(around: World, chance: random.Random, folder: Path) -> str:
    """Kill a sync to a server, some times over, and sync again: every row once."""
    directory = around.copy(folder)
    tracker = chance.choice(tracker_servers.TRACKERS)
    with tracker_servers.serve(tracker) as served:
        command = [sys.executable, "-m", "mnist_jax", "sync", str(directory), f"--tracker={tracker}"]
        environment = {**os.environ, **tracker_servers.PATIENT, **served.environment}
        for _ in range(chance.randint(1, 3)):
            process = subprocess.Popen(command, env=environment, cwd=world.ROOT, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.5, 6))
            children = psutil.Process(process.pid).children(recursive=True) if chance.random() < 0.7 else []
            for victim in (process, *children):  # the attempt is a child, which outlives its parent unless it is killed, too
                with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                    victim.kill()
            process.wait()
        deadline = time.monotonic() + world.PATIENCE_S
        while (last := world.shell(*command[1:], environment={**tracker_servers.PATIENT, **served.environment})).code == 2 and (
                "another process" in last.err and time.monotonic() < deadline):
            time.sleep(1)
        if problem := last.fault((0,)):
            return problem
        rows = killed_runs.rows_of(reader.read(directory))
        return "" if killed_runs.online_rows(served.store, tracker, directory) == rows else f"rows in {tracker}"


def importing(around: World, chance: random.Random, folder: Path) -> str:
    """Kill an import: there is no run, or the whole one; and the same command then makes it."""
    source = around.whole / "sync" / f"{chance.choice(tracker_servers.TRACKERS)}-offline"
    command = ["-m", "mnist_jax", "import", str(source), f"--workdir={folder / 'run'}"]
    process = subprocess.Popen([sys.executable, *command], cwd=world.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(chance.uniform(0.05, 0.5))
    process.kill()
    process.wait()
    if not (folder / "run" / "run.json").exists() and (problem := world.shell(*command).fault((0,))):
        return problem
    rows, expected = (killed_runs.rows_of(reader.read(directory)) for directory in (folder / "run", around.whole))
    return "" if rows == expected else "rows differ"


def registry(around: World, chance: random.Random, folder: Path) -> str:
    """Kill commands of the registry: every version that was said to be registered is there, whole, and the next is."""
    place, confirmed = f"--registry={folder / 'registry'}", 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "mnist_jax", "registry", "register", "digits", str(around.whole), place], cwd=world.ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if chance.random() < 0.7:
            time.sleep(chance.uniform(0.05, 0.4))
            process.kill()
        told, _ = process.communicate()
        confirmed += bool(told.strip())
    last = world.shell("-m", "mnist_jax", "registry", "register", "digits", around.whole, place)
    listed = world.command("registry", "list", "digits", "--json", place)
    if problem := last.fault((0,)) or listed.fault((0,)):
        return problem
    versions = [each["version"] for each in json.loads(listed.out)]
    if versions != list(range(1, len(versions) + 1)) or len(versions) < confirmed + 1:
        return f"{confirmed} versions were confirmed, found {versions}"
    return world.command("registry", "verify", "digits@1", place).fault((0,))


def _train(directory: Path, config: list[str], *flags: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "run.py", *config, f"--workdir={directory}", *flags], cwd=world.ROOT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _pair(directory: Path) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [_train(directory, SHARED, f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process_index={index}")
            for index in range(2)]


def _finish(process: subprocess.Popen[bytes]) -> str:
    try:
        _, problems = process.communicate(timeout=world.PATIENCE_S * 6)
    except subprocess.TimeoutExpired:
        process.kill()
        return "a hang"
    return f"exit code {process.returncode}: {problems.decode()[-300:]}" if process.returncode else ""


@functools.cache
def _made() -> dict[str, Path]:
    return {}


def _once(around: World, name: str, config: list[str], processes: int = 1) -> Path:
    """Return the directory of an undisturbed run, trained at the first call."""
    if name not in _made():
        directory = around.folder / name
        for process in [_train(directory, config)] if processes == 1 else _pair(directory):
            if problem := _finish(process):
                raise SystemExit(f"{name}: the undisturbed run did not finish: {problem}")
        _made()[name] = directory
    return _made()[name]


ATTACKS = [
    Attack("kills", "a run killed with kill -9 resumes to the same bits, and both trackers hold every row once", 60, 0, run),
    Attack("kills", "SIGTERM and SIGINT end a run well, and it resumes to the same bits", 30, 0, terminated),
    Attack("kills", "SIGSTOP for a minute changes nothing", 4, 0, stopped),
    Attack("kills", "a killed sweep resumes; every member is bit for bit its own", 16, 0, sweep),
    Attack("kills", "two processes that train one run, one or both killed, resume to the same bits", 14, 0, processes),
    Attack("kills", "a sync killed up to three times ends with every row once", 30, 0, syncing),
    Attack("kills", "a killed import leaves no run or the whole one", 30, 1, importing),
    Attack("kills", "a killed registry loses no version that it confirmed, and stays usable", 20, 1, registry),
]
