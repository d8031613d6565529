"""The networks (Flax linen lives only here): uint8 images in, float32 logits out.

Layer names become checkpoint paths that outlive the code: never rename one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mnist_jax.train import config, convolution

CLASSES = 10
IMAGE_SHAPE = (28, 28, 1)


class Stage(nn.Module):
    """3x3 convolution with bias, relu and 2x2 mean; the parameters of nn.Conv, the formulation of the platform."""

    features: int
    formulation: convolution.Stage
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, images.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return self.formulation(images, kernel.astype(self.dtype), bias.astype(self.dtype))


class Cnn(nn.Module):
    """conv3x3 relu pool2 conv3x3 relu pool2 dense relu dense, with dropout before both dense layers."""

    shape: config.CnnConfig
    formulation: convolution.Stage
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = scale(images, self.dtype)
        for number, features in enumerate(self.shape.features, start=1):
            x = Stage(features, self.formulation, self.dtype, name=f"conv{number}")(x)
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.shape.features_dropout, deterministic=not train)(x)
        x = nn.relu(nn.Dense(self.shape.hidden, dtype=self.dtype, name="dense1")(x))
        x = nn.Dropout(self.shape.hidden_dropout, deterministic=not train)(x)
        return nn.Dense(CLASSES, dtype=self.dtype, name="dense2")(x).astype(jnp.float32)


class Mlp(nn.Module):
    """Dense layers with relu, and dropout after each."""

    shape: config.MlpConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = scale(images, self.dtype).reshape(images.shape[0], -1)
        for number, features in enumerate(self.shape.hidden, start=1):
            x = nn.relu(nn.Dense(features, dtype=self.dtype, name=f"dense{number}")(x))
            x = nn.Dropout(self.shape.hidden_dropout, deterministic=not train)(x)
        last = len(self.shape.hidden) + 1
        return nn.Dense(CLASSES, dtype=self.dtype, name=f"dense{last}")(x).astype(jnp.float32)


def build(shape: config.ModelConfig, precision: str, formulation: convolution.Stage) -> nn.Module:
    """Return the network of the settings, computing in bfloat16 or float32; parameters are always float32."""
    dtype: Any = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    match shape:
        case config.CnnConfig():
            return Cnn(shape, formulation, dtype)
        case config.MlpConfig():
            return Mlp(shape, dtype)


def scale(images: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return [N, 28, 28, 1] of 0 to 255 as dtype in [0, 1]: the only preprocessing there is."""
    return images.astype(dtype) / 255
