"""Writes the API reference from the docstrings, as HTML that opens offline.

    python docs/api.py api          then open api/index.html
"""

import sys
from pathlib import Path

import pdoc

import mnist_jax

# What a program uses, from the door inwards; everything else is private to the package.
MODULES = ("mnist_jax", r"!mnist_jax\..*", *(f"mnist_jax.{name}" for name in (
    "events", "record.reader", "record.writer", "tracking.run", "tracking.protocol", "tracking.testing", "registry.store",
    "train.config", "train.models", "train.step", "compare.servers.neptune", "compare.servers.comet", "errors")))


def main(folder: str) -> None:
    """Write the pages to a folder."""
    for name in mnist_jax.__all__:
        getattr(mnist_jax, name)  # loaded when first used; the reference shows what is loaded
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*MODULES, output_directory=Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
