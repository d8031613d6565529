"""The command line: `mnist-jax`, which is also `run.py` and `python -m mnist_jax`."""
