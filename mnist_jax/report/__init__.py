"""Runs side by side as one HTML file that needs nothing else: no server, no network, no other file."""

from mnist_jax.report.page import write

__all__ = ["write"]
