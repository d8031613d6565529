"""Loads a trained model from a model file, a run or a registry, and predicts with it."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax import errors, events
from mnist_jax.data import pictures
from mnist_jax.record import files, reader
from mnist_jax.registry import model_file, store


@dataclasses.dataclass(frozen=True, repr=False)
class LoadedModel:
    """A model ready to predict."""

    name: str  # a path, or a registered name with its version
    facts: Mapping[str, Any]  # model.json: its origin
    parameters: Mapping[str, np.ndarray]
    _exported: Any  # jax.export.Exported

    def __repr__(self) -> str:
        return f"<LoadedModel {self.name!r}: {sum(array.size for array in self.parameters.values()):,} parameters>"

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return float32[N, 10] logits for images of the model's shape and type, with a black background.

        Raises:
          ValueError: the images have another type or shape.
        """
        expected = self._exported.in_avals[-1]
        if images.dtype != expected.dtype or images.shape[1:] != expected.shape[1:]:
            raise ValueError(f"images: expected {expected.dtype}[N, {', '.join(map(str, expected.shape[1:]))}], found "
                             f"{images.dtype}{list(images.shape)}")
        return np.asarray(self._exported.call(dict(self.parameters), images))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return float32[N, 10], each row summing to 1."""
        return softmax(self.logits(images))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities of float[N, 10] logits."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Prediction:
    path: str
    label: int
    probabilities: tuple[float, ...]  # of the classes 0 to 9
    model: str


def load_model(model: Path | str, registry: Path | str = store.DEFAULT) -> LoadedModel:
    """Load a model file, the model of a run's directory, or NAME@VERSION or NAME@ALIAS of a registry.

    Raises:
      UserError: there is no model, or its file is damaged or needs another version of jax.
      RecordError: the registry is damaged, or the model is not the registered one.
    """
    import jax.export  # here, since registry and record are used without it

    path, name = Path(model), str(model)
    try:
        if path.is_dir():
            data = _of_run(path)
        elif path.exists() and not (path := path.resolve()).is_file():
            raise OSError(None, "no regular file")
        elif path.is_file():
            if not zipfile.is_zipfile(path):  # it looks at the end, before all of it is read
                raise ValueError("no zip file")
            data = files.read(path)
        elif "@" in name or Path(registry, name, "journal.jsonl").exists():
            version = store.find(registry, name)
            name, path = f"{version.name} version {version.version}", version.path
            try:
                data = files.read_verified(path, version.sha256)
            except ValueError:
                raise errors.RecordError(f"{path}: damaged: the model file does not match the registered digest") from None
        else:
            raise errors.UserError(f"{model}: expected a model file, a run's directory, or NAME@VERSION of {registry}; "
                                   f"found none of them; check the path or the name")
        model_contents = model_file.unpack(data)
    except OSError as error:
        raise errors.UserError(f"{path}: expected a model file or a run's directory, found: {error.strerror}") from error
    except ValueError as error:
        raise errors.UserError(f"{path}: expected a model file, found {error}") from error
    try:
        exported = jax.export.deserialize(bytearray(model_contents.program))
    except Exception as error:  # jax raises several kinds for a newer format
        raise errors.UserError(f"{path}: expected a program that jax {jax.__version__} can read, found one of jax "
                               f"{model_contents.facts.get('jax')}; run: pip install "
                               f"'jax>={model_contents.facts.get('jax')}'") from error
    return LoadedModel(name, model_contents.facts, model_contents.parameters, exported)


def predict_images(model: LoadedModel, paths: Sequence[Path | str]) -> list[Prediction]:
    """Return the predictions of a model for pictures: grey or colour, dark on light or light on dark, of any size.

    Raises:
      UserError: a file is not a picture of a digit.
    """
    images = np.stack([pictures.read(path) for path in paths])
    return [Prediction(str(path), int(row.argmax()), tuple(float(value) for value in row), model.name)
            for path, row in zip(paths, model.probabilities(images), strict=True)]


def _of_run(directory: Path) -> bytes:
    record = reader.read(directory)
    models = record.of(events.Model)
    if not models:
        raise errors.UserError(f"{directory}: expected a run with a model, found none (its status is {record.status}); finish "
                               f"the run first")
    return record.bytes_of(models[-1].blob)
