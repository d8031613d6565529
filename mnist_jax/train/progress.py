"""The progress bar of a run, on a terminal or in a notebook."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from mnist_jax import secrets

Progress = Callable[[int, float, float, float], None]  # completed updates, loss, accuracy, images/s


def bar(total: int, steps_per_epoch: int) -> Progress | None:
    """Return a progress bar over all updates of a run, or None without a terminal or notebook."""
    notebook = _in_notebook()
    if not notebook and not secrets.is_terminal(sys.stderr):
        return None
    import tqdm

    layout = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    # If a terminal does not know its size, tqdm shows nothing.
    has_size = not notebook and _columns() > 0
    size: dict[str, Any] = {"dynamic_ncols": True} if has_size else {"ncols": 100, "nrows": 24}
    # A notebook shows stderr as a warning, so there the bar goes to stdout, and stays.
    line = tqdm.tqdm(total=total, bar_format=layout, leave=notebook, file=sys.stdout if notebook else None, **size)

    def update(step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        epochs = total // steps_per_epoch
        with contextlib.suppress(OSError, ValueError):  # the terminal has gone, or the program has closed the stream
            line.set_description(f"epoch {min(step // steps_per_epoch + 1, epochs)}/{epochs}", refresh=False)
            line.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.2%}, {images_per_second:,.0f} images/s", refresh=False)
            line.update(step - line.n)
            if step >= total:
                line.close()

    return update


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # a stream that only says that it is a terminal
        return 0


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")  # IPython on a terminal has none
