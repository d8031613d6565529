"""What a step and a value of a series may be, and that everything else is an error that names it."""

import datetime
import decimal
import fractions
import math

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import mnist_jax
from mnist_jax import errors
from mnist_jax.record import scalars

NUMBERS = [
    1.5, 1, True, np.float16(1.5), np.float32(1.5), np.longdouble(1.5), np.int8(3), np.uint64(2**63 + 5), np.bool_(True),
    np.array(1.5), np.array([2.5]), np.array(7), fractions.Fraction(1, 3), decimal.Decimal("1.25"), ml_dtypes.bfloat16(2.5),
    ml_dtypes.int4(3), np.array([2.5], ml_dtypes.bfloat16), jnp.float32(1.5), jnp.bfloat16(1.5), jnp.array([1.5]),
    jnp.array(True),
    jnp.array(3, jnp.int4), jnp.array(1, jnp.uint4), jnp.array(1.5, jnp.float8_e4m3fn), jnp.array(1.5, jnp.float8_e5m2)]
NO_NUMBERS = [
    None, "nan", "1", b"1", 1 + 2j, np.complex64(1), np.datetime64("2020-01-01"), np.timedelta64(3),
    datetime.datetime(2020, 1, 1),
    np.array([1, 2]), [], [1.0], np.array("a"), np.array([[1.0]]), object(), np.array([object()]), jnp.zeros(2), np.array(None),
    np.zeros(1, [("a", float)])]
TOO_LARGE = [10**400, np.longdouble("1e4000"), fractions.Fraction(10**400), decimal.Decimal("1e400")]
STEPS = [0, 5, 2**53, np.int64(3), np.uint8(3), np.array(3), np.array([3]), jnp.int32(4), jnp.array([3])]
NO_STEPS = [-1, 2**53 + 1, 2**63, 1.5, 3.0, "3", None, True, math.nan, math.inf, np.uint64(2**63 + 5), np.array([1, 2]),
            np.float32(3), jnp.float32(3), np.bool_(True)]


class Tensor:
    """A scalar of a library that numpy does not know, as PyTorch's are."""

    shape, dtype = (), "no dtype of numpy"

    def item(self) -> float:
        return 2.5


@pytest.mark.parametrize("number", NUMBERS, ids=lambda each: type(each).__name__)
def test_every_real_number_is_a_value(number):
    item = number[0] if getattr(number, "shape", ()) == (1,) else number
    assert scalars.value("x", number) == float(item)


def test_numbers_that_are_not_finite_stay_what_they_are():
    for number in (math.nan, np.float32("nan"), decimal.Decimal("NaN"), jnp.float32("nan")):
        assert math.isnan(scalars.value("x", number))
    assert scalars.value("x", np.float32("-inf")) == -math.inf and scalars.value("x", decimal.Decimal("Infinity")) == math.inf
    assert scalars.value("x", Tensor()) == 2.5


@pytest.mark.parametrize("number", NO_NUMBERS, ids=lambda each: type(each).__name__)
def test_what_is_no_number_is_an_error_that_names_the_series(number):
    with pytest.raises(errors.UserError, match="'train/loss': expected a real number"):
        scalars.value("train/loss", number)


@pytest.mark.parametrize("number", TOO_LARGE, ids=lambda each: type(each).__name__)
def test_what_float64_does_not_hold_is_an_error(number):
    with pytest.raises(errors.UserError, match="'x': expected a number that float64 holds"):
        scalars.value("x", number)


@pytest.mark.parametrize("step", STEPS, ids=lambda each: type(each).__name__)
def test_every_integer_from_0_to_2_53_is_a_step(step):
    assert scalars.step(step) == int(np.asarray(step).reshape(())) and type(scalars.step(step)) is int


@pytest.mark.parametrize("step", NO_STEPS, ids=lambda each: type(each).__name__)
def test_what_is_no_such_integer_is_an_error(step, tmp_path):
    with pytest.raises(errors.UserError, match="step: expected an integer"):
        scalars.step(step)


@pytest.mark.parametrize("key", [1, None, "", "a\nb", "a\udc80", b"x"], ids=lambda each: type(each).__name__)
def test_a_name_is_printable_text(key):
    with pytest.raises(errors.UserError, match="name: expected printable text"):
        scalars.name(key)


def test_nothing_that_is_refused_is_recorded(tmp_path):
    with mnist_jax.track("mine", workdir=tmp_path / "run") as run:
        run.log({"x": 1.0}, step=1)
        for values, step in (({"x": 2.0}, 1), ({"x": "2"}, 2), ({"x": 2.0}, 1.5), ({1: 2.0, "1": 3.0}, 2),
                             ({"x": None, "y": 1.0}, 2)):
            with pytest.raises(errors.UserError):
                run.log(values, step=step)  # type: ignore[dict-item,arg-type]
        run.log({"x": 1.0}, step=1)  # the same value again
        run.log({"x": math.nan}, step=2)
        run.log({"x": math.nan, "y": 0.5}, step=2)
        with pytest.raises(errors.UserError, match=r"'x': expected one value at a step, found 2\.0 at step 1, where 1\.0"):
            run.log({"x": 2.0}, step=1)
    record = mnist_jax.read(tmp_path / "run")
    assert record.series("x")[0].tolist() == [1, 2] and record.series("y")[0].tolist() == [2]
