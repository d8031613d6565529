"""Exports trained parameters as a model file that runs on any platform, at any batch size, without this package."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from mnist_jax.registry import model_file
from mnist_jax.train import config, convolution, models, pytree

_PLATFORMS = ("cpu", "cuda", "tpu")


def model_bytes(experiment: config.ExperimentConfig, parameters: Any, facts: dict[str, Any]) -> bytes:
    """Return the model file of trained parameters.

    Args:
      facts: the model's origin, as JSON values.
    """
    network = models.build(experiment.model, experiment.precision, convolution.ordinary)
    flat = pytree.flatten(parameters)

    def logits(flat: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        result: Any = network.apply({"params": _nested(flat)}, images, train=False)
        return result

    (size,) = jax.export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((size, *models.IMAGE_SHAPE), jnp.uint8)
    shapes = {path: jax.ShapeDtypeStruct(array.shape, array.dtype) for path, array in flat.items()}
    exported = jax.export.export(jax.jit(logits), platforms=_PLATFORMS)(shapes, images)
    model_facts = {"input": "uint8[n, 28, 28, 1], 0 is background", "output": "float32[n, 10], logits of the classes 0 to 9",
             "jax": jax.__version__, "platforms": list(_PLATFORMS), **facts}
    return model_file.pack(model_file.ModelFile(model_facts, bytes(exported.serialize()), flat))


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree
