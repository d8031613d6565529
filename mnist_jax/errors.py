"""The exceptions that command lines print as one line: UserError with exit code 2, RecordError with 1."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input: the message says what was expected, what was found and what to change."""


class RecordError(Exception):
    """The record is damaged or cannot be written; the message names the file and the line."""


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the choice nearest to a word, or an empty string."""
    matches = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
