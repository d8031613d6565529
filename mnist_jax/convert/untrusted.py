"""Reads files of other programs into events, with an account of what was skipped or changed.

The files are not trusted: every read is bounded, follows no link and stays inside the path of the import.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_jax import errors, events, secrets

FILE_BYTES = 2**30  # of one file
TOTAL_BYTES = 2**33  # of everything that is read from one source
OUTSIDE = "files outside the folder, which --allow_outside reads where they still are"
STEP_LIMIT = 2**62

WriteBlob = Callable[[bytes, str], events.Blob]  # writes bytes under a name and returns their address
_SHOWN = 12  # names in one line of the account


class ForeignPoint(NamedTuple):
    """One value of a series as in the source; the step is an integer, a fraction, or None."""

    value: float
    step: Any
    time: float


class Account:
    """What was skipped and what was changed in an import, with counts and reasons."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], list[str]] = {}

    def skip(self, reason: str, name: str) -> None:
        self._names.setdefault(("skipped", reason), []).append(name)

    def change(self, reason: str, name: str) -> None:
        self._names.setdefault(("changed", reason), []).append(name)

    def lines(self, kind: str) -> list[str]:
        """Return one line per reason: "3 x reason: names"."""
        return [f"{len(names)} x {reason}: {_summary(names)}" for (of, reason), names in self._names.items() if of == kind]


@dataclasses.dataclass
class ForeignRun:
    """A run read from another program's files. `status` is None where its client was killed."""

    source: str  # a description of the files, for a person
    run: events.RunInfo
    facts: list[events.Event]
    status: str | None
    account: Account


class Budget:
    """Limits the bytes that are read from one source, so that a small archive cannot unpack without end."""

    def __init__(self, place: Path, total: int = TOTAL_BYTES):
        self._place, self._total, self._left = place, total, total

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise errors.UserError(f"{self._place}: expected at most {self._total} bytes of contents, found more; "
                                   f"unpack it and import what is needed")


def read_file(path: Path, budget: Budget, limit: int = FILE_BYTES) -> bytes:
    """Return the bytes of a regular file; a symbolic link is an error.

    Raises:
      OSError: it does not exist, is not a regular file, or cannot be read.
      UserError: it is larger than `limit`.
    """
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        if status.st_size > limit:
            raise errors.UserError(f"{path}: expected a file of at most {limit} bytes, found {status.st_size}")
        budget.take(status.st_size)
        return stream.read(limit + 1)


def is_plain_name(name: Any) -> bool:
    """Return whether a name stays in its folder: no separator, no "..", no NUL, not absolute."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def loads(text: str | bytes, place: str) -> Any:
    """Return the JSON value of a text. Raises ValueError, or UserError where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise errors.UserError(f"{place}: expected JSON of a usual depth, found values nested too deeply to read") from None


def seconds(time: Any) -> float:
    """Return a finite number of unix seconds, or 0 for anything else."""
    number = isinstance(time, int | float) and not isinstance(time, bool) and abs(time) < 1e15
    return float(time) if number else 0.0


def safe_name(name: str) -> str:
    """Return a file name that stays in its folder when somebody unpacks it there."""
    names = [part for part in name.replace("\\", "/").replace("\0", "").split("/") if part not in ("", ".", "..")]
    return "/".join(names) or "file"


def is_run_id(text: Any) -> bool:
    """Return whether a value is a run id of this package."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{32}", text) is not None


def text(data: bytes) -> str:
    """Return bytes as text that JSON can hold."""
    return data.decode(errors="replace")


def without_secrets(line: str) -> str:
    """Return a command line or an address with the credentials masked that can be recognised."""
    return secrets.mask(line)


def parameter(name: str, value: Any, account: Account) -> Any:
    """Return the value of a parameter, masked where its name says that it is a credential."""
    if isinstance(value, str) and value and secrets.is_credential(name):
        account.change("value masked, because its name is that of a credential", name)
        return secrets.MASK
    return value


def metrics(name: str, points: list[ForeignPoint], write_blob: WriteBlob, account: Account) -> Iterator[events.Event]:
    """Yield a series with increasing integer steps; where the source has other steps, also the original series as a file."""
    steps = [_step(point.step) for point in points]
    if all(point.step is None for point in points):
        account.change("steps numbered from 0, because the series has none", name)
        steps = list(range(len(points)))
    elif any(step is None for step in steps):
        account.change("steps numbered from 0, because some are fractions or missing (the original series is a file)", name)
        steps = list(range(len(points)))
        yield _original(name, points, write_blob)
    elif any(later <= earlier for earlier, later in itertools.pairwise(steps)):  # type: ignore[operator]
        account.change("steps sorted, with the last value of a repeated step (the original series is a file)", name)
        yield _original(name, points, write_blob)
    last = {step: point for step, point in zip(steps, points, strict=True)}
    order = sorted(last)  # type: ignore[type-var]
    yield events.Metrics(np.array(order, np.int64), {name: np.array([last[step].value for step in order])},
                         np.array([last[step].time for step in order]))


def same_steps(series: dict[str, list[ForeignPoint]]) -> Iterator[events.Metrics]:
    """Yield one Metrics for each group of series with the same steps and times."""
    groups: dict[Any, dict[str, list[ForeignPoint]]] = {}
    for name, points in series.items():
        groups.setdefault(tuple((point.step, point.time) for point in points), {})[name] = points
    for shared, members in groups.items():
        if any(not isinstance(step, int) or isinstance(step, bool) or abs(step) > STEP_LIMIT for step, _ in shared):
            raise ValueError(f"a step of {next(iter(members))!r} is not an integer")
        steps, times = (list(column) for column in zip(*shared, strict=True)) if shared else ([], [])
        values = {name: np.array([point.value for point in points], np.float64) for name, points in members.items()}
        yield events.Metrics(np.array(steps, np.int64), values, np.array(times, np.float64))


def only(facts: list[events.Event]) -> events.Event:
    """Return the only event between two marks. Raises ValueError."""
    if len(facts) != 1:
        raise ValueError(f"expected one event between two marks, found {len(facts)}: an empty event stores nothing")
    return facts[0]


def dataset(split: str, facts: dict[str, Any]) -> events.Dataset:
    """Return the Dataset of the fields that our trackers write. Raises KeyError, TypeError or ValueError where they differ."""
    texts = {name: str(facts[name]) for name in ("name", "version", "digest", "origin")}
    return events.Dataset(split=split, examples=int(facts["examples"]), shape=tuple(map(int, facts["shape"])),
                          class_counts=tuple(map(int, facts["class_counts"])), **texts)


def _step(step: Any) -> int | None:
    if isinstance(step, bool) or not isinstance(step, int | float) or not abs(step) <= STEP_LIMIT:
        return None
    return int(step) if int(step) == step else None


def _original(name: str, points: Iterable[ForeignPoint], write_blob: WriteBlob) -> events.Artifact:
    lines = [f"{'' if point.step is None else point.step},{point.value!r},{point.time!r}\n" for point in points]
    data = ("step,value,time\n" + "".join(lines)).encode(errors="replace")
    return events.Artifact(f"original/{name}", write_blob(data, f"{name}.csv"), "series", {"points": len(lines)})


def _summary(names: list[str]) -> str:
    unique = [line for line in dict.fromkeys(name[:200] for name in names) if line]
    rest = f" and {len(unique) - _SHOWN} more" if len(unique) > _SHOWN else ""
    return ", ".join(unique[:_SHOWN]).replace("\n", " ") + rest


def picture(name: str, step: int, data: bytes, title: str, caption: str, write_blob: WriteBlob) -> events.Event:
    """Return an Image of a PNG file, an Artifact of a picture in another format."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return events.Image(name, step, write_blob(data, title), caption)
    return events.Artifact(f"{name}/{step}", write_blob(data, title), "image", {"step": step, "caption": caption})
