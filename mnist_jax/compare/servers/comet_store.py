"""What the Comet loopback has received, as plain data.

Nothing is merged: a point, parameter or asset that comes twice is kept twice, as a test for doubling needs it.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
import uuid
from typing import Any, NamedTuple

WORKSPACE = "loopback"  # of an experiment that names none


class CometPoint(NamedTuple):
    """One metric value; what is not finite, and what is no number, comes as a string."""

    name: str
    value: float | str
    step: int | None
    epoch: int | None
    timestamp: int  # unix milliseconds, by the client's clock
    context: str | None


class Setting(NamedTuple):
    """A parameter, or one entry of `others`."""

    name: str
    value: Any
    step: int | None
    timestamp: int


class OutputLine(NamedTuple):
    """One line of captured output."""

    text: str
    is_error: bool


@dataclasses.dataclass
class Asset:
    """One uploaded file; `type` is as the service lists it: asset, image, source_code, text-sample, model-element, ..."""

    id: str  # chosen by the client, except for images
    type: str
    name: str
    content: bytes = dataclasses.field(repr=False)
    step: int | None = None
    metadata: Any = None
    group: str | None = None  # of a model element: the model's name
    link: str | None = None  # of a remote asset, which has no content
    details: dict[str, str] = dataclasses.field(default_factory=dict)  # the rest of what came with the upload
    created: int = dataclasses.field(default_factory=lambda: now_ms())


@dataclasses.dataclass
class Experiment:
    """Everything known of one experiment, each list in the order of arrival."""

    key: str
    workspace: str
    project: str
    offline: bool = False  # created by an upload of an offline archive
    resumed: int = 0  # times that it was opened again
    alive: bool = True
    started: int = dataclasses.field(default_factory=lambda: now_ms())
    ended: int | None = None
    metrics: list[CometPoint] = dataclasses.field(default_factory=list)
    parameters: list[Setting] = dataclasses.field(default_factory=list)
    others: list[Setting] = dataclasses.field(default_factory=list)
    tags: list[str] = dataclasses.field(default_factory=list)
    assets: list[Asset] = dataclasses.field(default_factory=list)  # an artifact's are with its version
    system: dict[str, Any] = dataclasses.field(default_factory=dict)  # system details, the last of each name
    system_info: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    dependencies: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    html: list[str] = dataclasses.field(default_factory=list)
    output: list[OutputLine] = dataclasses.field(default_factory=list)
    graph: str | None = None
    git: dict[str, Any] = dataclasses.field(default_factory=dict)
    errors: list[str] = dataclasses.field(default_factory=list)  # what the client itself reported as gone wrong
    crashed: bool = False
    throttled: str | None = None  # set it, and the client's last words are that data were dropped

    @property
    def project_id(self) -> str:
        """Return what the wire calls the project: its own name, so that every project exists."""
        return f"{self.workspace}/{self.project}"

    @property
    def name(self) -> str | None:
        """Return the name that was set last."""
        return next((other.value for other in reversed(self.others) if other.name == "Name"), None)

    def values(self, name: str) -> list[float | str]:
        """Return the values of one metric."""
        return [point.value for point in self.metrics if point.name == name]

    def asset(self, name: str) -> Asset:
        """Return the only asset of this name."""
        (asset,) = (asset for asset in self.assets if asset.name == name)
        return asset


@dataclasses.dataclass
class ArtifactVersion:
    """One version of an artifact; only a closed one can be fetched by its name."""

    id: str
    version: str
    experiment_key: str
    aliases: list[str]
    tags: list[str]
    metadata: str | None  # JSON, as it came
    state: str = "OPEN"  # then CLOSED, or ERROR
    assets: list[Asset] = dataclasses.field(default_factory=list)
    consumers: list[str] = dataclasses.field(default_factory=list)  # keys of the experiments that fetched it
    created: int = dataclasses.field(default_factory=lambda: now_ms())


@dataclasses.dataclass
class StoredArtifact:
    """All versions of an artifact, in order of creation."""

    id: str
    workspace: str
    name: str
    type: str
    versions: list[ArtifactVersion] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class ModelVersion:
    """One version in the registry: the assets of an experiment's model at that time."""

    id: str
    version: str
    experiment_key: str
    model_name: str  # in the experiment
    comment: str | None
    status: str | None
    tags: list[str]
    assets: list[Asset]
    metadata: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    created: int = dataclasses.field(default_factory=lambda: now_ms())


@dataclasses.dataclass
class RegistryModel:
    """All versions of a registered model, in order of creation."""

    id: str
    workspace: str
    name: str
    description: str | None
    public: bool
    versions: list[ModelVersion] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class CometStore:
    """Everything a server has received. Hold `lock` where requests may still arrive."""

    experiments: dict[str, Experiment] = dataclasses.field(default_factory=dict)  # by key, in order of creation
    artifacts: list[StoredArtifact] = dataclasses.field(default_factory=list)
    models: list[RegistryModel] = dataclasses.field(default_factory=list)  # of the registry
    throttle: dict[str, float] = dataclasses.field(default_factory=dict)  # path -> 429, and the seconds to wait
    calls: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # path -> carried out
    unknown: list[str] = dataclasses.field(default_factory=list)  # requests this server does not understand
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)

    def artifact(self, name: str) -> StoredArtifact:
        """Return the only artifact of this name."""
        (artifact,) = (artifact for artifact in self.artifacts if artifact.name == name)
        return artifact

    def model(self, name: str) -> RegistryModel:
        """Return the only registered model of this name."""
        (model,) = (model for model in self.models if model.name == name)
        return model


def now_ms() -> int:
    """Return the time as the service counts it."""
    return int(time.time() * 1000)


def new_id() -> str:
    """Return an identifier like the service's."""
    return uuid.uuid4().hex
