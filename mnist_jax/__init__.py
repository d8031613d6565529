"""A JAX/Flax functional experiment library: MNIST models trained, recorded, tracked and reproduced.

    import mnist_jax

    config = mnist_jax.load_config("configs/cnn.py:digits")
    result = mnist_jax.run(config, tracker="neptune")
    recorded = mnist_jax.read(result.directory)
    model = mnist_jax.load_model(result.directory)

Importing this is light: jax, the trackers and the data libraries come when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_jax.background import deliver as deliver
    from mnist_jax.data import load as load_data  # noqa: F401
    from mnist_jax.errors import UserError as UserError
    from mnist_jax.experiment import Result as Result
    from mnist_jax.experiment import run as run
    from mnist_jax.predict import load_model as load_model
    from mnist_jax.record import read as read
    from mnist_jax.settings import load_config as load_config
    from mnist_jax.tracked import Tracked as Tracked
    from mnist_jax.tracked import track as track

__version__ = "0.1.0"

_PUBLIC = {"UserError": "errors", "Result": "experiment", "run": "experiment", "load_model": "predict", "read": "record",
           "load_config": "settings", "load_data": "data", "deliver": "background", "track": "tracked", "Tracked": "tracked"}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module = importlib.import_module(f"mnist_jax.{_PUBLIC[name]}")
        return getattr(module, "load" if name == "load_data" else name)
    raise AttributeError(f"module 'mnist_jax' has no attribute {name!r}")
