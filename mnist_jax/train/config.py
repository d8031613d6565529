"""The config of an experiment as frozen dataclasses, and the only reader of a ConfigDict.

Every value is checked here, once; no other module receives the ConfigDict or checks a value again.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from mnist_jax import errors
from mnist_jax.data import sources

PRECISIONS = ("float32", "bfloat16", "highest")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("one_cycle", "constant")


@dataclasses.dataclass(frozen=True)
class CnnConfig:
    """conv3x3 relu pool2 for each of `features`, dense(hidden) relu, dense(10)."""

    name: str
    features: tuple[int, ...]
    hidden: int
    features_dropout: float  # share dropped of the pooled features
    hidden_dropout: float

    def check(self) -> None:
        _widths("model.hidden", (self.hidden,))
        _widths("model.features", self.features)
        require("model.features", self.features, 1 <= len(self.features) <= 2,
                "one or two widths: 28 pixels halve evenly twice")
        _fraction("model.features_dropout", self.features_dropout)
        _fraction("model.hidden_dropout", self.hidden_dropout)


@dataclasses.dataclass(frozen=True)
class MlpConfig:
    """dense relu for each of `hidden`, dense(10)."""

    name: str
    hidden: tuple[int, ...]
    hidden_dropout: float

    def check(self) -> None:
        _widths("model.hidden", self.hidden)
        _fraction("model.hidden_dropout", self.hidden_dropout)


ModelConfig = CnnConfig | MlpConfig
MODELS: dict[str, type] = {"cnn": CnnConfig, "mlp": MlpConfig}


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    name: str
    learning_rate: float  # the peak of the schedule
    schedule: str
    momentum: float  # SGD's momentum, AdamW's first decay rate
    weight_decay: float


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    name: str
    data_dir: str  # "" looks where TFDS looks, then downloads; else a TFDS folder or a folder of IDX files
    validation_examples: int  # held out of train
    split_seed: int  # which ones; never depends on `seed`
    keep: bool  # record the data itself as an artifact, which is synced to the trackers


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """How far training images are warped at random, at most, in either direction; all 0: not at all."""

    shift: float  # pixels
    rotation: float  # degrees
    scale: float  # share of the size
    elastic: float  # pixels, the standard deviation of a smooth field


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every_s: float  # seconds between two, at least; 0: after every chunk, about a second
    keep: int  # the newest ones


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """One experiment. The same settings, data, code and machine give the same bits."""

    name: str
    seed: int
    epochs: int
    batch_size: int
    precision: str
    label_smoothing: float  # share of a label's probability that is spread over all classes
    model: ModelConfig
    optimizer: OptimizerConfig
    augmentation: AugmentationConfig
    dataset: DatasetConfig
    checkpoint: CheckpointConfig


def as_experiment(config: ExperimentConfig | Mapping[str, Any]) -> ExperimentConfig:
    """Return the checked config of an ExperimentConfig or a mapping."""
    return check(config) if isinstance(config, ExperimentConfig) else from_config(config)


def from_config(config: Mapping[str, Any]) -> ExperimentConfig:
    """Return the checked config of a ConfigDict or nested mapping that has every key.

    Raises:
      UserError: a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    values = {key: config[key] for key in config}
    model = values.get("model", {})
    model_name: Any = model.get("name") if hasattr(model, "get") else None
    one_of("model.name", model_name, MODELS)
    return check(build(ExperimentConfig, values, "", MODELS[model_name]))


def check(experiment: ExperimentConfig) -> ExperimentConfig:
    """Return the config. Raises UserError if a value is out of range."""
    model, optimizer, dataset = experiment.model, experiment.optimizer, experiment.dataset
    require("name", experiment.name, experiment.name.strip() == experiment.name != "" and experiment.name.isprintable()
             and "/" not in experiment.name and len(experiment.name) <= 200, "a printable name without slashes")
    require("seed", experiment.seed, 0 <= experiment.seed < 2**32, "an integer from 0 to 2**32 - 1")
    require("epochs", experiment.epochs, 1 <= experiment.epochs <= 10**6, "an integer from 1 to 1,000,000")
    require("batch_size", experiment.batch_size, experiment.batch_size >= 1, "an integer of 1 or more")
    one_of("precision", experiment.precision, PRECISIONS)
    one_of("model.name", model.name, MODELS)
    model.check()
    one_of("optimizer.name", optimizer.name, OPTIMIZERS)
    one_of("optimizer.schedule", optimizer.schedule, SCHEDULES)
    # What float32 holds: more would be infinite there, less would be 0.
    require("optimizer.learning_rate", optimizer.learning_rate, 1e-30 <= optimizer.learning_rate <= 1e30,
            "a number above 0, from 1e-30 to 1e30")
    require("optimizer.weight_decay", optimizer.weight_decay, 0 <= optimizer.weight_decay <= 1e30, "a number from 0 to 1e30")
    _fraction("optimizer.momentum", optimizer.momentum)
    _fraction("label_smoothing", experiment.label_smoothing)
    for name, most, expected in (("shift", 28, "pixels from 0 to 28"), ("rotation", 180, "degrees from 0 to 180"),
                                 ("scale", 0.9, "a share from 0 to 0.9"), ("elastic", 28, "pixels from 0 to 28")):
        value = getattr(experiment.augmentation, name)
        require(f"augmentation.{name}", value, 0 <= value <= most, expected)
    one_of("dataset.name", dataset.name, sources.DATASETS)
    require("dataset.data_dir", dataset.data_dir, not (dataset.name == "digits" and dataset.data_dir),
            "nothing, since the digits are embedded in scikit-learn")
    require("dataset.validation_examples", dataset.validation_examples, dataset.validation_examples >= 0, "0 or more")
    require("dataset.keep", dataset.keep, isinstance(dataset.keep, bool), "True or False")
    require("checkpoint.every_s", experiment.checkpoint.every_s, experiment.checkpoint.every_s >= 0, "0 or a number above")
    require("checkpoint.keep", experiment.checkpoint.keep, experiment.checkpoint.keep >= 1, "1 or more")
    require("dataset.split_seed", dataset.split_seed, 0 <= dataset.split_seed < 2**32, "an integer from 0 to 2**32 - 1")
    return experiment


def check_examples(experiment: ExperimentConfig, examples: int) -> None:
    """Raise UserError unless `examples` training images make at least one whole batch."""
    if experiment.batch_size > examples:
        raise errors.UserError(f"batch_size: expected at most the {examples} training examples of "
                               f"{experiment.dataset.name}, found {experiment.batch_size}; lower --config.batch_size")


def build(kind: type, values: Any, prefix: str, model: type) -> Any:
    """Return a dataclass of settings from a mapping with every key; `model` is the class of its model settings."""
    hints = typing.get_type_hints(kind)
    if not hasattr(values, "keys"):
        raise errors.UserError(f"config.{prefix[:-1]}: expected a group of settings, found {values!r}")
    for key in values:
        if key not in hints:
            raise errors.UserError(f"config.{prefix}{key}: expected one of {', '.join(hints)}; found {key!r}"
                                   f"{errors.suggestion(key, hints)}")
    fields = {}
    for key, hint in hints.items():
        path = f"{prefix}{key}"
        if key not in values:
            raise errors.UserError(f"config.{path}: expected a value, found none; add it to the config file")
        value = values[key]
        if isinstance(hint, types.UnionType):
            fields[key] = build(model, value, f"{path}.", model)
        elif dataclasses.is_dataclass(hint):
            fields[key] = build(typing.cast(type, hint), value, f"{path}.", model)
        else:
            fields[key] = _convert(path, value, hint)
    return kind(**fields)


def _convert(path: str, value: Any, hint: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str and isinstance(value, str):
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and is_number and isinstance(value, int):
        return value
    if hint is float and is_number and math.isfinite(value):
        return float(value)
    if hint in (tuple[int, ...], tuple[float, ...]) and isinstance(value, list | tuple):
        return tuple(_convert(f"{path}[{index}]", item, typing.get_args(hint)[0]) for index, item in enumerate(value))
    expected = {str: "text", bool: "True or False", int: "an integer", float: "a finite number",
                tuple[float, ...]: "a list of numbers"}.get(hint, "a list of integers")
    raise errors.UserError(f"config.{path}: expected {expected}, found {value!r} ({type(value).__name__})")


def require(path: str, value: Any, holds: Any, expected: str) -> None:
    """Raise UserError unless a condition on a value holds."""
    if not holds:
        raise errors.UserError(f"config.{path}: expected {expected}, found {value!r}; change --config.{path}")


def _widths(path: str, widths: tuple[int, ...]) -> None:
    require(path, widths, widths and all(1 <= width <= 2**16 for width in widths), "widths from 1 to 65,536")


def _fraction(path: str, value: float) -> None:
    require(path, value, 0 <= value < 1, "a number of at least 0 and below 1")


def one_of(path: str, value: Any, choices: Any) -> None:
    """Raise UserError unless a value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        hint = errors.suggestion(value, choices) if isinstance(value, str) else ""
        raise errors.UserError(f"config.{path}: expected one of {', '.join(choices)}; found {value!r}{hint}")
