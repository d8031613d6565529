"""The Neptune 1.x client with exact results: series are counted, read back after a crash, and never sent twice.

Online, each call is confirmed when it returns (the client's mode "sync"): its asynchronous mode keeps a queue of its own, has
no timeout for a server that stalls, and only logs what the server refused.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import events
from mnist_jax.tracking.protocol import Receipt, ReplicaLost

CONTENT_BYTES = 32 * 2**20  # the client refuses larger contents, and logs a larger image as empty, with a warning
_SAME_STEP = 2.0**-10  # between two texts of one step
_EXACT_STEP = 2**53  # their steps are floats
_REFUSED_STATUS = (400, 413, 415, 422)  # of HTTP: the server will never accept this call
_ID = "run/id"  # the field that the tracker writes first
_SENT = Receipt("sent")


def prepare() -> None:
    """Import the client with one attempt a call: a retry could double data that arrived without an answer."""
    os.environ.setdefault("NEPTUNE_RETRIES_TIMEOUT", "1")  # seconds; both are read when the client is imported
    os.environ.setdefault("NEPTUNE_REQUEST_TIMEOUT", "10")
    import neptune  # noqa: F401  (1.3 s)


class NeptuneClient:
    """One run at Neptune. Before `start`, series are only counted: so the confirmed events are not sent again.

    Raises (in every method that reaches the server):
      ConnectionError: the server is gone, or answers garbage.
      Exception: any other refuses this call.
    """

    def __init__(self, offline: bool):
        self._offline = offline
        self._run: Any = None
        self._resumed = False
        self._folder: Path
        self._last: dict[str, float] = {}  # the last step of each series: a step must be greater than the one before
        self._counts: collections.Counter[str] = collections.Counter()  # entries of each series
        self._held: dict[str, int] = {}  # and how many the server held when this process first asked

    def start(self, run: events.RunInfo, folder: Path, *, resumed: bool) -> str:
        """Start or resume the run of this id; return its URL or folder.

        What a run holds that the server has by this id, whoever sent it, is read back.
        """
        import neptune

        self._resumed, self._folder = resumed, folder / ".neptune"
        if self._offline:
            self._counts.clear()  # an offline run starts from the first event
        with _environment(NEPTUNE_DATA_DIRECTORY=str(self._folder)), _connection_errors():
            self._run = neptune.init_run(
                mode="offline" if self._offline else "sync", custom_run_id=run.id, name=run.name, tags=list(run.tags),
                description=run.description, capture_stdout=False, capture_stderr=False, capture_hardware_metrics=False,
                capture_traceback=False, source_files=[], git_ref=False)
            if not self._offline and not resumed:
                self._resumed = self._run.exists(_ID)
            for path in list(self._counts)[:1]:  # check by the first confirmed series that the server still holds the run
                self._surplus(path, None if not path.startswith("images/") else path)
            return str(folder) if self._offline else str(self._run.get_url())

    @property
    def is_counting(self) -> bool:
        """Whether it has not started: series are counted, and nothing is sent."""
        return self._run is None

    def assign(self, path: str, value: str | int | float | bool) -> None:
        if self._run is not None:
            with _connection_errors():
                self._run[path] = value

    def upload(self, path: str, content: bytes | Path, extension: str) -> None:
        """Upload a file: its bytes, or its path where it is larger than CONTENT_BYTES."""
        if self._run is not None:
            with _connection_errors():
                self._run[path].upload(_file(content, extension))

    def extend(self, path: str, values: Sequence[Any], steps: Sequence[float], times: Sequence[float] | None = None,
               image: tuple[str, str] | None = None) -> Receipt:
        """Append entries to a series, except those whose step does not increase, which a server refuses.

        Args:
          values: floats, texts or, with `image`, the bytes of one PNG file.
          image: its file name and its description.
        """
        accepted = []
        if image is None and times is None:
            steps = [self._after_same(path, steps[0])]
        for index, step in enumerate(steps):
            if abs(step) < _EXACT_STEP and step > self._last.get(path, -math.inf):
                self._last[path] = step
                accepted.append(index)
        if self._run is not None:
            with _connection_errors():
                self._send(path, values, steps, times, image, accepted[self._surplus(path, image):],
                           self._counts[path] + len(accepted))
        self._counts[path] += len(accepted)
        if len(accepted) == len(values):
            return _SENT
        note = f"{path}: a step must be greater than the one before, and below 2**53"
        return Receipt("sampled", note, len(accepted), len(values))

    def _after_same(self, path: str, step: float) -> float:
        """Return a step just after the last one for a second text of the same step, since Neptune refuses an equal step."""
        last = self._last.get(path, -math.inf)
        return last + _SAME_STEP if step <= last < step + 1 - _SAME_STEP and step < _EXACT_STEP * _SAME_STEP else step

    def wait(self) -> None:
        """Offline, write the client's buffer to disk."""
        if self._offline:
            self._run.wait()

    def stop(self, timeout_s: float) -> None:
        with _connection_errors():
            self._run.stop(seconds=timeout_s)
        if self._offline and (lost := self._counts - _count_entries(self._folder)):  # the client's threads only log a full disk
            raise OSError(f"{self._folder}: expected {self._counts.total()} entries of series, found {lost.total()} of them "
                          f"missing, the first in {next(iter(lost))}; is the disk full?")

    def _send(self, path: str, values: Sequence[Any], steps: Sequence[float], times: Sequence[float] | None,
              image: tuple[str, str] | None, indices: list[int], expected: int) -> None:
        from neptune import exceptions

        if not indices:
            return
        options: dict[str, Any] = {"steps": [steps[index] for index in indices]}
        if times is not None:
            options["timestamps"] = [times[index] for index in indices]
        try:
            if image is None:
                self._run[path].extend([values[index] for index in indices], **options)
            else:
                self._run[path].append(_file(values[0], "png"), step=steps[0], name=image[0], description=image[1])
        except exceptions.MetadataInconsistency:
            if self._offline or self._length(path, image) != expected:
                raise  # else the server holds all entries: the call was repeated on its way

    def _surplus(self, path: str, image: object) -> int:
        """Return how many entries of a series the server holds beyond the confirmed ones; they are the next ones."""
        if not self._resumed:
            return 0
        if path not in self._held:
            self._held[path] = length = self._length(path, image)
            if length < self._counts[path]:
                raise ReplicaLost(f"{path}: expected the {self._counts[path]} entries that the server confirmed, found "
                                  f"{length}")
        return max(0, self._held[path] - self._counts[path])

    def _length(self, path: str, image: object) -> int:
        """Return how many entries of a series the server holds."""
        if not self._run.exists(path):
            return 0
        series = self._run[path]
        if image is None:
            return len(series.fetch_values(include_timestamp=False, progress_bar=False))
        with tempfile.TemporaryDirectory() as folder:  # the length of an image series is known only after a download
            series.download(folder, progress_bar=False)
            return sum(1 for _ in Path(folder).iterdir())


def _count_entries(folder: Path) -> collections.Counter[str]:
    """Return the number of entries of each series in the offline logs below a folder."""
    counts: collections.Counter[str] = collections.Counter()
    decoder = json.JSONDecoder()
    for log in folder.rglob("data-*.log"):
        text, position = log.read_text(), 0
        while (position := text.find("{", position)) >= 0:
            line, position = decoder.raw_decode(text, position)
            if line["obj"]["type"].startswith("Log"):
                counts["/".join(line["obj"]["path"])] += len(line["obj"]["values"])
    return counts


def _file(content: bytes | Path, extension: str) -> Any:
    from neptune.types import File

    return File(str(content)) if isinstance(content, Path) else File.from_content(content, extension=extension or "bin")


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    """Raise ConnectionError in place of the client's errors that mean a lost server; a refusal passes unchanged."""
    from neptune import exceptions
    from neptune.common import exceptions as common

    refusals = (exceptions.MetadataInconsistency, exceptions.OperationNotSupported, exceptions.NeptuneProtectedPathException,
                exceptions.NeptuneUserApiInputException, exceptions.TypeDoesNotSupportAttributeException)
    try:
        yield
    except refusals:
        raise
    except (exceptions.NeptuneException, json.JSONDecodeError) as error:
        if isinstance(error, common.ClientHttpError) and error.status in _REFUSED_STATUS:
            raise
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
