"""A trained model in one file: a zip with its facts, its parameters and its portable program.

    model.json             its facts: classes, input, origin, the digest of the parameters
    predict.stablehlo      jax.export: (parameters, uint8[N, 28, 28, 1]) -> float32[N, 10] logits, any N
    parameters/PATH.npy    one array a parameter
    __main__.py            python FILE images.npy: predicts with nothing but jax and flatbuffers

It can be read without this package, by zipfile, numpy and jax.export.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax.record import arrays

_FOLDER = "parameters/"


@dataclasses.dataclass(frozen=True)
class ModelFile:
    facts: Mapping[str, Any]
    program: bytes
    parameters: Mapping[str, np.ndarray]  # path such as "conv1/kernel" -> array


def pack(model: ModelFile) -> bytes:
    """Return the file's bytes; the same model gives the same bytes."""
    facts = {**model.facts, "parameters_sha256": arrays.digest(model.parameters)}
    beside = {"model.json": json.dumps(facts, indent=1, sort_keys=True).encode(), "predict.stablehlo": model.program,
              "__main__.py": Path(__file__).with_name("model_main.py").read_bytes()}
    return arrays.pack({f"{_FOLDER}{path}": array for path, array in model.parameters.items()}, beside)


def unpack(data: bytes) -> ModelFile:
    """Return the model inside a file's bytes.

    Raises:
      ValueError: the bytes are not a model file, are damaged, or the parameters do not match their digest.
    """
    members, beside = arrays.unpack(data)
    parameters = {path.removeprefix(_FOLDER): array for path, array in members.items() if path.startswith(_FOLDER)}
    try:
        facts, program = json.loads(beside["model.json"]), beside["predict.stablehlo"]
        if arrays.digest(parameters) != facts["parameters_sha256"]:
            raise ValueError("its parameters do not match their digest")
        if not isinstance(facts, dict):
            raise ValueError("its facts are no JSON object")
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not a model file, or damaged: {error} is missing") from error
    return ModelFile(facts, program, parameters)
