"""The command line: `mnist-jax`, which is also `run.py` and `python -m mnist_jax`."""

import time

STARTED = time.time()  # before the modules of the commands are imported, which takes a second
