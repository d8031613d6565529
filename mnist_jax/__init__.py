"""Experiments in JAX and Flax: trained, recorded, tracked, reproduced and traced.

    import mnist_jax

    config = mnist_jax.load_config("cnn.py:digits")
    result = mnist_jax.run(config, tracker="neptune")
    record = mnist_jax.read(result.directory)
    model = mnist_jax.load_model(result.directory)

Importing this is light: jax, the trackers and the data libraries come when they are used. The public names are listed in
__init__.pyi, and nowhere else.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
