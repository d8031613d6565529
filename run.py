"""Train, evaluate and record experiments: the same program as `mnist-jax train`."""

from mnist_jax.cli import train

if __name__ == "__main__":
    train.run_as_program()
