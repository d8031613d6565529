"""The Comet 3.x client with exact results: what it sent is read back from the server, and nothing is sent twice.

Online, neither flush() nor end() of the client proves that data arrived: a batch that the server answers with 500 is only
logged as an error, one answered with garbage counts as sent, and one whose answer is lost is sent again. So the client's
retries are turned off, an error that it logs ends the attempt, and before the end the whole experiment is read back.
"""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnist_jax import events
from mnist_jax.tracking.comet import contents, problems
from mnist_jax.tracking.protocol import Receipt

_SETTLE_S = 8.0  # data that was sent may take so long to be readable
_POLL_S = 0.5  # between two reads of a server
_UPLOAD_S, _SLOW_BYTES_PER_S = 30.0, 250_000  # a file's upload may take so long, and longer by its size
_SETTINGS = {
    "ERROR_TRACKING_ENABLE": "false",  # else about every second import sends a report
    # One attempt a call, and none after a reconnect: a retry doubles data that arrived without an answer.
    "HTTP_SESSION_RETRY_TOTAL": "0", "GET_OR_ADD_EXPERIMENT_RETRY_TOTAL": "0",
    "FALLBACK_STREAMER_CONNECTION_CHECK_INTERVAL": "86400",
    "TIMEOUT_CLEANING": "10", "TIMEOUT_UPLOAD": "30", "TIMEOUT_FILE_UPLOAD": "60",  # seconds
}
_QUIET: dict[str, Any] = dict(
    log_code=False, log_graph=False, parse_args=False, log_git_metadata=False, log_git_patch=False, log_env_details=False,
    auto_output_logging=False, auto_param_logging=False, auto_metric_logging=False, display_summary_level=0)


def prepare() -> None:
    """Import the client with settings that turn off its retries and reports."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(f"COMET_{name}", value)  # read when the client is imported
    os.environ["COMET_LOGGING_CONSOLE"] = "CRITICAL"  # it prints an API key that a server refuses
    import comet_ml  # noqa: F401  (1.2 s)


class CometClient:
    """One experiment at Comet. What is sent and what the server holds are counted by the keys of contents.py.

    Raises (in every method that reaches the server):
      ConnectionError: the server is gone, or did not accept what the client counts as sent.
      Exception: any other refuses this call.
    """

    def __init__(self, offline: bool):
        self._offline = offline
        self._experiment: Any = None
        self._api: Any = None
        self._sent: collections.Counter[tuple] = collections.Counter()  # what the server should hold
        self._surplus: collections.Counter[tuple] = collections.Counter()  # on the server when opened, and not sent again yet
        self._recent: list[tuple] = []  # sent for the current event
        self._problems = problems.Problems()
        self._archive: Path

    def start(self, key: str, folder: Path, *, resumed: bool) -> str:
        """Start or resume the experiment of this key; return its URL or archive.

        What an experiment holds that the server has by this key, whoever sent it, is read back.
        """
        import comet_ml

        if self._offline:
            with _temporary_files_in(folder / "open"):  # a killed client leaves its data there
                self._experiment = comet_ml.OfflineExperiment(offline_directory=str(folder), experiment_key=key, **_QUIET)
            self._archive = folder / f"{key}.zip"
            return str(self._archive)
        logging.getLogger("comet_ml").addHandler(self._problems)
        try:
            resumed = resumed or comet_ml.api.API(cache=False).get_experiment_by_key(key) is not None
            self._experiment = comet_ml.start(experiment_key=key, mode="get_or_create", online=True,
                                              experiment_config=comet_ml.ExperimentConfig(**_QUIET))
            alive = self._experiment.alive
        except Exception as error:  # of many kinds; each means that there is no experiment
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if not alive:
            raise ConnectionError(f"Comet did not accept the experiment: "
                                  f"{self._problems.take_refusals() or self._problems.first()}")
        self._api = comet_ml.api.API(cache=False)
        if resumed:
            with problems.connection_errors():
                self._surplus = self._stable_contents()
        return str(self._experiment.url)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count what a block sends, unless the block raises."""
        self._recent.clear()
        try:
            yield
        except Exception:
            self._sent.subtract(self._recent)
            raise

    def new(self, *key: Any) -> bool:
        """Return whether something is to be sent, and count it as sent."""
        self._sent[key] += 1
        self._recent.append(key)
        if self._surplus[key] > 0:
            self._surplus[key] -= 1
            return False
        return True

    def call(self, method: str, *arguments: Any, **named: Any) -> None:
        """Call a method of the experiment. The client only logs a refused argument; here it raises ValueError."""
        with problems.connection_errors():
            getattr(self._experiment, method)(*arguments, **named)
        if refusal := self._problems.take_refusals():
            raise ValueError(refusal)

    def flush(self, timeout_s: float) -> bool:
        """Return whether the client reports that everything arrived. Raises ConnectionError if it logged an error."""
        if self._offline:
            return True
        confirmed = bool(self._experiment.flush(timeout=max(1, int(timeout_s))))
        self._raise_problems()
        return confirmed

    def stop(self, timeout_s: float) -> None:
        """Read back what the server holds; end the experiment if nothing is missing."""
        if not self._offline:
            if not self.flush(timeout_s):
                raise ConnectionError("Comet did not confirm the last of the data")
            with problems.connection_errors():
                missing = self._missing()
            if missing:
                raise ConnectionError(f"Comet does not hold {missing.total()} of {self._sent.total()} items that were sent, "
                                      f"the first {next(iter(missing))}")
        self._experiment.end()
        logging.getLogger("comet_ml").removeHandler(self._problems)
        # The client's threads only log a full disk.
        if self._offline and (lost := self._sent - contents.in_archive(self._archive)):
            raise OSError(f"{self._archive}: expected {self._sent.total()} items, found {lost.total()} of them "
                          f"missing, the first {next(iter(lost))}; is the disk full?")

    def artifact(self, name: str, kind: str, path_of: Callable[[events.Blob], Path], blob: events.Blob,
                 metadata: dict[str, Any]) -> Receipt:
        """Log a file as a new version of an artifact, unless this experiment has logged the same bytes."""
        import comet_ml

        if not self._has_artifact(name, blob.sha256):
            artifact = comet_ml.Artifact(name, kind, metadata={**metadata, "run": self._experiment.id})
            artifact.add(str(path_of(blob)), logical_path=blob.name)
            self.call("log_artifact", artifact)
        return Receipt("sent")

    def register(self, name: str, comment: str, size: int) -> Receipt:
        """Register the logged model of this name, of so many bytes, as a new version, unless this experiment has one."""
        if not self.flush(_UPLOAD_S + size / _SLOW_BYTES_PER_S):  # a version consists of the files on the server
            raise ConnectionError("Comet did not confirm the files of a model")
        if not self._is_registered(name):
            with problems.connection_errors():  # the experiment's own method only queues it, and fails when resumed
                experiment = self._api.get_experiment_by_key(self._experiment.id)
                experiment.register_model(name, comment=comment, tags=[], public=False)
        return Receipt("sent")

    def _workspace(self) -> str:
        # Where none is configured, only the server knows the default of the account.
        return self._experiment.workspace or self._api.get_experiment_by_key(self._experiment.id).workspace

    def _is_registered(self, name: str) -> bool:
        from comet_ml import exceptions

        try:
            with problems.connection_errors():
                details = self._api.get_registry_model_details(self._workspace(), name)
        except exceptions.CometRestApiException:
            return False  # no such model yet
        return any(version["experimentModel"]["experimentKey"] == self._experiment.id for version in details["versions"])

    def _has_artifact(self, name: str, sha256: str) -> bool:
        from comet_ml import exceptions

        try:
            with problems.connection_errors():
                versions = self._api.get_artifact_details(self._workspace(), name)["versions"]
        except (exceptions.ArtifactNotFound, exceptions.CometRestApiException):
            return False  # no such artifact yet
        complete = [json.loads(version["metadata"] or "{}") for version in versions if version["state"] == "CLOSED"]
        return any((facts.get("run"), facts.get("sha256")) == (self._experiment.id, sha256) for facts in complete)

    def _raise_problems(self) -> None:
        if problem := self._problems.take_refusals() or self._problems.first():
            raise ConnectionError(f"Comet's client reports: {problem}")
        if not self._experiment.streamer.has_connection_to_server():
            raise ConnectionError("Comet's client lost its server")
        if self._experiment.streamer.has_upload_failed():
            raise ConnectionError("Comet's client could not upload an artifact")

    def _stable_contents(self) -> collections.Counter[tuple]:
        """Return what the server holds, once two reads agree."""
        deadline = time.monotonic() + _SETTLE_S
        current = contents.on_server(self._api, self._experiment.id)
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            before, current = current, contents.on_server(self._api, self._experiment.id)
            if before == current:
                break
        return current

    def _missing(self) -> collections.Counter[tuple]:
        """Return what was sent and is not on the server after _SETTLE_S."""
        deadline = time.monotonic() + _SETTLE_S
        while True:
            missing = self._sent - contents.on_server(self._api, self._experiment.id)
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(_POLL_S)


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
