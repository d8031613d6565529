"""The IDX files of MNIST and its relatives, gzipped or not.

Format: http://yann.lecun.com/exdb/mnist (magic 0x0801 labels, 0x0803 images; big-endian sizes; bytes).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from mnist_jax import errors

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_LARGEST = 2**30  # bytes; no such data set is larger, but a hostile gzip file may be


def find(folder: Path) -> dict[str, tuple[Path, Path]] | None:
    """Return split -> (images, labels) if the folder holds all four files, gzipped or not."""
    files = {}
    for split, names in FILES.items():
        paths = [next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None) for name in names]
        if paths[0] is None or paths[1] is None:
            return None
        files[split] = (paths[0], paths[1])
    return files


def read(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8[N, 28, 28, 1] and int32[N].

    Raises:
      UserError: a file is truncated or not an IDX file, or the two do not match.
    """
    images, labels = _read(images_path, 0x0803), _read(labels_path, 0x0801)
    if images.shape[1:] != (28, 28):
        raise errors.UserError(f"{images_path}: expected images of 28x28 pixels, found {images.shape[1]}x{images.shape[2]}")
    if len(images) != len(labels):
        raise errors.UserError(f"{labels_path}: expected a label for each of the {len(images)} images of "
                               f"{images_path.name}, found {len(labels)}")
    if labels.size and labels.max() > 9:
        raise errors.UserError(f"{labels_path}: expected labels from 0 to 9, found {labels.max()}")
    return images[..., None], labels.astype(np.int32)


def _read(path: Path, magic: int) -> np.ndarray:
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else path.open("rb") as stream:
            data = stream.read(_LARGEST)
    except (OSError, EOFError, zlib.error) as error:
        raise errors.UserError(f"{path}: expected an IDX file, gzipped or not; found a damaged or truncated one "
                               f"({error}); download it again") from error
    dimensions = magic & 0xFF
    if len(data) < 4 + 4 * dimensions or int.from_bytes(data[:4], "big") != magic:
        raise errors.UserError(f"{path}: expected an IDX file that begins with {magic:#06x}, found "
                               f"{data[:4].hex() or 'nothing'}; is it the right file?")
    shape = [int.from_bytes(data[4 + 4 * i:8 + 4 * i], "big") for i in range(dimensions)]
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    expected = 1
    for size in shape:
        expected *= size
    if body.size != expected:
        raise errors.UserError(f"{path}: expected {expected} bytes for {'x'.join(map(str, shape))}, found {body.size}; "
                               f"the file is truncated or damaged; download it again")
    return body.reshape(shape)
