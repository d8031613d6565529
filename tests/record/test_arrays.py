"""A file of arrays keeps every bit."""


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
