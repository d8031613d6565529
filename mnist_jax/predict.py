"""Loads a trained model and asks it: from a model file, or from the run that made it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mnist_jax import errors, events, model_file, models, record


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict."""

    facts: Mapping[str, Any]  # model.json: where it came from
    parameters: Mapping[str, np.ndarray]
    _exported: jax.export.Exported

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return float32[N, 10] for uint8[N, 28, 28, 1] with a black background.

        Raises:
          ValueError: the images have another type or shape.
        """
        if images.dtype != np.uint8 or images.shape[1:] != models.IMAGE_SHAPE:
            raise ValueError(f"images: expected uint8[N, 28, 28, 1], found {images.dtype}{list(images.shape)}")
        return np.asarray(self._exported.call(dict(self.parameters), images))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return float32[N, 10], each row summing to 1."""
        return softmax(self.logits(images))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities of float[N, 10] logits."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def load_model(path: Path | str) -> LoadedModel:
    """Load a model file, or the model of a run's directory.

    Raises:
      UserError: there is no model, or its file is damaged or needs another jax.
    """
    path = Path(path)
    try:
        data = _of_run(path) if path.is_dir() else path.read_bytes()
        found = model_file.unpack(data)
    except OSError as error:
        raise errors.UserError(f"{path}: expected a model file or a run's directory, found: {error.strerror}") from error
    except ValueError as error:
        raise errors.UserError(f"{path}: expected a model file, found {error}") from error
    try:
        exported = jax.export.deserialize(bytearray(found.program))
    except Exception as error:  # jax raises several kinds for a newer format
        raise errors.UserError(f"{path}: expected a program that jax {jax.__version__} can read, found one of jax "
                               f"{found.facts.get('jax')}; run: pip install 'jax>={found.facts.get('jax')}'") from error
    return LoadedModel(found.facts, found.parameters, exported)


def _of_run(directory: Path) -> bytes:
    recorded = record.read(directory)
    trained = recorded.of(events.Model)
    if not trained:
        raise errors.UserError(f"{directory}: expected a run with a model, found one that {recorded.outcome} without")
    return recorded.bytes_of(trained[-1].blob)
