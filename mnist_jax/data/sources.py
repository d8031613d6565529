"""Loads a data set's arrays from a TFDS folder, IDX files, a download, or scikit-learn, without TensorFlow.

Files are decoded once: the arrays are cached under the digest of the files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mnist_jax import errors, secrets
from mnist_jax.data import idx

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> uint8[N, 28, 28, 1], int32[N]

DATASETS = ("mnist", "fashion_mnist", "kmnist", "digits")
_CACHE_VERSION = 1  # increment it when the decoding changes
_REACHABLE_S = 10.0  # timeout of one request before the download manager, which retries for minutes


@dataclasses.dataclass(frozen=True)
class RawData:
    """A data set's decoded arrays and their origin."""

    arrays: Arrays
    version: str  # TFDS's version of the data set; "" where the files do not say
    origin: str  # "tfds", "idx", "download" or "scikit-learn"


def cache_folder() -> Path:
    """Return the folder of decoded arrays and downloads: MNIST_JAX_CACHE, else in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mnist_jax"
    return Path(os.environ.get("MNIST_JAX_CACHE") or default).expanduser()


def load(name: str, data_dir: str) -> RawData:
    """Return the arrays of a data set.

    Args:
      name: one of DATASETS.
      data_dir: a TFDS folder or a folder of IDX files; "" looks where TFDS looks and then downloads.

    Raises:
      UserError: no source has the data, or a file of it is damaged.
    """
    if name == "digits":
        return RawData(_digits(), "scikit-learn", "scikit-learn")
    if data_dir:
        folder = Path(data_dir).expanduser()
        if files := idx.find(folder):
            return _idx(name, files, "", "idx")
        if version := _newest_version(name, folder):
            return _tfds(name, version)
        raise errors.UserError(f"dataset.data_dir: expected a folder with the four IDX files ({', '.join(idx.FILES['train'])}, "
                               f"...) or with a TFDS {name} in array_record files, found neither in {folder}")
    for place in (os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"):
        if place and (version := _newest_version(name, Path(place).expanduser())):
            return _tfds(name, version)
    return _download(name)


def _digits() -> Arrays:
    """Return scikit-learn's 1,797 digits of 8x8 pixels, scaled to 28x28; every fifth of a fixed order is in the test split."""
    from sklearn import datasets

    digits = datasets.load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.float64)
    images = _enlarge(grey)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    test = np.sort(order[::5])
    train = np.setdiff1d(np.arange(len(images)), test)
    labels = digits.target.astype(np.int32)
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


def _enlarge(images: np.ndarray) -> np.ndarray:
    """Scale float64[N, 8, 8] to uint8[N, 28, 28]: linear to 24x24 in integers, so the same on every machine; a border of 2."""
    centres = (np.arange(24) * 2 + 1) - 3  # of the fine pixels, in sixths of a coarse one
    low = np.clip(centres // 6, 0, 7)
    high = np.minimum(low + 1, 7)
    weight = np.clip(centres - low * 6, 0, 6)
    values = images.astype(np.int64)
    rows = values[:, low] * (6 - weight)[:, None] + values[:, high] * weight[:, None]
    both = rows[:, :, low] * (6 - weight) + rows[:, :, high] * weight
    return np.pad(((both + 18) // 36).astype(np.uint8), ((0, 0), (2, 2), (2, 2)))


def _idx(name: str, files: dict[str, tuple[Path, Path]], version: str, origin: str) -> RawData:
    def decode() -> Arrays:
        return {split: idx.read(*paths) for split, paths in files.items()}

    paths = [path for pair in files.values() for path in pair]
    return RawData(_load_cached(name, paths, decode), version, origin)


def _newest_version(name: str, data_dir: Path) -> Path | None:
    """Return the folder of the newest version that TFDS prepared in array_record files, which need no TensorFlow."""
    versions = []
    for info in (data_dir / name).glob("*/dataset_info.json"):
        try:
            number = tuple(int(part) for part in info.parent.name.split("."))
            if json.loads(info.read_text()).get("fileFormat") == "array_record":
                versions.append((number, info.parent))
        except (ValueError, OSError, AttributeError):
            continue  # not a version folder, or its description is damaged
    return max(versions)[1] if versions else None


def _tfds(name: str, folder: Path) -> RawData:
    def decode() -> Arrays:
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder_from_directory(str(folder))
            # Decoded by TFDS, row by row, this takes 17 s instead of 2.5.
            rows = {split: builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
                    for split in ("train", "test")}
            return {split: _columns(every.__getitems__(range(len(every)))) for split, every in rows.items()}
        except Exception as error:  # array_record, Pillow and TFDS each raise their own types
            raise errors.UserError(f"{folder}: expected a TFDS {name} in array_record files, found damage "
                                   f"({' '.join(str(error).split())[:200]}); prepare it again") from error

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return RawData(_load_cached(name, files, decode), folder.name, "tfds")


def _columns(rows: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8[N, 28, 28, 1] and int32[N] of rows, each a tf.train.Example with a PNG file and a label."""
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    def decode(row: bytes) -> tuple[np.ndarray, int]:
        feature = tf_example_pb2.Example.FromString(row).features.feature
        png = io.BytesIO(feature["image"].bytes_list.value[0])
        return np.asarray(Image.open(png, formats=("PNG",))), feature["label"].int64_list.value[0]

    pairs = [decode(row) for row in rows]
    images, labels = np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs], np.int32)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(f"expected grey images of 28x28 bytes, found {images.dtype} of {images.shape[1:]}")
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"expected labels from 0 to 9, found {labels.min()} to {labels.max()}")
    return images[..., None], labels


def _download(name: str) -> RawData:
    """Download the four IDX files with TFDS's download manager, by the builder's addresses and checksums."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    builder = tfds.builder_cls(name)
    addresses = {split: tuple(f"{builder.URL}{file}.gz" for file in files) for split, files in idx.FILES.items()}
    folder = cache_folder() / "downloads" / name
    options = (f"(1) TFDS_DATA_DIR=DIR with a prepared {name} in array_record files, (2) --config.dataset.data_dir=DIR with "
                f"the four IDX files, (3) the embedded data: --config=configs/cnn.py:digits")
    try:
        if sum(path.is_file() and ".tmp." not in str(path) for path in folder.rglob("*.gz")) < len(idx.FILES) * 2:
            urllib.request.urlopen(urllib.request.Request(addresses["test"][1], method="HEAD"), timeout=_REACHABLE_S)
        if not secrets.is_terminal(sys.stderr):
            tfds.disable_progress_bar()
        manager = tfds.download.DownloadManager(download_dir=folder, url_infos=builder.url_infos,
                                                force_checksums_validation=True)
        paths = manager.download(addresses)
    except NonMatchingChecksumError as error:
        wrong = next((word for word in str(error).split() if word.startswith("http")), name).rstrip(",")
        raise errors.UserError(f"dataset {name}: expected the published checksum of {wrong}, found another; the file was "
                               f"changed in transit. Try again, or {options}") from error
    except Exception as error:  # requests, TFDS and the OS each raise their own types
        raise errors.UserError(f"dataset {name}: expected it prepared on disk or downloadable, found neither "
                               f"({type(error).__name__} at {builder.URL}). Options: {options}") from error
    files = {split: (Path(pair[0]), Path(pair[1])) for split, pair in paths.items()}
    return _idx(name, files, str(builder.VERSION), "download")


def _load_cached(name: str, files: list[Path], decode: Callable[[], Arrays]) -> Arrays:
    """Return the decoded arrays of the files, from the cache if it holds them."""
    key = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            key.update(hashlib.file_digest(stream, "sha256").digest())
    path = cache_folder() / f"{name}-v{_CACHE_VERSION}-{key.hexdigest()[:16]}.npz"
    try:
        with np.load(path, allow_pickle=False) as cache:  # a zip file: its checksums are verified on reading
            return {split: (cache[f"{split}_images"], cache[f"{split}_labels"]) for split in ("train", "test")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # missing or damaged: decode the files again
    arrays = {split: _sort(*pair) for split, pair in decode().items()}
    _store(path, arrays)
    return arrays


def _sort(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort examples by their bytes, since TFDS shuffles them when it prepares and IDX files do not."""
    rows = np.concatenate([images.reshape(len(images), -1), labels.astype(np.uint8)[:, None]], axis=1)
    order = np.argsort(rows.view(f"V{rows.shape[1]}").ravel(), kind="stable")
    return images[order], labels[order]


def _store(path: Path, arrays: Arrays) -> None:
    """Write arrays into the cache; a cache that cannot be written is not an error."""
    columns = {f"{split}_{column}": array for split, pair in arrays.items()
               for column, array in zip(("images", "labels"), pair, strict=True)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
    except OSError:
        return
    try:
        np.savez(partial / "arrays.npz", **columns)  # type: ignore[arg-type]
        (partial / "arrays.npz").replace(path)
    except OSError:
        pass
    finally:
        shutil.rmtree(partial, ignore_errors=True)
