"""What a tracker is: the protocol, what a backend says of its support, receipts, and where backends are found.

A tracker is a replica of the record. It may refuse, raise or hang; nothing it does reaches training (delivery.py).
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol

from mnist_jax import errors, events

Mode = Literal["auto", "offline", "online"]
MODES: tuple[Mode, ...] = ("auto", "offline", "online")


@dataclasses.dataclass(frozen=True)
class Support:
    """How a backend holds one kind of event."""

    level: Literal["native", "translated", "absent"]
    note: str


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What became of one event at a tracker; `count` of `total` values were kept where some were thinned."""

    state: Literal["sent", "translated", "absent", "thinned", "failed"]
    note: str = ""
    count: int = 1
    total: int = 1


class Tracker(Protocol):
    """A backend: five methods, no vendor object among their results. Proven by mnist_jax.contract."""

    name: str
    support: Mapping[type, Support]

    def open(self, run: events.Run, path_of: Callable[[events.Blob], Path], *, resume: bool) -> str:
        """Start or, with `resume`, continue the replica; return where a person looks: a URL or a folder."""

    def write(self, event: events.Event) -> Receipt:
        """Take one event. Raises on refusal; the delivery keeps the reason as a receipt."""

    def flush(self, timeout_s: float) -> bool:
        """Return whether everything so far is safe at the destination."""

    def close(self, outcome: str, timeout_s: float) -> None:
        """End the replica with an outcome of events.OUTCOMES; a second call does nothing."""


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a tracker's replica lies: an offline folder in the run's directory, or a server by its host name."""

    tracker: str
    mode: Literal["offline", "online"]
    host: str = ""

    @property
    def label(self) -> str:
        return f"{self.tracker}-{self.mode if self.mode == 'offline' else re.sub(r'[^A-Za-z0-9.-]', '-', self.host)}"


BACKENDS = {"neptune": ("mnist_jax.neptune_tracker", "neptune"), "comet": ("mnist_jax.comet_tracker", "comet_ml")}


def backend(name: str) -> ModuleType:
    """Return a backend's module; it has `destination(mode)` and `create(destination, folder)`.

    Raises:
      UserError: no backend has that name, or its client is not installed.
    """
    if name not in BACKENDS:
        raise errors.UserError(f"--tracker: expected some of {', '.join(BACKENDS)} (comma-separated), or local for the "
                               f"record alone; found {name!r}{errors.suggestion(name, BACKENDS)}")
    module, client = BACKENDS[name]
    if importlib.util.find_spec(client) is None:
        raise errors.UserError(f"--tracker={name}: expected the package {client}, found that it is not installed; "
                               f"run: pip install 'mnist-jax[{name}]'")
    return importlib.import_module(module)


def destinations(names: str, mode: str) -> list[Destination]:
    """Return where each tracker of a comma-separated list would deliver; "local" is the record alone."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if len(set(wanted)) != len(wanted):
        raise errors.UserError(f"--tracker: expected each tracker once, found {names!r}")
    if mode not in MODES:
        raise errors.UserError(f"--tracker_mode: expected one of {', '.join(MODES)}; found {mode!r}")
    return [backend(name).destination(typing.cast(Mode, mode)) for name in wanted if name != "local"]
