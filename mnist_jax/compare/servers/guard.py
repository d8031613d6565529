"""Code for the start of a process that may reach this machine and nothing else."""

from __future__ import annotations

# An audit hook sees every connection and every name looked up, those of threads and of C code, too.
_HOOK = """
import os, sys
def only_loopback(event, arguments):
    asked = None
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[-1], tuple):
        asked = arguments[-1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        asked = arguments[0]
    asked = asked.decode() if isinstance(asked, bytes) else asked
    if asked not in (None, "127.0.0.1", "::1", "localhost"):
        OTHERWISE
sys.addaudithook(only_loopback)
"""


def only_loopback(otherwise: str) -> str:
    """Return Python code that watches the network; `otherwise` is run where `asked`, a host, is not this machine."""
    return _HOOK.replace("OTHERWISE", otherwise.strip())
