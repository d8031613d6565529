"""Masks credentials in records, and control characters in terminal output, for the whole package.

A credential is the value of an environment variable with a name such as API_KEY or TOKEN; it is masked wherever it occurs.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence

from mnist_jax import errors

NAME = re.compile(r"(^|[_\-.])(token|secret|password|passwd|api[_\-]?key|apikey|access[_\-]?key)$", re.IGNORECASE)
MASK = "***"
_LITERAL = re.compile(r"""(token|secret|password|passwd|api_?key|access_?key)["']?\s*[:=]\s*["'][\w+/=.\-]{16,}["']""",
                      re.IGNORECASE)


def credentials() -> dict[str, str]:
    """Return the values of the environment's credential variables, by name."""
    return {name: value for name, value in os.environ.items() if NAME.search(name) and len(value) >= 8}


def mask(text: str) -> str:
    """Replace every credential of the environment that occurs in a text."""
    for value in sorted(credentials().values(), key=len, reverse=True):  # one may begin with another
        text = text.replace(value, MASK)
    return text


def without_password(url: str) -> str:
    """Return a URL without its user and password."""
    split = urllib.parse.urlsplit(url)
    if not split.scheme or "@" not in split.netloc:
        return url
    return split._replace(netloc=split.netloc.rpartition("@")[2]).geturl()


def host(address: str) -> str:
    """Return the host and port of a URL, without user and password."""
    return urllib.parse.urlsplit(address).netloc.rpartition("@")[2]


def command_line(arguments: list[str]) -> tuple[str, ...]:
    """Return a command line without credentials: --api_key=X becomes --api_key=***, URLs lose their password."""
    clean, hide_next = [], False
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        if hide_next:
            clean.append(MASK)
        elif (argument.startswith("-") or separator) and NAME.search(name):
            clean.append(f"{name}={MASK}" if separator else argument)
        else:
            plain = re.sub(r"\w+://\S+", lambda url: without_password(url.group()), argument)
            clean.append(mask(plain))
        hide_next = not hide_next and not separator and argument.startswith("-") and bool(NAME.search(argument))
    return tuple(clean)


def refuse(values: Mapping[str, object]) -> None:
    """Raise UserError if a flattened config holds a credential of the environment or a URL with a password."""
    secret_values = credentials()
    for path, item in values.items():
        value = item if isinstance(item, str) else repr(item)
        for name, secret in secret_values.items():
            if secret in value:
                raise errors.UserError(f"config.{path}: expected no credential, found the value of {name}; configs are "
                                       f"recorded and synced, so keep it in the environment")
        if re.search(r"\w+://[^/\s:@]*:[^/\s@]+@", value):
            raise errors.UserError(f"config.{path}: expected no credential, found a URL with a password; remove it")


def names_in(data: bytes) -> list[str]:
    """Return the names of the credential variables whose value occurs in some bytes."""
    return [name for name, value in credentials().items() if value.encode() in data]


def suspicious_lines(text: str) -> list[int]:
    """Return the numbers of the lines of a source file that look as if they held a credential."""
    return [number for number, line in enumerate(text.split("\n"), start=1) if _LITERAL.search(line)]


def printable(value: str) -> str:
    """Return a text without control characters, which could steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in value)


def printable_lines(lines: Sequence[str]) -> str:
    """Return lines of text without control characters."""
    return "\n".join(printable(line) for line in lines)
