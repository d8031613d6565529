"""A Comet server on 127.0.0.1 for the unmodified `comet_ml` client (3.x): experiments, files, artifacts, read-back.

The client reads its address from the environment when it is imported; with the variables of `environment`, with
log_env_details=False and without a proxy it reaches this server and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

from mnist_jax.compare.servers import (
    comet_artifacts,
    comet_assets,
    comet_call,
    comet_experiments,
    comet_registry,
    comet_store,
    comet_summaries,
    server,
)

_KEY = "loopbackkey"  # any other is refused; not the name of the workspace, since the client strikes it out of its words
_VERSION = "4.30.0"  # what the server calls itself: old servers make the client use older ways
_OPEN = ("isAlive/ver", "health/ping")  # answered to everybody


def environment(url: str, key: str = _KEY) -> dict[str, str]:
    """Return the variables that lead a client to the server; any key but the default is refused there."""
    return {
        "COMET_URL_OVERRIDE": f"{url}/clientlib/",
        "COMET_API_KEY": key,
        "COMET_ERROR_TRACKING_ENABLE": "false",  # else about every second import reaches out
    }


@contextlib.contextmanager
def serve(port: int = 0) -> Iterator[tuple[server.Server, comet_store.CometStore]]:
    """Serve until the block ends; the store outlives faults and restarts."""
    store = comet_store.CometStore()
    with server.serve(handler(store), port) as running:
        yield running, store


def handler(store: comet_store.CometStore) -> server.Handler:
    """Return the function that answers a request from the store."""

    def handle(request: server.Request) -> server.Response:
        with store.lock:
            return _answer(store, request)

    return handle


def _answer(store: comet_store.CometStore, request: server.Request) -> server.Response:
    call = comet_call.unpack(request)
    method = _METHODS.get(call.name)
    if method is None:
        store.unknown.append(f"{request.method} {request.path}")
        return _json({"msg": f"unknown {request.path}"}, 404)
    if call.api_key != _KEY and call.name not in _OPEN:
        # The client knows a bad key by the code only where it opens an experiment.
        refusal = {"msg": "API key is not registered", "sdk_error_code": 90212}
        return _json(refusal, 400 if call.name.startswith("logger/") else 401)
    if call.name in store.throttle:
        seconds = {"Retry-After-Custom": str(store.throttle[call.name])}
        return server.Response(429, "application/json", b'{"msg": "too many requests"}', seconds)
    try:
        result = method(store, call)
    except comet_call.CallRefused as refused:
        return _json({"msg": refused.message, "sdk_error_code": refused.code}, refused.status)
    store.calls[call.name] += 1
    return result if isinstance(result, server.Response) else _json(result)


def _json(content: Any, status: int = 200) -> server.Response:
    return server.Response(status, "application/json", json.dumps(content).encode())


_METHODS: dict[str, comet_call.Method] = {
    "isAlive/ver": lambda store, call: {"msg": "loopback", "version": _VERSION},
    "health/ping": lambda store, call: {},
    "notification/experiment": lambda store, call: {},  # the mail at the end of an experiment
    "asset/3d-limits": lambda store, call: {},
    "account-details": lambda store, call: {"userName": "loopback", "defaultWorkspaceName": comet_store.WORKSPACE},
    "workspaces": lambda store, call: {"workspaceNames": [comet_store.WORKSPACE]},
    **comet_experiments.METHODS,
    **comet_summaries.METHODS,
    **comet_assets.METHODS,
    **comet_artifacts.METHODS,
    **comet_registry.METHODS,
}


def main() -> None:
    """Print the variables to set and serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    with serve(parser.parse_args().port) as (running, _):
        print("export", *(f"{name}={value}" for name, value in environment(running.url).items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
