"""The protocol of a tracker: its methods, its support of each kind of event, its receipts, and the table of backends.

A tracker holds a replica of the record. It may refuse, raise or hang; nothing that it does reaches training (sync.py).
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
    """How a backend supports one kind of event."""

    level: Literal["native", "converted", "unsupported"]
    note: str


@dataclasses.dataclass(frozen=True)
class Receipt:
    """The result of sending one event; of a sampled one, `count` of `total` values were sent."""

    state: Literal["sent", "converted", "unsupported", "sampled", "failed"]
    note: str = ""
    count: int = 1
    total: int = 1


class ReplicaLost(OSError):
    """A destination no longer holds what it had confirmed: the next attempt reads it back and sends what is missing."""


class Tracker(Protocol):
    """A backend: four methods, none of which returns a vendor's object. mnist_jax.tracking.testing tests one."""

    name: str
    support: Mapping[type, Support]

    def open(self, run: events.RunInfo, path_of: Callable[[events.Blob], Path], *,
             earlier: Sequence[events.Event] | None) -> str:
        """Start or resume a replica; return its address for a person: a URL or a folder.

        Args:
          path_of: returns the file with the bytes of a blob.
          earlier: The confirmed events, to resume a replica. Some of the events that are written next may have arrived, too:
            read back what the replica holds beyond the confirmed ones, and send nothing a second time. None for a replica of
            which nothing is known here. A copy of this record may have been sent, from another place or to another spelling
            of the address: ask whether the destination knows `run.id`, and if so, go on as with no confirmed events.
        """

    def write(self, event: events.Event) -> Receipt:
        """Send one event.

        Raises:
          OSError: the destination is gone (no server, no disk space); a later attempt sends the event again.
          Exception: any other refuses this event; the receipt says why.
        """

    def flush(self, timeout_s: float) -> bool:
        """Return whether the destination has confirmed everything so far."""

    def close(self, status: str, timeout_s: float) -> None:
        """End the replica with a status of events.STATUSES; a second call does nothing."""


@dataclasses.dataclass(frozen=True)
class Destination:
    """The place of a replica: an offline folder in the run's directory, a server by its host name, or a tracker object."""

    tracker: str
    mode: Literal["offline", "online", "object"]
    host: str = ""
    reason: str = ""  # for the mode, where it was auto
    warning: str = ""  # printed before anything is sent
    limits: sampling.Limits = sampling.NONE
    tracker_object: Tracker | None = None  # a third party's, which only this process has
    project: str = ""  # workspace/project, where a server knows the id of a run only within its project

    @property
    def label(self) -> str:
        if self.mode != "online":
            return f"{self.tracker}-{self.mode}"
        return "-".join([self.tracker, *(_file_name(part) for part in (self.host, self.project) if part)])

    def announcements(self) -> list[str]:
        """Return lines to print before anything is sent: the mode, where it was auto, and a warning."""
        place = ", ".join(filter(None, ["online", self.host, self.project])) if self.mode == "online" else self.mode
        return ([f"{self.tracker}: {place} ({self.reason})"] if self.reason else []) + (
            [f"warning: {self.warning}"] if self.warning else [])


def _file_name(place: str) -> str:
    """Return a host or a project as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._+-]", "-", place.replace("/", "+"))


Choice = str | Tracker | Sequence[str | Tracker]  # names may be comma-separated; "local" is the record alone

BACKENDS = {"neptune": ("mnist_jax.tracking.neptune.tracker", "neptune"),  # module, and the package of its client
            "comet": ("mnist_jax.tracking.comet.tracker", "comet_ml")}
ENTRY_POINTS = "mnist_jax.trackers"  # the group in which another package names its backend module


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
        names = [*BACKENDS, *others]
        raise errors.UserError(f"--tracker: expected some of {', '.join(names)} (comma-separated), or local for the "
                               f"record alone; found {name!r}{errors.suggestion(name, names)}")
    module = others[name].load()
    return typing.cast(ModuleType, module)


def destinations(trackers: Choice, mode: str) -> list[Destination]:
    """Return the destination of each tracker.

    Raises:
      UserError: a tracker is unknown or named twice, or what its mode needs is missing.
    """
    if mode not in MODES:
        raise errors.UserError(f"--tracker_mode: expected one of {', '.join(MODES)}; found {mode!r}")
    result = []
    for choice in trackers if isinstance(trackers, Sequence) and not isinstance(trackers, str) else [trackers]:
        if isinstance(choice, str):
            names = [name.strip() for name in choice.split(",")]
            result += [backend(name).destination(typing.cast(Mode, mode)) for name in names if name not in ("", "local")]
        else:
            result.append(Destination(choice.name, "object", tracker_object=choice))
    for destination in result:
        if not destination.tracker.isidentifier():  # a file's name begins with it
            raise errors.UserError(f"tracker: expected a name of letters, digits and _, found {destination.tracker!r}")
    labels = [destination.label for destination in result]
    if len(set(labels)) != len(labels):
        raise errors.UserError(f"--tracker: expected each tracker once, found {', '.join(labels)}")
    return result
