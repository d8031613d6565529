"""The exceptions that command lines print as one line: UserError with exit code 2, RecordError with 1."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user: the message says what was expected, what was found and what to change."""


class RecordError(Exception):
    """The record is damaged or cannot be written; the message names the file and the line."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
