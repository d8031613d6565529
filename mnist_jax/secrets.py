"""Finds and masks credentials, and makes foreign text safe for a terminal, for the whole package.

What is masked: values under names that mean a credential, tokens of known forms, passwords and tokens in URLs, authorization
headers, private keys, and the values of the environment's credential variables. Every pattern is linear: text is hostile.

detect-secrets 1.5 knows more forms, but its import takes 0.1 s, and it says which lines hold a secret, not where to mask them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mnist_jax import errors

MASK = "***"

# Names are compared as words: apiKey, API-KEY and api.key are api_key. Only the last words count, so max_tokens is no token.
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
_NAME = re.compile(
    r"(?:(?:^|_)(?:token|jwt|pat|pass|o?auth|creds?|credentials?|authorization|connection_string"
    r"|(?:auth|access|refresh|bearer|api|session|id|private|personal|deploy|security|hub|bot)_?tokens?"
    r"|(?:api|access|private|secret|signing|encryption|account|master|ssh|auth|deploy|service|consumer|license)_?keys?"
    r"|access_key_id|(?:db|user|mysql|pg|ssh|root|smtp|ftp|admin)pass)"
    r"|passwords?|passwd|passphrases?|secrets?|pwd|apikey)(?:_(?:value|base|base64|text|old|new|\d{1,3}))*$")
_PASSWORD = re.compile(r"(?:passw(?:or)?d|passphrase|secret|pwd|(?:^|[_-]|db|pg|user|mysql|ssh|root|smtp|ftp|admin)pass)s?"
                       r"(?:_\d+)?$", re.IGNORECASE)
_HARMLESS = re.compile(
    r"(?:^|_)(?:pad|eos|bos|unk|sep|cls|mask|image|audio|video|text|vision|start|end|stop|special|next|prev|previous|last|first"
    r"|current|word|sub|per|num|max|min|n|each|begin|class|dist|register|query|prefix|eot|sot|eod|fim|blank)_token$"
    r"|(?:^|_)(?:forward|backward|first|second|one|two|single|multi|low|high|band|by|per|num|max|min|n|each|last)_pass$"
    r"|^(?:no|ask|has|is|require|skip|without)_")
_DIRECTORIES = ("PWD", "OLDPWD")  # of the shell: the working directory, no password

_FORM = re.compile(r"""(?a)(?<![A-Za-z0-9])(?:
    gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,} | gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[\w-]{16,}
  | xox[a-z]-[\w-]{10,} | xapp-[\w-]{20,} | hooks\.slack\.com/services/[\w/]{10,}
  | A(?:KIA|SIA)[A-Z0-9]{16}(?!\w) | AIza[\w-]{30,} | ya29\.[\w-]{20,} | GOCSPX-[\w-]{20,}
  | sk-(?:ant|proj|svcacct|admin|or|lf|None)-[\w-]{16,} | sk-[A-Za-z0-9]{16,}
  | hf_[A-Za-z0-9]{20,} | nvapi-[\w-]{20,} | gsk_[A-Za-z0-9]{20,} | r8_[A-Za-z0-9]{30,}
  | pypi-(?:Ag[\w-]{10,}|[\w-]{32,}) | npm_[A-Za-z0-9]{20,} | dckr_pat_[\w-]{20,} | dop_v1_[a-f0-9]{40,}
  | [rs]k_(?:live|test)_[A-Za-z0-9]{10,} | whsec_[A-Za-z0-9]{20,} | SG\.[\w-]{16,64}\.[\w-]{16,} | SK[a-f0-9]{32}(?!\w)
  | shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32} | glsa_\w{30,} | dapi[a-f0-9]{32} | AGE-SECRET-KEY-1[A-Z0-9]{50,}
  | eyJ[\w-]{16,}(?:\.[\w-]+)*=*                          # a JWT, or any JSON in base64, such as a Neptune token
)""", re.VERBOSE)
_KEY_BLOCK = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
                        r"((?:(?!-----)[A-Za-z0-9+/=\s\\:,.\-()\"'])*+)")
_LINE = re.compile(r"(?m)^[+\- ]?([^\n]*\w[^\n]*)$")
_URL = re.compile(r"""://([^\s/?#"'<>\\]*+)""")
_HEADER = re.compile(r"""(?ai)(?:
    authorization(?:\\?["'])?\s{0,3}[:=]\s{0,3}(?:\\?["'])?(?:bearer|basic|token|digest|apikey|negotiate)\s{1,3}
  | \b(?:bearer|basic)\s{1,3}(?=[\w.~+/-]{0,200}(?:\d|=|(?-i:[a-z][A-Z])))      # without the header's name, no prose
)([\w.~+/=:-]{6,})""", re.VERBOSE)
# A name that ends in one of these stems, and what stands before its value; is_credential decides what the name means.
_ASSIGNMENT = re.compile(r"""(?ai)(?<![\w-])
    ([\w-]{0,60}?(?:token|secret|passw(?:or)?d|passphrase|pwd|pass|pat|cred|credential|auth|authorization|jwt|key|sig|signature)
     s?(?:_id|_?\d{1,3})?)
    ((?:\\?["'])?\s{0,3}(?:[:=]=?|=>)\s{0,3} | ["']?,?\s{1,3})""", re.VERBOSE)
_QUOTED = re.compile(r"""[bfruBFRU]{0,2}\\?(?:"([^"\n]*)"|'([^'\n]*)')""")
_WORD = re.compile(r"""[^\s"'&;,()\[\]{}<>|`\\$%*][^\s"'&;,()\[\]{}<>|`\\]*+""")
_PLACEHOLDER = re.compile(r"\$?\{.*\}|\$\w*|<.*>|%\(?\w*\)?s?|\[.*\]|\*+|\.+|x+|none|null|true|false|yes|no", re.IGNORECASE)
_NO_SECRET = re.compile(r"(?:bfloat|float|u?int|complex)\d+|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")  # a type, an attribute


class _Found(NamedTuple):
    start: int
    end: int
    what: str


@functools.lru_cache(4096)
def is_credential(name: str) -> bool:
    """Return whether a config key, a flag or an environment variable has a name that means a credential."""
    words = _WORDS.sub("_", name[-100:]).strip("_").lower()
    return bool(_NAME.search(words)) and not _HARMLESS.search(words)


def credentials() -> dict[str, str]:
    """Return the values of the environment's credential variables, by name; of a URL, its password."""
    result = {}
    for name, value in os.environ.items():
        if name not in _DIRECTORIES and is_credential(name):
            result[name] = value
        elif "://" in value and "@" in value:
            for found in _urls(value[:10_000]):
                result[name] = value[found.start:found.end].rpartition(":")[2]
    return {name: value for name, value in result.items() if len(value) >= 8}


def mask(text: str) -> str:
    """Replace every credential in a text."""
    pieces, end = [], 0
    for found in sorted(_find(text)):
        if found.start >= end:
            pieces += [text[end:found.start], MASK]
        end = max(end, found.end)
    return "".join([*pieces, text[end:]])


def host(address: str) -> str:
    """Return the host and port of a URL, without user and password."""
    return urllib.parse.urlsplit(address).netloc.rpartition("@")[2]


def command_line(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return a command line without credentials: --api_key=X becomes --api_key=***, URLs lose their password."""
    clean, hide_next = [], False
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        header, colon, _ = argument.partition(":")
        is_flag = argument.startswith("-") and len(argument) > 1
        if hide_next and not is_flag:
            clean.append(MASK)
        elif separator and not re.search(r"\s", name) and is_credential(name):
            clean.append(f"{name}={MASK}")
        elif (masked := mask(argument)) == argument and colon and not re.search(r"\s", header) and is_credential(
                header.rpartition("=")[2]):
            clean.append(f"{header}: {MASK}")  # --header=X-Api-Key: ...
        else:
            clean.append(masked)
        hide_next = is_flag and not separator and is_credential(argument)
    return tuple(clean)


def refuse(config: Mapping[str, object]) -> None:
    """Raise UserError if a config, nested or flattened, holds a credential: under a name that means one, or in a value."""
    variables = credentials()
    for path, name, value in _values(config, "config", ""):
        if is_credential(name) and _may_be_secret(name, value):
            found = "a value under a name that means one"
        elif isinstance(value, str) and (first := min(_find(value, variables), default=None)):
            found = first.what
        else:
            continue
        raise errors.UserError(f"{path[:200]}: expected no credential, found {found}; configs are recorded and synced, so keep "
                               f"it in the environment")


def names_in(data: bytes) -> list[str]:
    """Return the names of the credential variables whose value occurs in some bytes."""
    return [name for name, value in credentials().items() if os.fsencode(value) in data]


def suspicious_lines(text: str) -> list[int]:
    """Return the numbers of the lines of a source file that look as if they held a credential."""
    numbers: list[int] = []
    number, position = 1, 0
    for found in sorted(_find(text, {})):  # a variable's value is the business of names_in
        number += text.count("\n", position, found.start)
        position = found.start
        if number not in numbers[-1:]:
            numbers.append(number)
    return numbers


def printable(value: object, limit: int | None = None) -> str:
    """Return a text of at most `limit` characters, without those that could steer a terminal; they become "?"."""
    text = str(value)
    if limit is not None and len(text) > limit:
        text = f"{text[:max(limit - 3, 0)]}..."
    return text if text.isprintable() else "".join(character if character.isprintable() else "?" for character in text)


def printable_lines(lines: Sequence[str]) -> str:
    """Return lines of text without characters that could steer a terminal."""
    return "\n".join(printable(line) for line in lines)


def warn(line: object) -> None:
    """Print a line to standard error. It never raises, whether that is closed, full, None or of another encoding."""
    stream = sys.stderr
    if stream is None:  # print would take standard output for it
        return
    with contextlib.suppress(Exception):
        text, encoding = printable(" ".join(str(line).splitlines()), 10_000), getattr(stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def is_terminal(stream: object) -> bool:
    """Return whether a standard stream, which may be None or closed, is a terminal."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


def _find(text: str, variables: Mapping[str, str] | None = None) -> Iterator[_Found]:
    """Yield the credentials in a text, in no order; they may overlap."""
    for name, value in (credentials() if variables is None else variables).items():
        position = text.find(value)
        while position >= 0:
            yield _Found(position, position + len(value), f"the value of {name}")
            position = text.find(value, position + len(value))
    for match in _KEY_BLOCK.finditer(text):
        for line in _LINE.finditer(match[1]):
            yield _Found(match.start(1) + line.start(1), match.start(1) + line.end(1), "a private key")
    for match in _FORM.finditer(text):
        yield _Found(match.start(), match.end(), "a token")
    for match in _HEADER.finditer(text):
        yield _Found(match.start(1), match.end(1), "an authorization header")
    yield from _urls(text)
    yield from _assignments(text)


def _urls(text: str) -> Iterator[_Found]:
    """Yield the user and password of each URL; a user alone is a token where the scheme is http."""
    for match in _URL.finditer(text):
        user, at, _ = match[1].rpartition("@")
        name, colon, password = user.partition(":")
        is_http = text[max(match.start() - 5, 0):match.start()].lower().endswith(("http", "https"))
        if at and (colon or is_http) and not _PLACEHOLDER.fullmatch(password if colon else name):
            yield _Found(match.start(1), match.start(1) + len(user), "a URL with a password")


def _assignments(text: str) -> Iterator[_Found]:
    """Yield the values of name = value, "name": "value", ?name=value and --name value, where the name means a credential."""
    end = 0
    for match in _ASSIGNMENT.finditer(text):
        name, between = match[1], match[2]
        in_url, is_flag = text[match.start() - 1:match.start()] in ("?", "&"), name.startswith("-")
        has_sign = "=" in between or ":" in between
        if match.start() < end or not (has_sign or is_flag):
            continue
        if not (is_credential(name) or (in_url and name.lower().endswith(("sig", "signature", "key")))):
            continue
        if not has_sign and between[:1] in ("'", '"') and text[match.end():match.end() + 1] not in ("'", '"'):
            continue  # add_argument("--password", default=...)
        if value := _secret_value(text, match.end(), is_password=bool(_PASSWORD.search(name)), certain=in_url or is_flag,
                                  tight="=" in between and between.strip() == between):
            end = value[1]
            yield _Found(*value, f"a value of {name.strip('-')}")


def _secret_value(text: str, position: int, *, is_password: bool, certain: bool, tight: bool) -> tuple[int, int] | None:
    """Return where the value that begins at a position is, if it looks like a credential and not like code.

    Args:
      certain: it is one, since it belongs to a flag or a URL.
      tight: it follows a sign without a space, as in a shell or a connection string.
    """
    quoted = _QUOTED.match(text, position)
    word = quoted or _WORD.match(text, position)
    if not word:
        return None
    start, end = word.span(word.lastindex or 0)
    value = text[start:end].rstrip("\\")
    has_digit = bool(re.search(r"\d", value))
    if _PLACEHOLDER.fullmatch(value) or value.startswith(("-", "/dev/")):
        return None
    if certain:
        secret = True
    elif quoted:
        long_enough = len(value) >= (4 if is_password else 6 if has_digit else 16)
        secret = long_enough and "{" not in value and (is_password or not re.search(r"\s", value))
    elif _NO_SECRET.fullmatch(value) or text[end:end + 1] in ("(", "["):
        secret = False
    else:
        ends = text[end:end + 1] in ("", " ", "\t", "\r", "\n", ";", "&", '"', "'")
        secret = (tight and ends and len(value) >= 4) or (has_digit and len(value) >= (6 if is_password else 8))
    return (start, start + len(value)) if secret else None


def _values(value: object, path: str, name: str, depth: int = 0) -> Iterator[tuple[str, str, object]]:
    """Yield (path, the last name in it, value) of everything in a config that is no group, lists and their items included."""
    if depth > 100:
        raise errors.UserError(f"{path[:60]}...: expected at most 100 groups inside each other, found more")
    if isinstance(value, Mapping):
        for key, item in value.items():
            is_secret = is_credential(name) and bool(_PASSWORD.search(name))  # {"secrets": {"a": "b"}}
            yield from _values(item, f"{path}.{key}", name if is_secret else str(key), depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from _values(item, f"{path}[{index}]", name, depth + 1)
    elif isinstance(value, str) or value is None or isinstance(value, bool | int | float):
        yield path, name, value
    else:
        yield path, name, value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _may_be_secret(name: str, value: object) -> bool:
    """Return whether a config value under a credential's name may be one; a switch or a number rarely is."""
    if isinstance(value, str):
        return value.lower() not in ("", "none", MASK)
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(_PASSWORD.search(name))
