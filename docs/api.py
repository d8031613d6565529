"""Writes the API reference from the docstrings, as HTML that opens offline.

    python docs/api.py api          then open api/index.html
"""

import sys
from pathlib import Path

import pdoc

import mnist_jax

# What a program uses, from the door inwards; everything else is private to the package.
MODULES = ("mnist_jax", *(f"mnist_jax.{name}" for name in (
    "settings", "events", "record", "tracking", "contract", "registry", "models", "train", "loopback.neptune", "loopback.comet",
    "errors")))


def main(folder: str) -> None:
    """Write the pages to a folder."""
    for name in mnist_jax.__all__:
        getattr(mnist_jax, name)  # they come when they are used; the reference shows those that are there
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*MODULES, output_directory=Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
