"""Shared by the two probe programs: a small training as a user would write it, and a log of the client's calls.

A probe program runs alone in a sandbox (sandbox.py): environment variables name its task, and it uses the client as its
documentation shows, with all automatic capture on.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

POINTS = 1_000  # logged one by one, for the cost of a point and for the points that survive a kill
# Not credentials: they show whether a client stores such texts.
PLANTED_ARGUMENT, PLANTED_REMOTE = "planted-in-the-command-line", "planted-in-the-remote"
NAMES = ("bare", "called", "points", "killed", "again")


class Probe:
    """The task of a probe program, and its log: JSON lines in `calls.jsonl`."""

    def __init__(self) -> None:
        self.name = os.environ["PROBE"]  # one of NAMES
        self.online = os.environ["PROBE_MODE"] == "online"
        self._path = Path(os.environ["PROBE_LOG"])

    def log(self, **facts: Any) -> None:
        with self._path.open("a") as log:
            log.write(json.dumps(facts, default=str) + "\n")

    @contextlib.contextmanager
    def cost(self, name: str, of: int = 1) -> Iterator[None]:
        """Log the seconds that a block takes, divided by `of`."""
        started = time.perf_counter()
        yield
        self.log(cost=name, seconds=(time.perf_counter() - started) / of)

    def call(self, criterion: str, words: str, leaves: str, function: Callable[[], Any], reach: str = "") -> Any:
        """Make a call and log whether the client accepted it.

        Args:
          criterion: one of the nine.
          words: the call as a user writes it.
          leaves: the name, or its beginning, of what it should store; empty if it stores nothing.
          function: makes the call.
          reach: of a call that reads what another run logged: "run" if it names that run, "project" if not.

        Returns:
          The call's result, or None where it was refused.
        """
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                result = function()
        except Exception as error:  # any error of the client is a result
            self.log(criterion=criterion, call=words, leaves=leaves, reach=reach, accepted=False,
                     answer=_plain(f"{type(error).__name__}: {error}"))
            return None
        self.log(criterion=criterion, call=words, leaves=leaves, reach=reach, accepted=True,
                 answer=_plain(printed.getvalue().strip() or str(result)))
        return result

    def kill(self) -> None:
        """Kill this process."""
        os.kill(os.getpid(), signal.SIGKILL)


def _plain(answer: str) -> str:
    """Return an answer on one line, without colours and rules, at most 300 characters."""
    words = re.sub(r"\x1b\[[0-9;]*m|-{4,}\w*-*", " ", answer)
    return " ".join(words.split())[:300]


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line: hyperparameters, and a password."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--password", default="")
    return parser.parse_args()


def train(learning_rate: float, steps: int = 3) -> Iterator[tuple[int, float]]:
    """Yield (step, loss) of a linear model of the digits trained by JAX, and print them, as a user would."""
    import jax
    import jax.numpy as jnp
    from sklearn import datasets, linear_model

    images, labels = datasets.load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16), jnp.asarray(labels)

    def loss_of(weights: jax.Array) -> jax.Array:
        scores = jax.nn.log_softmax(images @ weights)
        return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))

    weights = jnp.zeros((64, 10))
    step_of = jax.jit(jax.value_and_grad(loss_of))
    for step in range(1, steps + 1):
        loss, gradient = step_of(weights)
        weights = weights - learning_rate * gradient
        print(f"step {step}: loss {loss:.4f}", flush=True)
        yield step, float(loss)
    linear_model.LogisticRegression(max_iter=5).fit(images[:100], labels[:100])  # of a library that clients hook into


def files() -> None:
    """Write files that a user would log: a table of data, a model, a picture, a folder."""
    import numpy as np
    from PIL import Image

    Path("data.csv").write_text("a,b\n1,2\n3,4\n")
    Path("model.bin").write_bytes(bytes(range(256)))
    Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)).save("picture.png")
    Path("folder").mkdir(exist_ok=True)
    Path("folder/notes.txt").write_text("notes\n")
