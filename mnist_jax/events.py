"""The facts a run can state: ten frozen event kinds, and their JSON both ways.

Trackers, pages and verdicts are folds over them. `step` is the only clock: it counts completed updates.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Scalar = str | int | float | bool | None

STATUSES = ("finished", "failed", "interrupted", "diverged")


@dataclasses.dataclass(frozen=True)
class Blob:
    """Bytes in the run's directory, stored once, by their digest; `name` is the file name that a person knows."""

    sha256: str
    size: int  # bytes
    name: str


@dataclasses.dataclass(frozen=True)
class Environment:
    """What the run runs on: packages, devices, thread counts, host."""

    facts: Mapping[str, Scalar]


@dataclasses.dataclass(frozen=True)
class Source:
    """The code that ran: commit (None outside a repository), and what differs from it."""

    commit: str | None
    branch: str | None
    remote: str | None  # without credentials
    dirty: bool
    patch: Blob | None
    files: tuple[Blob, ...]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set; `digest` is over the decoded arrays, the same whichever files they came from."""

    name: str
    split: str
    version: str
    digest: str
    examples: int
    shape: tuple[int, ...]  # of one example
    origin: str
    class_counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The config that ran, flattened: dotted path -> value."""

    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Metrics:
    """Values of one or more series at the same steps. Equality is bit for bit: NaN equals NaN, -0.0 is not 0.0."""

    steps: np.ndarray  # int64[N]
    values: Mapping[str, np.ndarray]  # each float64[N]
    times: np.ndarray  # float64[N], unix seconds; interpolated inside a compiled chunk

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", np.asarray(self.steps, np.int64))
        object.__setattr__(self, "times", np.asarray(self.times, np.float64))
        values = {name: np.asarray(series, np.float64) for name, series in self.values.items()}
        object.__setattr__(self, "values", values)
        for name, series in [("times", self.times), *values.items()]:
            if series.shape != self.steps.shape or series.ndim != 1:
                raise ValueError(f"metrics: expected {self.steps.shape} values of {name!r}, one a step, "
                                 f"found shape {series.shape}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Metrics) or self.values.keys() != other.values.keys():
            return False
        pairs = [(self.steps, other.steps), (self.times, other.times)]
        pairs += [(series, other.values[name]) for name, series in self.values.items()]
        return all(mine.tobytes() == theirs.tobytes() for mine, theirs in pairs)

    def __hash__(self) -> int:
        return hash((self.steps.tobytes(), tuple(self.values)))


@dataclasses.dataclass(frozen=True)
class Image:
    name: str
    step: int
    blob: Blob  # PNG
    caption: str


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A file that belongs to the run; `kind` says what it is for a reader of files ("table", "dataset", ...)."""

    name: str
    blob: Blob
    kind: str
    metadata: Mapping[str, Scalar]


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model: its file, the digests of its data, its parent models, and its scores."""

    name: str
    version: str
    step: int
    blob: Blob
    datasets: tuple[str, ...]
    parents: tuple[str, ...]
    scores: Mapping[str, float]
    metadata: Mapping[str, Scalar]


@dataclasses.dataclass(frozen=True)
class Text:
    name: str
    step: int
    text: str


@dataclasses.dataclass(frozen=True)
class Unknown:
    """An event of a kind that a later version records: kept as it is."""

    kind: str
    fields: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Status:
    """The state of a run: "running", and at its end one of STATUSES."""

    step: int
    state: str


Event = Environment | Source | Dataset | Hyperparameters | Metrics | Image | Artifact | Model | Text | Status
AnyEvent = Event | Unknown  # as a record may hold it
KINDS: dict[str, type] = {kind.__name__: kind for kind in
                          (Environment, Source, Dataset, Hyperparameters, Metrics, Image, Artifact, Model, Text, Status)}


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """The identity of a run. Record and trackers share one id: 32 hexadecimal characters."""

    id: str
    name: str
    created: float  # unix seconds
    config: Mapping[str, Any]
    command: tuple[str, ...]
    parent: str | None = None  # id of the run that this one starts from
    tags: tuple[str, ...] = ()
    description: str = ""
    steps_per_epoch: int | None = None  # None where the run has no epochs
    nondeterministic: tuple[str, ...] = ("time/*", "system/*")  # series that depend on the clock and are not compared

    def epoch(self, step: int) -> int | None:
        """Return the number of completed epochs after `step` updates, or None where the run has none."""
        return None if not self.steps_per_epoch else step // self.steps_per_epoch

    def is_deterministic(self, series: str) -> bool:
        """Return whether a series is compared where the run is resumed or reproduced."""
        return not any(fnmatch.fnmatchcase(series, pattern) for pattern in self.nondeterministic)


def blobs(event: AnyEvent) -> Iterator[Blob]:
    """Yield every blob that an event refers to."""
    match event:
        case Image(blob=blob) | Artifact(blob=blob) | Model(blob=blob):
            yield blob
        case Source(patch=patch, files=files):
            yield from files if patch is None else (patch, *files)


def kind_of(event: AnyEvent) -> str:
    """Return the name of an event's kind."""
    return event.kind if isinstance(event, Unknown) else type(event).__name__


def to_json(event: AnyEvent) -> dict[str, Any]:
    """Return the event as strict JSON values: non-finite floats become "NaN", "Infinity", "-Infinity"."""
    if isinstance(event, Unknown):
        return dict(event.fields)
    if isinstance(event, Metrics):
        values = {name: _floats_to_json(series) for name, series in event.values.items()}
        return {"steps": event.steps.tolist(), "values": values, "times": _floats_to_json(event.times)}
    return {field.name: _to_json(getattr(event, field.name)) for field in dataclasses.fields(event)}


def from_json(kind: str, fields: Any) -> AnyEvent:
    """Return the event of `kind` that to_json wrote.

    Raises:
      ValueError: a field of the kind is missing or damaged. Further fields are of a later version, and left out.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"expected the fields of {kind}, found {type(fields).__name__}")
    if kind not in KINDS:
        return Unknown(str(kind), fields)
    event_type = KINDS[kind]
    names = {field.name for field in dataclasses.fields(event_type)}
    if missing := names - set(fields):
        raise ValueError(f"expected the fields {sorted(missing)} in {kind}, found {sorted(fields)}")
    try:
        if event_type is Metrics:
            values = {name: np.array([float_of(value) for value in series]) for name, series in fields["values"].items()}
            times = np.array([float_of(time) for time in fields["times"]])
            return Metrics(np.array(fields["steps"], np.int64), values, times)
        return event_type(**{name: _from_json(kind, name, fields[name]) for name in names})
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"a damaged {kind} event: {error}") from error


_FLOAT_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def float_word(value: float) -> str:
    """Return the word for a non-finite float: "NaN", "Infinity" or "-Infinity"."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def float_of(value: Any) -> float:
    """Return the float of a JSON number, or of the word for a non-finite one. Raises ValueError or TypeError."""
    if isinstance(value, str):
        if value not in _FLOAT_WORDS:
            raise ValueError(f"expected a number, found {value[:40]!r}")
        return _FLOAT_WORDS[value]
    return float(value)


def _floats_to_json(series: np.ndarray) -> list[float | str]:
    values = series.tolist()
    return values if np.isfinite(series).all() else [v if math.isfinite(v) else float_word(v) for v in values]


def _to_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": float_word(value)}  # an object, so that the text "NaN" stays a text
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


def _from_json(kind: str, name: str, value: Any) -> Any:
    if name in ("blob", "patch") and value is not None:
        return Blob(**value)
    if kind == "Source" and name == "files":
        return tuple(Blob(**blob) for blob in value)
    value = _plain(value)
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in _FLOAT_WORDS:
            return _FLOAT_WORDS[value["float"]]
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
