"""What the two probe programs share: a small training as a user would write it, and a log of what the client took.

A probe program runs in a sandbox (see `sandbox`), alone: it knows its task by the environment and uses the client as its
documentation shows, with everything that the client does by itself left on.
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

POINTS = 1_000  # given one by one, for the cost of a point and for what survives a kill
# No credentials: they show whether a client writes such words down.
PLANTED_ARGUMENT, PLANTED_REMOTE = "planted-in-the-command-line", "planted-in-the-remote"
NAMES = ("bare", "called", "points", "killed", "again")


class Probe:
    """What a program is to do, and the log of what it did, one JSON object a line of `said.jsonl`."""

    def __init__(self) -> None:
        self.name = os.environ["PROBE"]  # one of NAMES
        self.online = os.environ["PROBE_MODE"] == "online"
        self._log = Path(os.environ["PROBE_SAID"])

    def say(self, **facts: Any) -> None:
        with self._log.open("a") as log:
            log.write(json.dumps(facts, default=str) + "\n")

    @contextlib.contextmanager
    def cost(self, name: str, of: int = 1) -> Iterator[None]:
        """Say the seconds that a block takes, divided by `of`."""
        started = time.perf_counter()
        yield
        self.say(cost=name, seconds=(time.perf_counter() - started) / of)

    def call(self, criterion: str, words: str, leaves: str, function: Callable[[], Any], reach: str = "") -> Any:
        """Make a call and say whether the client took it.

        Args:
          criterion: which of the nine it serves.
          words: the call as a user writes it.
          leaves: the name, or the beginning of it, under which its trace is looked for; empty if it leaves none.
          function: makes the call.
          reach: of a call that reads what another run logged: "run" if it names that run, "project" if not.

        Returns:
          The call's result, or None where it was refused.
        """
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                result = function()
        except Exception as error:  # whatever the client raises is what the probe is about
            self.say(criterion=criterion, call=words, leaves=leaves, reach=reach, taken=False,
                     answer=_plain(f"{type(error).__name__}: {error}"))
            return None
        self.say(criterion=criterion, call=words, leaves=leaves, reach=reach, taken=True,
                 answer=_plain(printed.getvalue().strip() or str(result)))
        return result

    def kill(self) -> None:
        """End as a job does that is killed."""
        os.kill(os.getpid(), signal.SIGKILL)


def _plain(answer: str) -> str:
    """Return an answer on one line, without colours and rules, cut to what is read at a glance."""
    words = re.sub(r"\x1b\[[0-9;]*m|-{4,}\w*-*", " ", answer)
    return " ".join(words.split())[:300]


def arguments() -> argparse.Namespace:
    """Return the hyperparameters, which a user gives on the command line, a password among them."""
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
    """Write what a user would log: a table of data, a model, a picture, a folder."""
    import numpy as np
    from PIL import Image

    Path("data.csv").write_text("a,b\n1,2\n3,4\n")
    Path("model.bin").write_bytes(bytes(range(256)))
    Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)).save("picture.png")
    Path("folder").mkdir(exist_ok=True)
    Path("folder/notes.txt").write_text("notes\n")
