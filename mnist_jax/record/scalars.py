"""Names, steps and values as a record holds them: printable text, integers from 0 to 2**53, float64. Anything else is an
error, never a cast.
"""

from __future__ import annotations

import decimal
import fractions
import math
import operator
from typing import Any

import numpy as np

from mnist_jax import errors

STEP_LIMIT = 2**53  # beyond it JSON's numbers, and so many trackers', are no longer exact


def name(key: Any) -> str:
    """Return the name of a series: text that is not empty and that a file can hold.

    Raises:
      UserError: it is something else.
    """
    if type(key) is str and key and key.isprintable():
        return key
    raise errors.UserError(f"name: expected printable text, found {_shown(key)}")


def step(value: Any) -> int:
    """Return a step: any integer of Python, numpy or jax, of shape () or (1,).

    Raises:
      UserError: it is no integer, or out of range.
    """
    if type(value) is int:
        number = value
    else:
        item = _item(value)
        try:
            if isinstance(item, bool | np.bool_):
                raise TypeError
            number = operator.index(item)
        except TypeError:
            raise errors.UserError(f"step: expected an integer, found {_shown(value)}; a step counts completed "
                                   f"updates") from None
    if not 0 <= number <= STEP_LIMIT:
        raise errors.UserError(f"step: expected an integer from 0 to 2**53, found {number}")
    return number


def value(name: str, number: Any) -> float:
    """Return a value of the series `name`: any real number of Python, numpy or jax, of shape () or (1,).

    Raises:
      UserError: it is no real number, or float64 does not hold it.
    """
    if type(number) is float:
        return number
    item = _item(number)
    if _is_real(item):
        try:
            result = float(item)
        except (OverflowError, ValueError):  # an integer beyond float64; a signalling NaN
            result = math.inf
        if math.isfinite(result) or _is_not_finite(item):
            return result
        raise errors.UserError(f"{name!r}: expected a number that float64 holds, found {_shown(number)}")
    raise errors.UserError(f"{name!r}: expected a real number, found {_shown(number)}; log text with run.text, or reduce an "
                           f"array to one number")


def _item(value: Any) -> Any:
    """Return the only element of an array or tensor of shape () or (1,); anything else as it is."""
    shape = getattr(value, "shape", None)
    if shape not in ((), (1,)):
        return value
    try:
        np.dtype(value.dtype)
    except (AttributeError, TypeError):  # a tensor of another library
        return value.item() if hasattr(value, "item") else value
    return value[0] if shape == (1,) else value[()] if isinstance(value, np.ndarray) else value


def _is_real(item: Any) -> bool:
    """Return whether it is a real number: bfloat16, float8 and int4 of ml_dtypes are of no kind of numpy's own."""
    dtype = getattr(item, "dtype", None)
    if dtype is None:
        return isinstance(item, float | int | fractions.Fraction | decimal.Decimal)
    try:
        dtype = np.dtype(dtype)
        return getattr(item, "shape", None) == () and (dtype.kind in "biuf" or (
            dtype.kind == "V" and dtype.names is None and np.can_cast(dtype, np.longdouble)))
    except TypeError:
        return False


def _is_not_finite(item: Any) -> bool:
    try:
        return bool(np.isnan(item) or np.isinf(item))
    except TypeError:
        return isinstance(item, decimal.Decimal) and not item.is_finite()


def _shown(value: Any) -> str:
    """Return a value and its type, short, and without trusting its repr."""
    try:
        text = repr(value)
    except Exception:
        text = "a value whose repr fails"
    return f"{text[:80]}{'...' if len(text) > 80 else ''} ({type(value).__name__})"
