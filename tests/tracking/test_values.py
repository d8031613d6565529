"""A field and the way back: every value returns as itself, and a text never becomes another value."""

import math

from hypothesis import example, given
from hypothesis import strategies as some

from mnist_jax.tracking import values

SCALARS = some.none() | some.booleans() | some.integers() | some.floats() | some.text()
VALUES = some.recursive(
    SCALARS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3))


def same(one, other) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (one == other and math.copysign(1, one) == math.copysign(1, other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


@given(VALUES)
@example("null")
@example('"x"')
@example("1e999")
@example(str(2**60))
@example(2**60)
@example("[1, 2]")
@example("NaN")
@example(math.nan)
@example("\u2028")
def test_the_way_back_is_exact(value):
    stored = values.encode(value)
    assert isinstance(stored, str | int | float | bool)
    assert not isinstance(stored, float) or math.isfinite(stored)
    assert same(values.decode(stored), value)


def test_common_texts_stay_as_they_are():
    for text in ("adam", "1.0", "32", "true", "2024-01-01", "", "cnn [small]", "nan"):
        assert values.encode(text) == text
