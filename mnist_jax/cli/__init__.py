"""The command line: `mnist-jax`, which is also `run.py` and `python -m mnist_jax`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from mnist_jax import errors, secrets

STARTED = time.time()  # before the modules of the commands are imported, which takes a second


class OutputError(Exception):
    """Standard output cannot be written."""


def say(text: str) -> None:
    """Print lines to standard output, without characters that could steer a terminal.

    Raises:
      OutputError: it cannot be written. Where nobody reads it, as after `| head`, the lines are dropped.
    """
    lines = secrets.printable_lines(text.split("\n"))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with _writing():
        print(lines.encode(encoding, "replace").decode(encoding), flush=True)


def exit_code(program: str, command: Callable[[], int]) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 a mistake in the arguments, 130 interrupted.

    An error is one line, without characters that could steer a terminal.
    """
    _open_standard_streams()
    try:
        try:
            code = command()
        except SystemExit as end:  # of argparse and absl
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        with _writing():
            print(end="", flush=True)
        return code
    except errors.UserError as error:
        secrets.warn(f"{program}: {error}")
        return 2
    except (errors.RecordError, OutputError) as error:
        secrets.warn(f"{program}: {error}")
        return 1
    except BrokenPipeError:
        return 0  # the reader, such as head, has closed the pipe
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        secrets.warn(f"{program}: {error}; free disk space or restore access")
        return 2
    finally:
        for stream in (sys.stdout, sys.stderr):
            _drop_unwritten(stream)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: the stream is closed
        _drop_unwritten(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"standard output: expected one that can be written, found {error}") from error


def _drop_unwritten(stream: Any) -> None:
    """Drop what a standard stream could not write, or Python would try again at its exit, and end with code 120."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def _open_standard_streams() -> None:
    """Open the descriptors 0 to 2 where they are closed, or a file of the record would get 2, and a library's errors in it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
