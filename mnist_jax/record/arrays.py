"""Named arrays in one file: a zip of .npy members, and other members beside them. numpy and zipfile can read it."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

_LARGEST = 2**30  # bytes of one member; a hostile file may claim more
_RATIO = 20  # all members together are at most so many times as large as the file, or _SMALL bytes
_SMALL = 2**26


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over path, dtype, shape and bytes of every array, in the order of the paths."""
    result = hashlib.sha256()
    for path in sorted(arrays):
        array = arrays[path]
        result.update(f"{path} {array.dtype.str} {array.shape}\n".encode())
        result.update(np.ascontiguousarray(array).data)
    return result.hexdigest()


def pack(arrays: Mapping[str, np.ndarray], beside: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return the file's bytes: `beside` under its names, then each array as PATH.npy. The same input gives the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in beside.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)  # ZipInfo's fixed date keeps the bytes the same
        for path in sorted(arrays):
            array = io.BytesIO()
            np.save(array, arrays[path], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{path}.npy"), array.getvalue(), compression)
    return stream.getvalue()


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, bytes]]:
    """Return the arrays by path, and the other members by name.

    Raises:
      ValueError: the bytes are not such a file, or are damaged.
    """
    arrays, beside = {}, {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > max(_SMALL, _RATIO * len(data)) or any(member.file_size > _LARGEST for member in members):
                raise ValueError(f"expected members of at most {_LARGEST:,} bytes and {_RATIO} times the file's "
                                 f"{len(data):,} together, found {total:,}")
            for member in members:
                content = archive.read(member)
                if member.filename.endswith(".npy"):
                    arrays[member.filename.removesuffix(".npy")] = _array(content)
                else:
                    beside[member.filename] = content
    except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, EOFError, OSError, MemoryError, OverflowError,
            RuntimeError) as error:  # zipfile raises the last for a password and for an unknown compression
        raise ValueError(f"not a file of arrays, or damaged: {error}") from error
    return arrays, beside


def _array(content: bytes) -> np.ndarray:
    """Return the array in the bytes of an .npy file, whose header may claim anything. Raises ValueError."""
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        np.lib.format.read_magic(stream))
    if read_header is None:
        raise ValueError("an .npy file of an unknown version")
    try:
        shape, _, dtype = read_header(stream)
    except Exception as error:  # numpy gives a header to Python's parser and tokenizer, which raise many kinds
        raise ValueError(f"an .npy file with a damaged header: {type(error).__name__}") from error
    size = math.prod(shape) * dtype.itemsize  # of Python's integers, which do not wrap
    if min(shape, default=0) < 0 or size != len(content) - stream.tell():
        raise ValueError(f"an array of {len(content) - stream.tell()} bytes whose header claims {size}")
    return np.load(io.BytesIO(content), allow_pickle=False)
