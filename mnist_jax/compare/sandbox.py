"""Runs the probe programs, each in a folder of its own, and writes the evidence of what the clients do.

A program gets a home, a git repository with uncommitted changes, fake credentials and no network but 127.0.0.1. Its
evidence is in `<evidence>/<tracker>/<probe>-<mode>/`:

    calls.jsonl     which calls the client accepted, with its answers, and their cost
    output.txt      what the program and the client printed
    outside.jsonl   hosts beyond this machine that the client tried to reach
    files/          the client's own files
    server.jsonl    the contents of the loopback server, one fact a line
    end.json        exit code, and seconds
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mnist_jax.compare import comet_probe, criteria, holdings, neptune_probe, probing
from mnist_jax.compare.servers import comet, guard, neptune

PROGRAMS = {"neptune": neptune_probe, "comet": comet_probe}
DISTRIBUTIONS = {"neptune": "neptune", "comet": "comet_ml"}
REMOTE = f"https://ada:{probing.PLANTED_REMOTE}@example.invalid/digits.git"
_LIMIT_S = 100
_PACKAGES = Path(__file__).parent.parent.parent
_LOG = """
        import json
        log = os.open(os.environ["PROBE_OUTSIDE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, (json.dumps({"host": host}) + "\\n").encode())
        os.close(log)
        raise ConnectionRefusedError(f"this sandbox has no network: {host}")
"""


def probe(evidence: Path, trackers: tuple[str, ...] = tuple(PROGRAMS)) -> None:
    """Probe the installed clients and write the evidence; of a client that is not installed, the version is empty.

    Takes about a minute on two cores: a process a probe, one tracker beside the other.
    """
    evidence = evidence.resolve()  # the programs run in folders of their own
    with concurrent.futures.ThreadPoolExecutor(len(trackers)) as pool:
        for done in [pool.submit(_probe_one, evidence / tracker, tracker) for tracker in trackers]:
            done.result()


def _probe_one(evidence: Path, tracker: str) -> None:
    evidence.mkdir(parents=True, exist_ok=True)
    try:
        version = importlib.metadata.version(DISTRIBUTIONS[tracker])
    except importlib.metadata.PackageNotFoundError:
        version = ""
    (evidence / "client.json").write_text(json.dumps({"tracker": tracker, "version": version, "python": sys.version.split()[0],
                                                      "time": time.strftime("%Y-%m-%d")}))
    if not version:
        return
    for name in criteria.PROBES["offline"]:
        _run(evidence / f"{name}-offline", tracker, name, {})
    for name in criteria.PROBES["online"][:3]:
        with _serve(tracker) as (environment, dump, first):
            _run(evidence / f"{name}-online", tracker, name, environment)
            dump(evidence / f"{name}-online")
            if name == "called":
                _run(evidence / "again-online", tracker, "again", environment | {"PROBE_FIRST": first()})
                dump(evidence / "again-online")


@contextlib.contextmanager
def _serve(tracker: str) -> Iterator[tuple[dict[str, str], holdings.Dump, holdings.First]]:
    """Serve a loopback; yield the client's environment, a function that writes its contents, and one that names its first
    run."""
    if tracker == "neptune":
        with neptune.serve() as (running, store):
            yield ({"NEPTUNE_API_TOKEN": neptune.token(running.url)}, lambda folder: holdings.neptune(store, folder),
                   lambda: next((run.sys_id for run in store.runs.values()), ""))
    else:
        with comet.serve() as (running, store):
            yield (comet.environment(running.url), lambda folder: holdings.comet(store, folder),
                   lambda: next(iter(store.experiments), ""))


def _run(evidence: Path, tracker: str, name: str, environment: dict[str, str]) -> None:
    evidence.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mnist-jax-probe-") as temporary_box:
        box = Path(temporary_box)
        work, home, temporary, start = (box / part for part in ("digits", "home", "tmp", "guard"))
        for folder in (work, home, temporary, start):
            folder.mkdir()
        (start / "sitecustomize.py").write_text(guard.only_loopback(_LOG))
        _repository(work, tracker)
        environment = {
            "PATH": os.environ.get("PATH", ""), "HOME": str(home), "TMPDIR": str(temporary), "OAUTHLIB_INSECURE_TRANSPORT": "1",
            "PYTHONPATH": f"{start}{os.pathsep}{_PACKAGES}", "PROBE": name,
            "PROBE_MODE": "online" if environment else "offline",
            "PROBE_LOG": str(evidence / "calls.jsonl"), "PROBE_OUTSIDE": str(evidence / "outside.jsonl"),
            "JAX_PLATFORMS": "cpu", "USER": "ada", **environment}
        started = time.perf_counter()
        with (evidence / "output.txt").open("w") as output:
            try:
                code = subprocess.run(
                    [sys.executable, "train.py", "--learning_rate=0.1", f"--password={probing.PLANTED_ARGUMENT}"], cwd=work,
                    env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
                    timeout=_LIMIT_S).returncode
            except subprocess.TimeoutExpired:
                code = 124
        seconds = time.perf_counter() - started
        files = {"neptune": work / ".neptune", "comet": work / ".cometml-runs"}[tracker]
        if files.exists():
            shutil.copytree(files, evidence / "files", symlinks=True, dirs_exist_ok=True)
        if name == "killed" and tracker == "comet":  # before its end the client keeps its data in a temporary folder
            for messages in temporary.glob("*/messages.json"):
                shutil.copytree(messages.parent, evidence / "files" / messages.parent.name, symlinks=True)
        (evidence / "end.json").write_text(json.dumps({"code": code, "seconds": round(seconds, 2), "folder": str(work)}))


def _repository(work: Path, tracker: str) -> None:
    """Make a git repository of the program, with a change that is not committed; without git, only the files."""
    source = Path(str(PROGRAMS[tracker].__file__)).read_text()
    (work / "train.py").write_text(source)
    (work / "helpers.py").write_text("# what a user imports\n")
    identity = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.invalid", "GIT_COMMITTER_NAME": "Ada",
                "GIT_COMMITTER_EMAIL": "ada@example.invalid", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    if shutil.which("git"):
        for command in (("init", "-q", "-b", "main"), ("remote", "add", "origin", REMOTE), ("add", "."),
                        ("commit", "-q", "-m", "First")):
            subprocess.run(["git", *command], cwd=work, check=True, env={"PATH": os.environ.get("PATH", ""), **identity})
    (work / "helpers.py").write_text("# what a user imports, changed since the commit\n")
