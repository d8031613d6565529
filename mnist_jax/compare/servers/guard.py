"""Code for the start of a process that may reach this machine only."""

from __future__ import annotations

# An audit hook sees every connection and every name lookup, also of threads and C code.
_HOOK = """
import os, sys
def only_loopback(event, arguments):
    host = None
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[-1], tuple):
        host = arguments[-1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "127.0.0.1", "::1", "localhost"):
        OTHERWISE
sys.addaudithook(only_loopback)
"""


def only_loopback(otherwise: str) -> str:
    """Return Python code that watches the network; `otherwise` is run where `host`, a host, is not this machine."""
    return _HOOK.replace("OTHERWISE", otherwise.strip())
