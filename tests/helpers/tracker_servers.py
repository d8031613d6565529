"""The two loopback servers behind one face: where a client finds each, and what it holds of a run, as plain data."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax.compare.servers import comet, neptune
from mnist_jax.compare.servers import server as compare_server
from mnist_jax.tracking import protocol, receipts, replica
from tests.helpers import guarded_process

TRACKERS = ["neptune", "comet"]
# Read when a client is imported: a stalled call ends within a second, so that a test need not wait for it.
QUICK = {"NEPTUNE_RETRIES_TIMEOUT": "1", "NEPTUNE_REQUEST_TIMEOUT": "1", "OAUTHLIB_INSECURE_TRANSPORT": "1",
         "COMET_TIMEOUT_HTTP": "1", "COMET_TIMEOUT_API": "1", "COMET_TIMEOUT_FILE_UPLOAD": "1"}
PATIENT = {"OAUTHLIB_INSECURE_TRANSPORT": "1", "COMET_ERROR_TRACKING_ENABLE": "false"}  # as a user's client is


@dataclasses.dataclass
class TrackerServer:
    """A tracker's server, and the environment that leads to it."""

    tracker: str
    server: compare_server.Server
    store: Any
    environment: dict[str, str]
    bad_key: dict[str, str]

    @property
    def secrets(self) -> list[str]:
        """Return the credentials that led the client here."""
        return [value for name, value in self.environment.items() if "TOKEN" in name or "KEY" in name]

    @property
    def spelled_otherwise(self) -> dict[str, str]:
        """Return the environment that leads here by another name of this machine."""
        url = self.server.url.replace("127.0.0.1", "localhost")
        return {**self.environment, **({"NEPTUNE_API_TOKEN": neptune.token(url)} if self.tracker == "neptune" else
                                       comet.environment(url))}

    def sync(self, directory: Path, environment: dict[str, str] | None = None,
                bounds: dict[str, float] | None = None) -> receipts.SyncStatus:
        """Make one attempt in a process of its own, which reaches nothing but this machine.

        Args:
          environment: what leads the client, by default to this server with a good key.
          bounds: seconds of the calls of an attempt, such as OPEN_S, in place of those of replica.py.
        """
        environment = environment or self.environment
        host = "localhost" if environment == self.spelled_otherwise else "127.0.0.1"
        project = "-" + environment["NEPTUNE_PROJECT"].replace("/", "+") if self.tracker == "neptune" else ""
        label = f"{self.tracker}-{host}-{self.server.port}{project}"
        arguments = (directory, self.tracker, environment, bounds or {})
        process = _processes().Process(target=_attempt, args=arguments)
        process.start()
        process.join(60)
        assert process.exitcode == 0, process.exitcode
        return receipts.sync_status(directory, label)

    def upload(self, offline: Path, home: Path) -> None:
        """Send an offline replica with the vendor's own command."""
        code = {"neptune": "from neptune.cli.__main__ import main\n"
                           f"main(['sync', '--path', {str(offline)!r}, '-p', 'team/mnist', '--offline-only'])",
                "comet": "import pathlib; from comet_ml.scripts import comet\n"
                         f"comet.main(['upload', *map(str, pathlib.Path({str(offline)!r}).glob('*.zip'))])"}[self.tracker]
        done = guarded_process.python(home, code, **self.environment, COMET_OFFLINE_SAMPLING_SIZE="1000000")
        assert done.returncode == 0, done.stdout + done.stderr

    def contents(self, run: str) -> dict[str, Any]:
        """Return what the server holds of a run; the same for the same syncs."""
        return {"neptune": _neptune, "comet": _comet}[self.tracker](self.store, run)


def _processes() -> Any:
    """Return a context whose processes start with the clients imported: each attempt saves the seconds of that."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.tracker_servers", "neptune", "comet_ml"])
    return context


def sync_offline_with_a_full_disk(directory: Path, tracker: str, file_bytes: int) -> receipts.SyncStatus:
    """Make an offline attempt in a process of its own whose files cannot grow beyond some bytes."""
    process = _processes().Process(target=_attempt_on_a_full_disk, args=(directory, tracker, file_bytes))
    process.start()
    process.join(60)
    assert process.exitcode == 0, process.exitcode
    return receipts.sync_status(directory, f"{tracker}-offline")


def _attempt_on_a_full_disk(directory: Path, tracker: str, file_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
    (destination,) = protocol.destinations(tracker, "offline")
    replica.update(directory, destination)
    os._exit(0)


def _attempt(directory: Path, tracker: str, environment: dict[str, str], bounds: dict[str, float]) -> None:
    exec(guarded_process.GUARD)
    os.environ.update(environment)
    for name, seconds in bounds.items():
        setattr(replica, name, seconds)
    (destination,) = protocol.destinations(tracker, "online")
    replica.update(directory, destination)
    os._exit(0)  # past the hooks of the clients, as the real process does


def _neptune(store: Any, run: str) -> dict[str, Any]:
    found = store.run(run)
    if found is None and store.runs and all(run.custom_run_id is None for run in store.runs.values()):
        (found,) = store.runs.values()  # their offline mode drops the id
    if found is None:
        return {}
    assert not found.rejected, found.rejected
    own = ("sys/id", "sys/creation_time", "sys/custom_run_id", "source_code/entrypoint")  # the last is the client's own
    return {path: _untimed(field) for path, field in found.fields.items() if path not in own}


def _untimed(field: Any) -> Any:
    if field.kind in ("stringSeries", "imageSeries"):  # their time is that of the sending
        return [(point.step, point.value) for point in field.value]
    return field.value


def _comet(store: Any, run: str) -> dict[str, Any]:
    found = store.experiments.get(run)
    if found is None:
        return {}
    assert len(store.experiments) == 1 and not found.errors
    own = ("curr_step", "curr_epoch", "offline_experiment", "process duration")  # the client's own words
    return {
        "metrics": sorted((point.name, point.step, str(point.value), point.epoch) for point in found.metrics
                          if point.name not in own),
        "parameters": {entry.name: entry.value for entry in found.parameters if entry.name not in own},
        "others": {entry.name: str(entry.value) for entry in found.others if entry.name not in own},
        "tags": set(found.tags), "system": dict(found.system_info), "packages": dict(found.dependencies),
        "assets": sorted((asset.type, asset.name, str(asset.step), asset.content, str(asset.metadata))
                         for asset in found.assets),
        "artifacts": {artifact.name: [[(asset.name, asset.content) for asset in version.assets]
                                      for version in artifact.versions if version.state == "CLOSED"]
                      for artifact in store.artifacts},
        "registered": {model.name: [version.experiment_key for version in model.versions] for model in store.models},
    }


@contextlib.contextmanager
def serve(tracker: str) -> Iterator[TrackerServer]:
    """Serve a tracker's loopback until the block ends."""
    if tracker == "neptune":
        with neptune.serve() as (running, store):
            environment = {"NEPTUNE_API_TOKEN": neptune.token(running.url), "NEPTUNE_PROJECT": "team/mnist"}
            bad_key = {**environment, "NEPTUNE_API_TOKEN": neptune.token(running.url, key="of somebody else")}
            yield TrackerServer(tracker, running, store, environment, bad_key)
            assert not running.errors and not store.unknown, (running.errors, store.unknown)
    else:
        with comet.serve() as (running, kept):
            environment = comet.environment(running.url)
            yield TrackerServer(tracker, running, kept, environment, comet.environment(running.url, key="of somebody else"))
            assert not running.errors and not kept.unknown, (running.errors, kept.unknown)
