"""A request of the Comet client, unpacked: JSON (perhaps compressed), query and uploaded files in one place.

The wire names the same thing by query here and by JSON there, so a method looks up a name and never asks where it was.
"""

from __future__ import annotations

import email.message
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mnist_jax.compare.servers import comet_store, server

_PREFIXES = ("/clientlib/rest/v2/", "/api/rest/v2/", "/clientlib/", "/")


class CallRefused(Exception):
    """Answered with an error status and the code that the client knows."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class CometCall(NamedTuple):
    """What the client asks; `name` is the path without the roots that the client uses in turn."""

    name: str
    url: str  # of this server
    api_key: str | None
    values: dict[str, Any]  # of the query, the JSON body and the fields of a form
    file: bytes  # the uploaded file, if any


Method = Callable[[comet_store.CometStore, CometCall], Any]  # what goes back as JSON, or a Response


def unpack(request: server.Request) -> CometCall:
    """Return the call that a request carries."""
    prefix = next(prefix for prefix in _PREFIXES if request.path.startswith(prefix))
    body = gzip.decompress(request.body) if request.headers.get("Content-Encoding") == "gzip" else request.body
    values: dict[str, Any] = dict(request.query)
    file = b""
    content_type = email.message.Message()
    content_type["Content-Type"] = request.headers.get("Content-Type", "")
    if content_type.get_content_type() == "multipart/form-data":
        for name, content in _form(body, str(content_type.get_param("boundary"))):
            if name in ("file", "assetItemContent", "thumbnail"):
                file = content
            else:
                values[name] = content.decode()
    elif body:
        values |= json.loads(body)
    api_key = request.headers.get("Authorization") or values.get("apiKey")
    return CometCall(request.path.removeprefix(prefix), request.url, api_key, values, file)


def _form(body: bytes, boundary: str) -> Iterator[tuple[str, bytes]]:
    # By hand, because the parsers of `email` are made for text.
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:-1]:
        header, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        for line in header.decode().split("\r\n"):
            field, _, described = line.partition(":")
            if field.lower() == "content-disposition":
                disposition = email.message.Message()
                disposition["Content-Disposition"] = described.strip()
                yield str(disposition.get_param("name", header="Content-Disposition")), content


def experiment_of(store: comet_store.CometStore, call: CometCall) -> comet_store.Experiment:
    """Return the experiment that a call is about."""
    key = call.values.get("experimentKey") or call.values.get("experimentId")
    experiment = store.experiments.get(str(key))
    if experiment is None:
        raise CallRefused(400, 90210, f"No experiment {key}")
    return experiment
