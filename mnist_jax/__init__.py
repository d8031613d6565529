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
    from mnist_jax.catalog import rows as list_runs  # noqa: F401
    from mnist_jax.compare.comparison import compare as compare_trackers  # noqa: F401
    from mnist_jax.compare.page import write as write_comparison  # noqa: F401
    from mnist_jax.data import load as load_data  # noqa: F401
    from mnist_jax.errors import UserError as UserError
    from mnist_jax.experiment import Result as Result
    from mnist_jax.experiment import run as run
    from mnist_jax.importing.run import import_run as import_run
    from mnist_jax.parquet import export as export_parquet  # noqa: F401
    from mnist_jax.predict import load_model as load_model
    from mnist_jax.predict import predict as predict_images  # noqa: F401
    from mnist_jax.record import read as read
    from mnist_jax.report.page import write as write_report  # noqa: F401
    from mnist_jax.reproduce import reproduce as reproduce_run  # noqa: F401
    from mnist_jax.settings import load_config as load_config
    from mnist_jax.tracked import Tracked as Tracked
    from mnist_jax.tracked import track as track

__version__ = "0.1.0"

_PUBLIC = {"UserError": "errors.UserError", "Result": "experiment.Result", "run": "experiment.run", "track": "tracked.track",
           "Tracked": "tracked.Tracked", "read": "record.read", "deliver": "background.deliver",
           "import_run": "importing.run.import_run", "export_parquet": "parquet.export", "load_config": "settings.load_config",
           "load_data": "data.load", "load_model": "predict.load_model",
           "predict_images": "predict.predict", "reproduce_run": "reproduce.reproduce",
           "list_runs": "catalog.rows", "write_report": "report.page.write",
           "compare_trackers": "compare.comparison.compare", "write_comparison": "compare.page.write"}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, _, member = _PUBLIC[name].rpartition(".")
        value = globals()[name] = getattr(importlib.import_module(f"mnist_jax.{module}"), member)
        return value
    raise AttributeError(f"module 'mnist_jax' has no attribute {name!r}")
