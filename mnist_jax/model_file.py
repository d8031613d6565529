"""A trained model in one file: a zip with its facts, its parameters and its compiled-for-anywhere program.

    model.json             what it is: classes, input, where it came from, the digest of the parameters
    predict.stablehlo      jax.export: (parameters, uint8[N, 28, 28, 1]) -> float32[N, 10] logits, any N
    parameters/PATH.npy    one array a parameter

It opens without this package: zipfile, numpy and jax.export read it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

_LARGEST = 2**30  # bytes of one member; a hostile file may claim more


@dataclasses.dataclass(frozen=True)
class ModelFile:
    facts: Mapping[str, Any]
    program: bytes
    parameters: Mapping[str, np.ndarray]  # path such as "conv1/kernel" -> array


def digest(parameters: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over path, dtype, shape and bytes of every parameter, in the order of the paths."""
    result = hashlib.sha256()
    for path in sorted(parameters):
        array = parameters[path]
        result.update(f"{path} {array.dtype.str} {array.shape}\n".encode())
        result.update(np.ascontiguousarray(array).data)
    return result.hexdigest()


def pack(model: ModelFile) -> bytes:
    """Return the file's bytes; the same model gives the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        facts = {**model.facts, "parameters_sha256": digest(model.parameters)}
        _add(archive, "model.json", json.dumps(facts, indent=1, sort_keys=True).encode())
        _add(archive, "predict.stablehlo", model.program)
        for path in sorted(model.parameters):
            array = io.BytesIO()
            np.save(array, model.parameters[path], allow_pickle=False)
            _add(archive, f"parameters/{path}.npy", array.getvalue())
    return stream.getvalue()


def unpack(data: bytes) -> ModelFile:
    """Return the model inside a file's bytes.

    Raises:
      ValueError: it is no model file, it is damaged, or its parameters do not match their digest.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(member.file_size > _LARGEST for member in archive.infolist()):
                raise ValueError(f"a member of more than {_LARGEST} bytes")
            facts = json.loads(archive.read("model.json"))
            parameters = {name.removeprefix("parameters/").removesuffix(".npy"):
                          np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                          for name in archive.namelist() if name.startswith("parameters/")}
            program = archive.read("predict.stablehlo")
        if digest(parameters) != facts["parameters_sha256"]:
            raise ValueError("its parameters do not match their digest")
    except (zipfile.BadZipFile, KeyError, TypeError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"not a model file, or damaged: {error}") from error
    return ModelFile(facts, program, parameters)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), data)  # ZipInfo's fixed date keeps the bytes the same
