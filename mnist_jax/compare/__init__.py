"""Neptune and Comet on the thesis's nine criteria, by what their clients do here: probes, evidence, and a fold of it."""

from mnist_jax.compare.comparison import Comparison, as_json, compare
from mnist_jax.compare.page import glance, write
from mnist_jax.compare.text import lines

__all__ = ["Comparison", "as_json", "compare", "glance", "lines", "write"]
