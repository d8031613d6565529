"""A Neptune server on 127.0.0.1 for the unmodified `neptune` client (1.x): runs, series, files, artifacts, read-back.

The client speaks plain http only where OAUTHLIB_INSECURE_TRANSPORT=1 is set before it is imported.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

from mnist_jax.compare.servers import neptune_files, neptune_runs, neptune_specification, neptune_store, server

_KEY = "loopback"  # a token with another key is refused


def token(url: str, key: str = _KEY) -> str:
    """Return the API token that leads a client to the server; any key but the default is refused there."""
    return base64.b64encode(json.dumps({"api_address": url, "api_url": url, "api_key": key}).encode()).decode()


@contextlib.contextmanager
def serve(port: int = 0) -> Iterator[tuple[server.Server, neptune_store.NeptuneStore]]:
    """Serve until the block ends; the store outlives faults and restarts."""
    store = neptune_store.NeptuneStore()
    with server.serve(handler(store), port) as running:
        yield running, store


def handler(store: neptune_store.NeptuneStore) -> server.Handler:
    """Return the function that answers a request from the store."""

    def handle(request: server.Request) -> server.Response:
        with store.lock:
            return _answer(store, request)

    return handle


def _answer(store: neptune_store.NeptuneStore, request: server.Request) -> server.Response:
    service, _, name = request.path.removeprefix("/api/").partition("/")
    if name == "swagger.json" and (document := neptune_specification.specification(service)):
        return _json(document)
    if name == "protocol/openid-connect/token":
        return _json(_access(request.url))
    if request.path.startswith("/api/notifications/"):
        return _json({"title": "no signals here"}, 404)  # a websocket for stop signals: the client lives without
    method = _METHODS.get(name)
    if method is None:
        store.unknown.append(f"{request.method} {request.path}")
        return _json({"title": f"unknown {request.path}"}, 404)
    if name not in ("getClientConfig", "exchangeApiToken"):
        if request.headers.get("Authorization") != f"Bearer {_access(request.url)['access_token']}":
            return _json({"title": "Unauthorized"}, 401)
    elif name == "exchangeApiToken" and not _valid(request.headers.get("X-Neptune-Api-Token", "")):
        return _json({"title": "Unauthorized"}, 401)
    store.calls[name] += 1
    try:
        result = method(store, request)
    except neptune_runs.NotFound as absence:
        return _json({"title": "Not found", "errorType": str(absence)}, 404)
    return result if isinstance(result, server.Response) else _json(result)


def _json(content: Any, status: int = 200) -> server.Response:
    return server.Response(status, "application/json", json.dumps(content).encode())


def _valid(api_token: str) -> bool:
    try:
        return bool(json.loads(base64.b64decode(api_token))["api_key"] == _KEY)
    except (ValueError, KeyError, TypeError):
        return False


def _access(url: str) -> dict[str, Any]:
    # A JWT whose signature nobody checks, and which outlives every test: the client refreshes it once at the start.
    claims = [{"alg": "none"}, {"exp": 4102444800, "azp": "loopback", "iss": f"{url}/api/realm"}]
    segments = [base64.urlsafe_b64encode(json.dumps(claim).encode()).decode().rstrip("=") for claim in claims]
    return {"access_token": ".".join([*segments, "AA"]), "refresh_token": "again", "token_type": "bearer"}


def _exchange(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    access = _access(request.url)
    return {"accessToken": access["access_token"], "refreshToken": access["refresh_token"], "username": "loopback"}


def _config(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    # Chunks of 1 MB, not 5 MB as in the real service, so that a small file already has several.
    chunks = {"enabled": True, "minChunkSize": 2**20, "maxChunkSize": 2**30, "maxChunkCount": 1000}
    return {
        "apiUrl": request.url,
        "applicationUrl": request.url,
        "pyLibVersions": {},
        "artifacts": {"enabled": True, "apiVersion": 2},
        "multiPartUpload": {**chunks, "maxSinglePartSize": 2**20},
        "sysNameSetByBackend": False,
    }


def _project(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    workspace, _, name = request.query["projectIdentifier"].rpartition("/")
    return {
        "id": f"{workspace}/{name}",  # its own name, so that every project exists
        "name": name,
        "organizationName": workspace,
        "projectKey": "RUN",
        "version": 2,
    }


_METHODS: dict[str, neptune_runs.Method] = {
    "getClientConfig": _config,
    "exchangeApiToken": _exchange,
    "getProject": _project,
    **neptune_runs.METHODS,
    **neptune_files.METHODS,
}


def main() -> None:
    """Print the token and serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    with serve(parser.parse_args().port) as (running, _):
        print(f"export OAUTHLIB_INSECURE_TRANSPORT=1 NEPTUNE_API_TOKEN={token(running.url)}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
