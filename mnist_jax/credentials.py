"""The credentials of the environment: known by the names of their variables, and masked wherever their values occur."""

from __future__ import annotations

import os
import re
import urllib.parse

NAME = re.compile(r"(^|[_\-.])(token|secret|password|passwd|api[_\-]?key|apikey|access[_\-]?key)$", re.IGNORECASE)
MASK = "***"


def values() -> dict[str, str]:
    """Return the values of the environment's credential variables, by name."""
    return {name: value for name, value in os.environ.items() if NAME.search(name) and len(value) >= 8}


def mask(text: str) -> str:
    """Replace every credential of the environment that occurs in a text."""
    for value in sorted(values().values(), key=len, reverse=True):  # one may begin with another
        text = text.replace(value, MASK)
    return text


def without_password(url: str) -> str:
    """Return a URL without its user and password."""
    parts = urllib.parse.urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def host(address: str) -> str:
    """Return the host and port of a URL, without user and password."""
    return urllib.parse.urlsplit(address).netloc.rpartition("@")[2]
