"""Warped images: nothing at strength 0, the geometry that is asked for, and other images at every step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.train import augmentation, config

NONE = {"shift": 0.0, "rotation": 0.0, "scale": 0.0, "elastic": 0.0}


def warp(images: np.ndarray, seed: int = 0, **strength: float) -> np.ndarray:
    return np.asarray(augmentation.warp(config.AugmentationConfig(**NONE | strength), jax.random.key(seed),
                                        jnp.asarray(images)))


@pytest.fixture
def spots() -> np.ndarray:
    """Return 200 images of a round spot of 255 in the middle, twelve pixels above the lower edge."""
    rows, columns = np.mgrid[:28, :28]
    spot = 255 * np.exp(-((rows - 20) ** 2 + (columns - 13.5) ** 2) / 8)
    return np.repeat(spot.astype(np.uint8)[None, ..., None], 200, 0)


def centres(images: np.ndarray) -> np.ndarray:
    """Return the centre of brightness of each image, float[N, 2], from the middle of the image."""
    weights = images[..., 0] / images.sum((1, 2, 3))[:, None, None]
    places = np.arange(28) - 13.5
    return np.stack([(weights.sum(2) * places).sum(1), (weights.sum(1) * places).sum(1)], 1)


def test_strength_zero_changes_nothing(spots):
    np.testing.assert_allclose(warp(spots), spots, atol=1e-3)


def test_shifts_are_uniform_in_both_directions(spots):
    moved = centres(warp(spots, shift=3.0)) - centres(spots.astype(np.float32))
    assert np.abs(moved).max() <= 3.05 and np.abs(moved.mean(0)).max() < 0.5
    np.testing.assert_allclose(moved.std(0), 3 / 3**0.5, atol=0.25)


def test_a_rotation_keeps_the_distance_to_the_middle_and_the_angle_is_bounded(spots):
    before, after = centres(spots.astype(np.float32)), centres(warp(spots, rotation=30.0))
    np.testing.assert_allclose(np.hypot(*after.T), np.hypot(*before.T), atol=0.1)
    angles = np.rad2deg(np.arctan2(after[:, 1], after[:, 0]))
    assert 25 < np.abs(angles).max() <= 30.5 and abs(angles.mean()) < 4


def test_a_scale_moves_along_the_ray(spots):
    before, after = centres(spots.astype(np.float32)), centres(warp(spots, scale=0.2))
    share = after[:, 0] / before[:, 0]
    assert 0.79 < share.min() < 0.85 and 1.15 < share.max() < 1.21
    np.testing.assert_allclose(after[:, 1], before[:, 1], atol=0.05)


def test_a_smooth_field_bends_images_each_in_its_own_way(spots):
    bent = warp(spots, elastic=1.0)
    assert len({image.tobytes() for image in bent}) == len(bent)
    np.testing.assert_allclose(np.abs(centres(bent) - centres(spots.astype(np.float32))).mean(), 0.6, atol=0.3)


def test_the_key_alone_decides(spots):
    assert np.array_equal(warp(spots, 1, shift=2.0), warp(spots, 1, shift=2.0))
    assert not np.array_equal(warp(spots, 1, shift=2.0), warp(spots, 2, shift=2.0))
