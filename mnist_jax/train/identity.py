"""What a checkpoint says of the program that made it, and whether this program continues it with the same bits.

Under the same jax and backend the lowered program is compared, so that a change in the code, in a setting or in jax.config is
seen. Under another it cannot be, and the bits may differ: that is a warning.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
import numpy as np

from mnist_jax.record import nested
from mnist_jax.train import config, models, pytree, step

_SETTINGS = ("model.", "optimizer.name", "optimizer.schedule", "augmentation.", "precision", "label_smoothing", "batch_size",
             "epochs")
_PACKAGES = ("jax", "jaxlib", "flax", "optax")  # what lowers the program
_LOWERED = "lowered"


def of(program: step.Program, experiment: config.ExperimentConfig, examples: int) -> dict[str, str]:
    """Return the identity of a program for `examples` training images, name by name.

    It is that of the program on one device: members of a sweep, and runs on several devices, share it.
    """
    shape: Any = jax.ShapeDtypeStruct
    compiled: Any = step.compiled(program._replace(mesh=None))
    hyper, seed, number = step.Hyper(*[shape((), np.float32)] * 3), shape((), np.uint32), shape((), np.int32)
    state, metrics = jax.eval_shape(compiled.init, hyper, seed), shape((program.steps_per_epoch, 2), np.float32)
    data = step.Data(shape((examples, *models.IMAGE_SHAPE), np.uint8), shape((examples,), np.int32))
    order = shape((examples,), np.int32)
    text = compiled.train.lower(hyper, state, metrics, seed, data, order, number).as_text()  # without locations
    digest = hashlib.sha256(f"{text}{program.compiler_options}".encode()).hexdigest()
    settings = {f"settings.{name}": json.dumps(value) for name, value in nested.flatten(dataclasses.asdict(experiment))
                if name.startswith(_SETTINGS)}
    shapes = {f"state.{path}": f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in pytree.leaves(state).items()}
    return {**settings, "settings.steps_per_epoch": str(program.steps_per_epoch), **shapes, _LOWERED: digest, **_platform()}


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return how the identity of a checkpoint's program differs from this one's: (differences in it, in jax and backend)."""
    names = sorted({*there, *here} - {_LOWERED})
    differing = [name for name in names if there.get(name) != here.get(name)]
    platform = [_difference(name, there, here) for name in differing if name in _platform()]
    program = [_difference(name, there, here) for name in differing if name not in _platform()]
    if not platform and not program and there.get(_LOWERED) != here.get(_LOWERED):
        program.append("the code of the training step, or a setting of jax, has changed")
    return program, platform


def _platform() -> dict[str, str]:
    return {"platform.backend": jax.default_backend(),
            **{f"platform.{package}": metadata.version(package) for package in _PACKAGES}}


def _difference(name: str, there: Mapping[str, str], here: Mapping[str, str]) -> str:
    return f"{name.partition('.')[2]} ({there.get(name)} there, {here.get(name)} here)"
