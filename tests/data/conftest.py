"""A cache of decoded arrays for each test."""

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MNIST_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
