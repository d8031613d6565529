"""The faulty server by itself, asked with urllib."""

import concurrent.futures
import http.client
import socket
import time
import urllib.error
import urllib.request

import pytest

from mnist_jax.compare.servers import server


def echo(request: server.Request) -> server.Response:
    if request.path == "/broken":
        raise ValueError("a bug of the handler")
    words = f"{request.method} {request.path} {sorted(request.query.items())} {len(request.body)}"
    return server.Response(200, "text/plain", words.encode(), {"X-Seen": "yes"})


def ask(running: server.Server, path: str = "/", body: bytes | None = None, timeout_s: float = 5) -> bytes:
    with urllib.request.urlopen(running.url + path, body, timeout=timeout_s) as answer:
        return answer.read()


def test_a_handler_sees_the_request_decoded():
    with server.serve(echo) as running:
        assert ask(running, "/a%20b?x=1&y=", b"123") == b"POST /a b [('x', '1'), ('y', '')] 3"
        assert running.requests == 1


def test_refused_and_healed_on_the_same_port():
    with server.serve(echo) as running:
        url = running.url
        for _ in range(3):
            running.stop()
            with pytest.raises(urllib.error.URLError, match="refused"):
                ask(running)
            running.start()
            assert running.url == url
            assert ask(running)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_status_is_answered_without_asking_the_handler(status):
    with server.serve(echo) as running:
        running.faults = server.Faults(status=status, only="/broken")
        with pytest.raises(urllib.error.HTTPError) as error:
            ask(running, "/broken", bytes(2**20))
        assert error.value.code == status and not running.errors
        assert ask(running, "/other")


def test_a_stalled_request_ends_without_an_answer_when_healed():
    with server.serve(echo) as running, concurrent.futures.ThreadPoolExecutor() as pool:
        running.faults = server.Faults(stall=True)
        with pytest.raises(TimeoutError):
            ask(running, timeout_s=0.1)
        asked = pool.submit(ask, running)
        time.sleep(0.1)
        assert not asked.done()
        running.start()
        with pytest.raises(http.client.RemoteDisconnected):
            asked.result(5)


def test_garbage_and_a_lost_answer():
    seen = []

    def answer(request: server.Request) -> server.Response:
        seen.append(request.path)
        return echo(request)

    with server.serve(answer) as running:
        running.faults = server.Faults(garbage=True)
        with pytest.raises(UnicodeDecodeError):
            ask(running).decode()
        running.faults = server.Faults(lose_answer=True)
        with pytest.raises(http.client.RemoteDisconnected):
            ask(running, "/done")
        assert seen == ["/done"]


def test_a_request_whose_client_died_in_the_middle_is_not_carried_out():
    seen = []

    def answer(request: server.Request) -> server.Response:
        seen.append(request.body)
        return echo(request)

    with server.serve(answer) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=5) as client:
            client.sendall(b"POST /half HTTP/1.0\r\nContent-Length: 100\r\n\r\n" + bytes(50))
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
        ask(running, "/whole", b"123")
    assert seen == [b"123"] and not running.errors


def test_dies_after_so_many_requests():
    with server.serve(echo) as running:
        running.faults = server.Faults(die_after=2, only="/count")
        assert ask(running, "/other") and ask(running, "/count") and ask(running, "/count") and ask(running, "/other")
        with pytest.raises(http.client.RemoteDisconnected):
            ask(running, "/count")
        with pytest.raises(urllib.error.URLError, match="refused"):
            ask(running, "/other")
        running.start()
        assert ask(running, "/count")


def test_an_error_of_the_handler_is_kept():
    with server.serve(echo) as running:
        with pytest.raises(urllib.error.HTTPError):
            ask(running, "/broken")
        assert "a bug of the handler" in running.errors[0]
