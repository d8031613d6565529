"""Named arrays in one file: a zip of .npy members, and other members beside them. numpy and zipfile can read it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping

import numpy as np

_LARGEST = 2**30  # bytes of one member; a hostile file may claim more


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
            for member in archive.infolist():
                if member.file_size > _LARGEST:
                    raise ValueError(f"a member of more than {_LARGEST} bytes")
                content = archive.read(member)
                if member.filename.endswith(".npy"):
                    arrays[member.filename.removesuffix(".npy")] = np.load(io.BytesIO(content), allow_pickle=False)
                else:
                    beside[member.filename] = content
    except (zipfile.BadZipFile, KeyError, TypeError, EOFError, OSError,
            RuntimeError) as error:  # zipfile raises the last for a password and for an unknown compression
        raise ValueError(f"not a file of arrays, or damaged: {error}") from error
    return arrays, beside
