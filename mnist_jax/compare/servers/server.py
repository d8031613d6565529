"""An HTTP server on 127.0.0.1 with faults that a test can turn on and off while it runs.

A handler is a plain function of a request; it knows nothing of faults. Requests are handled one at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import socketserver
import threading
import traceback
import typing
import urllib.parse
from collections.abc import Callable, Iterator, Mapping


@dataclasses.dataclass(frozen=True)
class Request:
    """A client's request: `path` is decoded, `query` has the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: http.client.HTTPMessage  # names in any case
    body: bytes

    @property
    def url(self) -> str:
        """Return where the client believes this server to be."""
        return f"http://{self.headers['Host']}"


@dataclasses.dataclass(frozen=True)
class Response:
    """The response to the client."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


Handler = Callable[[Request], Response]


@dataclasses.dataclass(frozen=True)
class Faults:
    """The faults of the server, none by default. Set `server.faults` at any time."""

    refuse: bool = False  # nothing listens on the port
    stall: bool = False  # accept and read, never answer, do nothing
    status: int | None = None  # answer this status, do nothing
    garbage: bool = False  # answer 200 and bytes that mean nothing, do nothing
    lose_answer: bool = False  # do what was asked, then close the connection without an answer
    die_after: int | None = None  # serve so many more requests, then refuse
    lose_last: bool = False  # with die_after: carry out one request more, and die before its answer
    only: str = ""  # of all requests, only those whose path contains this (`refuse` concerns all)


class Server:
    """A running server; `stop` and `start` are the faults `refuse` and none."""

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self.port = port  # 0 until the first start chooses one
        self.requests = 0  # received, with or without an answer
        self.errors: list[str] = []  # tracebacks of the handler: a test should find none
        self._handler = handler
        self._faults = Faults()
        self._changes = 0
        self._changed = threading.Condition(threading.RLock())
        self._carrying_out = threading.Lock()
        self._listener: _Listener | None = None
        self._listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def faults(self) -> Faults:
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        with self._changed:
            self._faults = faults
            self._changes += 1
            self._changed.notify_all()
            if faults.refuse:
                self._close()
            else:
                self._listen()

    def stop(self) -> None:
        """Close the port; stalled connections are closed without an answer."""
        self.faults = Faults(refuse=True)

    def start(self) -> None:
        """Heal: listen again on the same port, without faults."""
        self.faults = Faults()

    def answer(self, request: Request) -> Response | None:
        """Return the answer that faults leave of the handler's; None closes the connection."""
        with self._changed:
            self.requests += 1
            faults = self._faults if self._faults.only in request.path else Faults()
            if faults.refuse:
                return None  # accepted just before the port was closed
            if faults.die_after is not None:
                if faults.die_after > 0:
                    self._faults = dataclasses.replace(faults, die_after=faults.die_after - 1)
                else:
                    self.stop()
                    if not faults.lose_last:
                        return None
                    faults = Faults(lose_answer=True)
            if faults.stall:
                changes = self._changes
                self._changed.wait_for(lambda: self._changes != changes)
                return None
        if faults.status is not None:
            return Response(faults.status, "application/json", b'{"title": "fault"}')
        if faults.garbage:
            return Response(200, "application/json", b"\x00<garbage\xff")
        try:
            with self._carrying_out:
                answer = self._handler(request)
        except Exception:  # a fault of ours must not look to the client like a fault of the network
            self.errors.append(traceback.format_exc())
            return Response(500, "text/plain", self.errors[-1].encode())
        return None if faults.lose_answer else answer

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _Listener(self, self.port)
            self.port = self._listener.server_address[1]
            # A short poll, because closing waits for it.
            threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True).start()

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None


class _Listener(socketserver.ThreadingTCPServer):
    # Not http.server.HTTPServer: that one asks DNS for the name of its address when it binds.
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, owner: Server, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: what fails here is a client that went away."""


class _Connection(http.server.BaseHTTPRequestHandler):
    # HTTP/1.0, so one request a connection: no idle connection survives a server that stopped.
    server: _Listener

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            return  # the client died in the middle of its request: as any server, carry out none of it
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
        path = urllib.parse.unquote(address.path)
        request = Request(self.command, path, query, typing.cast(http.client.HTTPMessage, self.headers), body)
        answer = self.server.owner.answer(request)
        if answer is None:
            return
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.content_type, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_request

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the terminal for the test's own words."""


@contextlib.contextmanager
def serve(handler: Handler, port: int = 0) -> Iterator[Server]:
    """Serve on 127.0.0.1 (port 0: any free one) until the block ends."""
    server = Server(handler, port)
    try:
        yield server
    finally:
        server.stop()
