"""A file of arrays keeps every bit."""


import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from mnist_jax.record import arrays


def test_a_file_of_arrays_keeps_every_bit():
    values: dict[str, np.ndarray] = {
        "a/b": np.array([np.nan, -0.0, np.inf], np.float32), "c": np.zeros((0, 3), np.int64), "d": np.array(7, np.int32)}
    packed = arrays.pack(values, {"x.txt": b"y"})
    found, beside = arrays.unpack(packed)
    assert beside == {"x.txt": b"y"} and found.keys() == values.keys() and arrays.digest(found) == arrays.digest(values)
    assert packed == arrays.pack(values, {"x.txt": b"y"})
    with pytest.raises(ValueError, match="damaged"):
        arrays.unpack(packed[:-30])


def _npy(shape: str, version: bytes = b"\x01\x00", dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little") + header + b"x" * 130


@pytest.mark.parametrize("content", [
    _npy("(2**40,)"), _npy(f"({2**40},)"), _npy(f"({2**63}, {2**63})"), _npy("(-1,)"), _npy(f"({2**32}, {2**32})"),
    _npy("(129,)"), _npy(f"(0, {2**70})"),
    _npy("(130,)", b"\x03\x00"), _npy("(" * 90), _npy("(65,)", dtype="|O"), b"", b"\x93NUMPY"])
def test_a_header_that_claims_more_than_there_is_is_refused_before_anything_is_allocated(content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", content)
    tracemalloc.start()
    with pytest.raises(ValueError):
        arrays.unpack(stream.getvalue())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


@pytest.mark.parametrize("members", [1, 20])
def test_a_zip_bomb_is_refused_before_anything_is_allocated(members):
    stream, megabytes = io.BytesIO(), 300 // members
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(members):
            with archive.open(f"{number}.bin", "w") as file:
                for _ in range(megabytes):
                    file.write(b"\0" * 2**20)
    tracemalloc.start()
    with pytest.raises(ValueError, match="times the file's"):
        arrays.unpack(stream.getvalue())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25
