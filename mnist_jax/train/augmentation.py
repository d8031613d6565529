"""Random warps of images on the device, different for every image and step: shift, rotation, scale, and a smooth field.

The four are those of Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual
document analysis", ICDAR 2003; the smooth field is a coarse grid of random shifts, interpolated.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mnist_jax.train import config

_GRID = 5  # points a side of the coarse field


def warp(strength: config.AugmentationConfig, key: jax.Array, images: jax.Array) -> jax.Array:
    """Return float32[N, H, W, 1] for [N, H, W, 1]: what lies outside an image is 0, as MNIST's background is."""
    return jax.vmap(lambda key, image: _warp(strength, key, image))(jax.random.split(key, len(images)), images)


def _warp(strength: config.AugmentationConfig, key: jax.Array, image: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    centre = jnp.array([height - 1, width - 1]) / 2
    affine, field = jax.random.split(key)
    turn, grow, *shift = jax.random.uniform(affine, (4,), minval=-1, maxval=1)
    angle, scale = jnp.deg2rad(strength.rotation) * turn, 1 + strength.scale * grow
    rotation = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]) / scale
    places = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1) - centre
    places = places @ rotation + centre + strength.shift * jnp.stack(shift)
    if strength.elastic:
        coarse = strength.elastic * jax.random.normal(field, (_GRID, _GRID, 2))
        places += jax.image.resize(coarse, (height, width, 2), "cubic")
    pixels = image[..., 0].astype(jnp.float32)
    return jax.scipy.ndimage.map_coordinates(pixels, list(jnp.moveaxis(places, -1, 0)), order=1)[..., None]
