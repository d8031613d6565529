"""`python -m mnist_jax` is `mnist-jax`."""

import sys

from mnist_jax.cli import main

if __name__ == "__main__":
    sys.exit(main.main())
