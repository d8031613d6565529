"""The 3x3 convolution, formulated by platform: same parameters, same numbers to 1e-5.

XLA:CPU rewrites only top-level convolutions to its fast path. Inside a compiled loop the gradient of a convolution
falls to a naive one, thirty times slower; nine shifted slices and one matmul do not.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Convolve = Callable[[jax.Array, jax.Array], jax.Array]


def by_platform(platform: str) -> Convolve:
    """Return the formulation for "cpu", "gpu" or "tpu"."""
    return by_matmul if platform == "cpu" else by_convolution


def by_convolution(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve float[N, H, W, C] with float[3, 3, C, F], stride 1, zero padding; float[N, H, W, F]."""
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def by_matmul(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Do what by_convolution does by slices and one matmul."""
    _, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, row:row + height, column:column + width] for row in range(3) for column in range(3)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(9 * channels, -1)
