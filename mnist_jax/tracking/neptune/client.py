"""The Neptune 1.x client made exact: a run whose series are counted, read back after a crash, and never sent twice.

Online, each call is confirmed when it returns (their mode "sync"): their asynchronous mode keeps a queue of its own, cannot
be bounded when a server stalls, and only logs what the server refused.
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
from mnist_jax.tracking.protocol import Forgotten, Receipt

CONTENT_BYTES = 32 * 2**20  # a larger content is refused by the client; a larger image is logged as empty, with a warning
_SAME_STEP = 2.0**-10  # between two texts of one step
_EXACT_STEP = 2**53  # their steps are floats
_REFUSED_STATUS = (400, 413, 415, 422)  # of HTTP: this call will never be taken
_SENT = Receipt("sent")


def prepare() -> None:
    """Import the client with one attempt a call: a repeated one could double what arrived without an answer."""
    os.environ.setdefault("NEPTUNE_RETRIES_TIMEOUT", "1")  # seconds; both are read when the client is imported
    os.environ.setdefault("NEPTUNE_REQUEST_TIMEOUT", "10")
    import neptune  # noqa: F401  (1.3 s)


class NeptuneClient:
    """One run at Neptune. Until `start`, series are only counted: that is how confirmed events are told from the others.

    Raises (in every method that reaches the server):
      ConnectionError: the server is gone, or answers nonsense.
      Exception: any other is a refusal.
    """

    def __init__(self, offline: bool):
        self._offline = offline
        self._run: Any = None
        self._resumed = False
        self._folder: Path
        self._last: dict[str, float] = {}  # the last step of each series: a step must be greater than the one before
        self._given: collections.Counter[str] = collections.Counter()  # entries of each series

    def start(self, run: events.RunInfo, folder: Path, *, resumed: bool) -> str:
        """Start, or continue, the run of this id; return where a person looks."""
        import neptune

        self._resumed, self._folder = resumed, folder / ".neptune"
        if self._offline:
            self._given.clear()  # an offline run begins anew
        with _environment(NEPTUNE_DATA_DIRECTORY=str(self._folder)), _lost():
            self._run = neptune.init_run(
                mode="offline" if self._offline else "sync", custom_run_id=run.id, name=run.name, tags=list(run.tags),
                description=run.description, capture_stdout=False, capture_stderr=False, capture_hardware_metrics=False,
                capture_traceback=False, source_files=[], git_ref=False)
            for path in list(self._given)[:1]:  # the first thing that was confirmed: is this still that run?
                self._arrived(path, None if not path.startswith("images/") else path)
            return str(folder) if self._offline else str(self._run.get_url())

    def assign(self, path: str, value: str | int | float | bool) -> None:
        if self._run is not None:
            with _lost():
                self._run[path] = value

    def upload(self, path: str, content: bytes | Path, extension: str) -> None:
        """Upload a file: a path only where its bytes are more than the client takes."""
        if self._run is not None:
            with _lost():
                self._run[path].upload(_file(content, extension))

    def extend(self, path: str, values: Sequence[Any], steps: Sequence[float], times: Sequence[float] | None = None,
               image: tuple[str, str] | None = None) -> Receipt:
        """Add entries to a series. Those whose step does not increase are left out, since a server refuses them.

        Args:
          values: floats, texts or, with `image`, the bytes of one PNG file.
          image: its file name and its description.
        """
        kept = []
        if image is None and times is None:
            steps = [self._after_same(path, steps[0])]
        for place, step in enumerate(steps):
            if abs(step) < _EXACT_STEP and step > self._last.get(path, -math.inf):
                self._last[path] = step
                kept.append(place)
        if self._run is not None:
            with _lost():
                self._send(path, values, steps, times, image, kept[self._arrived(path, image):], self._given[path] + len(kept))
        self._given[path] += len(kept)
        if len(kept) == len(values):
            return _SENT
        note = f"{path}: a step must be greater than the one before, and below 2**53"
        return Receipt("sampled", note, len(kept), len(values))

    def _after_same(self, path: str, step: float) -> float:
        """Return a step just behind the last one, for a second text of the same step: Neptune would refuse an equal one."""
        last = self._last.get(path, -math.inf)
        return last + _SAME_STEP if step <= last < step + 1 - _SAME_STEP and step < _EXACT_STEP * _SAME_STEP else step

    def wait(self) -> None:
        """Offline, write the client's buffer to disk."""
        if self._offline:
            self._run.wait()

    def stop(self, timeout_s: float) -> None:
        with _lost():
            self._run.stop(seconds=timeout_s)
        if self._offline and (lost := self._given - _logged(self._folder)):  # a full disk is only logged by its threads
            raise OSError(f"{self._folder}: expected {self._given.total()} points and texts that were given, found "
                          f"{lost.total()} of them missing, the first in {next(iter(lost))}; is the disk full?")

    def _send(self, path: str, values: Sequence[Any], steps: Sequence[float], times: Sequence[float] | None,
              image: tuple[str, str] | None, places: list[int], expected: int) -> None:
        from neptune import exceptions

        if not places:
            return
        given: dict[str, Any] = {"steps": [steps[place] for place in places]}
        if times is not None:
            given["timestamps"] = [times[place] for place in places]
        try:
            if image is None:
                self._run[path].extend([values[place] for place in places], **given)
            else:
                self._run[path].append(_file(values[0], "png"), step=steps[0], name=image[0], description=image[1])
        except exceptions.MetadataInconsistency:
            if self._offline or self._held(path, image) != expected:
                raise  # else the server has it all: the call was made twice somewhere on its way

    def _arrived(self, path: str, image: object) -> int:
        """Return how many entries of a series the server holds beyond those given; they are the next ones."""
        if not self._resumed:
            return 0
        held = self._held(path, image)
        if held < self._given[path]:
            raise Forgotten(f"{path}: expected the {self._given[path]} entries that the server had confirmed, found {held}")
        return held - self._given[path]

    def _held(self, path: str, image: object) -> int:
        if not self._run.exists(path):
            return 0
        series = self._run[path]
        if image is None:
            return len(series.fetch_values(include_timestamp=False, progress_bar=False))
        with tempfile.TemporaryDirectory() as folder:  # an image series tells its length only by a download
            series.download(folder, progress_bar=False)
            return sum(1 for _ in Path(folder).iterdir())


def _logged(folder: Path) -> collections.Counter[str]:
    """Return the entries of each series in the offline logs below a folder."""
    held: collections.Counter[str] = collections.Counter()
    decoder = json.JSONDecoder()
    for log in folder.rglob("data-*.log"):
        text, place = log.read_text(), 0
        while (place := text.find("{", place)) >= 0:
            line, place = decoder.raw_decode(text, place)
            if line["obj"]["type"].startswith("Log"):
                held["/".join(line["obj"]["path"])] += len(line["obj"]["values"])
    return held


def _file(content: bytes | Path, extension: str) -> Any:
    from neptune.types import File

    return File(str(content)) if isinstance(content, Path) else File.from_content(content, extension=extension or "bin")


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """Tell a lost server from a refusal: raise ConnectionError for the first, let the second pass."""
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
