"""What a tracker is: the protocol, what a backend says of its support, receipts, and where backends are found.

A tracker is a replica of the record. It may refuse, raise or hang; nothing it does reaches training (sync.py).
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol

from mnist_jax import errors, events
from mnist_jax.tracking import sampling

Mode = Literal["auto", "offline", "online"]
MODES: tuple[Mode, ...] = ("auto", "offline", "online")


@dataclasses.dataclass(frozen=True)
class Support:
    """How a backend holds one kind of event."""

    level: Literal["native", "converted", "unsupported"]
    note: str


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What became of one event at a tracker; `count` of `total` values were kept where some were sampled."""

    state: Literal["sent", "converted", "unsupported", "sampled", "failed"]
    note: str = ""
    count: int = 1
    total: int = 1


class Forgotten(OSError):
    """A destination does not hold what it had confirmed: everything is read back, and what is missing sent again."""


class Tracker(Protocol):
    """A backend: four methods, no vendor object among their results. mnist_jax.tracking.testing proves one."""

    name: str
    support: Mapping[type, Support]

    def open(self, run: events.RunInfo, path_of: Callable[[events.Blob], Path], *, earlier: Sequence[events.Event] | None) -> str:
        """Start a replica, or continue one; return where a person looks: a URL or a folder.

        Args:
          path_of: where the bytes of a blob lie.
          earlier: None for a new replica. To continue one: the events that were confirmed. Some of what is written next
            may have arrived, too: read back what the replica holds beyond them, and send nothing a second time.
        """

    def write(self, event: events.Event) -> Receipt:
        """Take one event.

        Raises:
          OSError: the destination is gone (no server, no room); the event is sent again by a later attempt.
          Exception: any other is a refusal of this event, kept as its receipt.
        """

    def flush(self, timeout_s: float) -> bool:
        """Return whether everything so far is safe at the destination."""

    def close(self, status: str, timeout_s: float) -> None:
        """End the replica with an status of events.STATUSES; a second call does nothing."""


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a replica lies: an offline folder in the run's directory, a server by its host name, a third party's object."""

    tracker: str
    mode: Literal["offline", "online", "given"]
    host: str = ""
    why: str = ""  # why it was chosen, where the mode was auto
    warning: str = ""  # what a person should know before anything is sent
    limits: sampling.Limits = sampling.NONE
    given: Tracker | None = None

    @property
    def label(self) -> str:
        return f"{self.tracker}-{re.sub(r'[^A-Za-z0-9.-]', '-', self.host) if self.mode == 'online' else self.mode}"

    def announcements(self) -> list[str]:
        """Return what a person should read before anything is sent: the mode where it was chosen for them, a warning."""
        place = f"online, {self.host}" if self.mode == "online" else self.mode
        return ([f"{self.tracker}: {place} ({self.why})"] if self.why else []) + (
            [f"warning: {self.warning}"] if self.warning else [])


Choice = str | Tracker | Sequence[str | Tracker]  # names may be comma-separated; "local" is the record alone

BACKENDS = {"neptune": ("mnist_jax.tracking.neptune.tracker", "neptune"), "comet": ("mnist_jax.tracking.comet.tracker", "comet_ml")}
ENTRY_POINTS = "mnist_jax.trackers"  # the group in which a package names its backend module


def backend(name: str) -> ModuleType:
    """Return a backend's module: it has `destination(mode)`, `create(destination, folder)`, and may have `prepare()`.

    Raises:
      UserError: no backend has that name, or its client is not installed.
    """
    if name in BACKENDS:
        module, client = BACKENDS[name]
        if importlib.util.find_spec(client) is None:
            raise errors.UserError(f"--tracker={name}: expected the package {client}, found that it is not installed; "
                                   f"run: pip install 'mnist-jax[{name}]'")
        return importlib.import_module(module)
    others = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name not in others:
        known = [*BACKENDS, *others]
        raise errors.UserError(f"--tracker: expected some of {', '.join(known)} (comma-separated), or local for the "
                               f"record alone; found {name!r}{errors.suggestion(name, known)}")
    module = others[name].load()
    return typing.cast(ModuleType, module)


def destinations(trackers: Choice, mode: str) -> list[Destination]:
    """Return where each tracker would be synced.

    Raises:
      UserError: a tracker is unknown or named twice, or what its mode needs is missing.
    """
    if mode not in MODES:
        raise errors.UserError(f"--tracker_mode: expected one of {', '.join(MODES)}; found {mode!r}")
    found = []
    for choice in trackers if isinstance(trackers, Sequence) and not isinstance(trackers, str) else [trackers]:
        if isinstance(choice, str):
            names = [name.strip() for name in choice.split(",")]
            found += [backend(name).destination(typing.cast(Mode, mode)) for name in names if name not in ("", "local")]
        else:
            found.append(Destination(choice.name, "given", given=choice))
    for destination in found:
        if not destination.tracker.isidentifier():  # it becomes the first part of a file's name
            raise errors.UserError(f"tracker: expected a name of letters, digits and _, found {destination.tracker!r}")
    labels = [destination.label for destination in found]
    if len(set(labels)) != len(labels):
        raise errors.UserError(f"--tracker: expected each tracker once, found {', '.join(labels)}")
    return found
