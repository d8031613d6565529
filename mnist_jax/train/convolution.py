"""A convolution stage, formulated by platform: 3x3 convolution, bias, relu, 2x2 mean. Same parameters, same numbers to 1e-5.

Inside a compiled loop XLA:CPU computes one kind of convolution fast: NHWC images, an HWIO kernel, both laid out so in memory.
The gradient that autodiff makes for the kernel is of another kind there, and eighty times slower; the same gradient written
as a convolution of the fast kind is not. On GPU and TPU the ordinary formulation is the best one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

Stage = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
# XLA's library of kernels, YNN, convolves at half the speed of what XLA does without it (networks of matmuls alone are 1.15
# times as fast with it), and copies that loops do not need are worth 3% of a training step.
OPTIONS = (("xla_cpu_experimental_ynn_fusion_type", ""), ("xla_cpu_copy_insertion_use_region_analysis", "True"))


def by_platform(platform: str) -> Stage:
    """Return the formulation for "cpu", "gpu" or "tpu"."""
    return on_cpu if platform == "cpu" else ordinary


@functools.cache
def compiler_options(platform: str) -> tuple[tuple[str, str], ...]:
    """Return XLA's options for a program with these stages: those of OPTIONS that the installed XLA knows."""
    return tuple(option for option in OPTIONS if platform == "cpu" and _known(option))


def _known(option: tuple[str, str]) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=dict([option])).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def ordinary(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Take float[N, H, W, C], H and W even, through float[3, 3, C, F] and float[F] to float[N, H/2, W/2, F]."""
    return _halve(jax.nn.relu(_convolve(images, kernel, "SAME") + bias))


def on_cpu(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Do what `ordinary` does."""
    if images.shape[-1] == 1:
        return _four_at_once(images[..., 0], kernel[:, :, 0], bias)
    return _halve(jax.nn.relu(_biased(images, kernel, bias)))


def _convolve(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _halve(x: jax.Array) -> jax.Array:
    # A mean's gradient materialises zeros on CPU; that of the sum of four slices does not.
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) * 0.25


@jax.custom_vjp
def _biased(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Convolve, and add the bias; the gradients are those of autodiff, in fast forms."""
    return _convolve(images, kernel, "SAME") + bias


def _biased_forward(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _biased(images, kernel, bias), (images, kernel)


def _biased_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    images, kernel = saved
    gradient = jax.lax.optimization_barrier(gradient)  # else what leads to it is computed once for each of its three uses
    of_images = _convolve(gradient, kernel[::-1, ::-1].transpose(0, 1, 3, 2), "SAME")
    # What a place of the kernel adds up: images shifted by that place times the gradient. So the examples are the channels.
    shifted = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).transpose(3, 1, 2, 0)
    of_kernel = _convolve(shifted, gradient.transpose(1, 2, 0, 3), "VALID").transpose(1, 2, 0, 3)
    flat = gradient.reshape(-1, gradient.shape[-1])
    of_bias = jnp.ones((1, len(flat)), flat.dtype) @ flat  # in place of a sum: 4% of a training step
    return of_images, of_kernel, of_bias[0]


_biased.defvjp(_biased_forward, _biased_backward)


def _four_at_once(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Take one channel, float[N, H, W]: the four places that are averaged see one 4x4 patch, and come out side by side.

    A matmul of 17 by 4F in place of 9 by F at four times as many places: 1.2 times the whole training step's speed. The
    seventeenth is a one, for the bias.
    """
    examples, height, width = images.shape[0], images.shape[1] // 2, images.shape[2] // 2
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1)))
    blocks = padded.reshape(examples, height + 1, 2, width + 1, 2).transpose(0, 1, 3, 2, 4)
    blocks = blocks.reshape(examples, height + 1, width + 1, 4)
    corners = [blocks[:, row:row + height, column:column + width] for row in range(2) for column in range(2)]
    ones = jnp.ones((examples, height, width, 1), images.dtype)
    patches = jnp.concatenate([*corners, ones], axis=-1).reshape(-1, 17)  # block row, block column, row, column; one
    kernels = [jnp.pad(kernel, ((row, 1 - row), (column, 1 - column), (0, 0))) for row in range(2) for column in range(2)]
    wide = jnp.stack(kernels, axis=2).reshape(2, 2, 2, 2, -1).transpose(0, 2, 1, 3, 4).reshape(16, -1)
    places = jax.nn.relu(patches @ jnp.concatenate([wide, jnp.tile(bias, 4)[None]])).reshape(examples, height, width, 4, -1)
    return (places[:, :, :, 0] + places[:, :, :, 1] + places[:, :, :, 2] + places[:, :, :, 3]) * 0.25
