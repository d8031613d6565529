"""Pytrees as host arrays by path, such as "parameters/conv1/kernel", and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Return copies on the host, by path; later changes of the tree's buffers do not reach them."""
    return {path: np.array(leaf) for path, leaf in leaves(jax.device_get(tree)).items()}


def leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree, arrays or shapes, by path."""
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def restore(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the tree of the arrays that `flatten` returned.

    Args:
      like: a tree of the same structure, of arrays or shapes.

    Raises:
      ValueError: a path is missing or unknown, or an array has another shape or type.
    """
    expected = leaves(like)
    if expected.keys() != arrays.keys():
        raise ValueError(f"expected the arrays {sorted(expected.keys() - arrays.keys())} too, and not "
                         f"{sorted(arrays.keys() - expected.keys())}")
    for path, leaf in expected.items():
        array = arrays[path]
        if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(f"{path}: expected {leaf.dtype}{list(leaf.shape)}, found {array.dtype}{list(array.shape)}")
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), [arrays[path] for path in expected])
