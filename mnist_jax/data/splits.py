"""The splits of a data set as arrays, each with a digest that does not depend on the source of the files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from mnist_jax import errors
from mnist_jax.data import sources

# By the digest of the test split, so that the same data has the same version from IDX files and from TFDS.
_KNOWN_VERSIONS = {("mnist", "29afde6bc3c57879342c9a360a242e1df044b52f86fa85c27a9bda3f2a897534"): "3.0.1"}


@dataclasses.dataclass(frozen=True, repr=False)
class Split:
    """One split of a data set, on the host."""

    images: np.ndarray  # uint8[N, 28, 28, 1]
    labels: np.ndarray  # int32[N]
    digest: str  # SHA-256 over both

    def __repr__(self) -> str:
        return f"<Split of {len(self):,} examples, digest {self.digest[:16]}>"

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self) -> tuple[int, ...]:
        return tuple(np.bincount(self.labels, minlength=10).tolist())


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set split for an experiment; `validation` is held out of train and may be empty."""

    train: Split
    validation: Split
    test: Split
    version: str
    origin: str

    def items(self) -> Iterator[tuple[str, Split]]:
        """Yield name and split of each split with examples."""
        for name in ("train", "validation", "test"):
            if len(split := getattr(self, name)):
                yield name, split


def load_data(name: str, data_dir: str = "", validation_examples: int = 0, split_seed: int = 0) -> Splits:
    """Return the splits of a data set.

    Args:
      name: one of sources.DATASETS.
      data_dir: a TFDS folder or a folder of IDX files; "" looks where TFDS looks and then downloads.
      validation_examples: how many are held out of train.
      split_seed: the seed that chooses them.

    Raises:
      UserError: the data cannot be found or read, or validation_examples is too large.
    """
    source = sources.load(name, data_dir)
    images, labels = source.arrays["train"]
    if validation_examples >= len(labels):
        raise errors.UserError(f"dataset.validation_examples: expected fewer than the {len(labels)} training examples of "
                               f"{name}, found {validation_examples}")
    order = np.random.default_rng(split_seed).permutation(len(labels))
    held_out = np.zeros(len(labels), bool)
    held_out[order[:validation_examples]] = True
    test = split(*source.arrays["test"])
    version = source.version or _KNOWN_VERSIONS.get((name, test.digest), "unknown")
    return Splits(split(images[~held_out], labels[~held_out]), split(images[held_out], labels[held_out]), test,
                  version, source.origin)


def split(images: np.ndarray, labels: np.ndarray) -> Split:
    """Return the arrays with their digest: SHA-256 over dtype, shape and bytes of images, then of labels."""
    digest = hashlib.sha256()
    for array in (images, labels):
        digest.update(f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return Split(images, labels, digest.hexdigest())
