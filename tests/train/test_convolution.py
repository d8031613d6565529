"""Both formulations of a stage compute the same."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.train import convolution


@pytest.mark.parametrize("channels", [1, 3])
def test_both_formulations_of_the_convolution_agree_in_value_and_gradient(channels):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 14, 10, channels)).astype(np.float32)
    kernel, bias = generator.normal(size=(3, 3, channels, 5)).astype(np.float32), generator.normal(size=5).astype(np.float32)
    for function in (lambda stage: stage(images, kernel, bias),
                     lambda stage: jax.grad(lambda *x: (stage(*x) ** 2).sum(), (0, 1, 2))(images, kernel, bias)):
        for mine, theirs in zip(jax.tree.leaves(function(convolution.on_cpu)),
                                jax.tree.leaves(function(convolution.ordinary)), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_stage_is_the_mean_of_what_a_convolution_leaves_above_zero():
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    keeps = np.zeros((3, 3, 3, 3), np.float32)
    keeps[1, 1] = np.eye(3)
    expected = np.maximum(x + 0.5, 0).reshape(2, 3, 2, 2, 2, 3).mean((2, 4))
    stage = convolution.on_cpu(*map(jnp.asarray, (x, keeps, np.full(3, 0.5, np.float32))))
    np.testing.assert_allclose(stage, expected, rtol=1e-5, atol=1e-6)
