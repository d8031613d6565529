"""The loop over the chunks of epochs. It trains and nothing else: what a chunk reached is for its caller to record.

The hot path is one compiled program a chunk of about a second; inside a chunk nothing crosses to the host.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from mnist_jax.train import devices, step, vectorize

CHUNK_S = 1.0  # between two looks at the world: progress, signals
FIRST_CHUNK = 16  # updates; how fast the machine is, is not known yet


class Chunk(NamedTuple):
    """What some updates, all of one epoch, came to. The next chunk consumes the members."""

    members: vectorize.Members
    means: jax.Array  # float32[..., 2], loss and accuracy over the chunk's updates
    step: int  # completed updates
    updates: int
    began: float  # unix seconds
    seconds: float
    compile_s: float  # of compiling ahead, before the first chunk


def chunks(program: step.Program, strategy: vectorize.Strategy, members: vectorize.Members, data: Mapping[str, step.Data],
           first_step: int, last_step: int) -> Iterator[Chunk]:
    """Train from one step to another; yield after each chunk."""
    per_epoch, train_data = program.steps_per_epoch, data["train"]
    reached, chunk, compile_s = first_step, FIRST_CHUNK, 0.0

    def put(value: int) -> jax.Array:
        return devices.everywhere(program.mesh, np.int32(value))

    while reached < last_step:
        epoch, done = divmod(reached, per_epoch)
        orders = strategy.orders(members, len(train_data.labels), put(epoch))
        if not done:
            members = strategy.begin_epoch(program, members)
        if not compile_s:  # ahead of time, so that no epoch's speed counts it: no update at all
            compiling = time.perf_counter()
            members, means = strategy.train(program, members, train_data, orders, put(0))
            jax.block_until_ready((means, data))
            compile_s = time.perf_counter() - compiling
        while reached < min((epoch + 1) * per_epoch, last_step):
            updates = min(devices.from_primary(chunk), (epoch + 1) * per_epoch - reached, last_step - reached)
            began, starting = time.time(), time.perf_counter()
            members, means = strategy.train(program, members, train_data, orders, put(updates))
            jax.block_until_ready(means)
            seconds = time.perf_counter() - starting
            reached, chunk = reached + updates, max(1, int(updates / seconds * CHUNK_S))
            yield Chunk(members, means, reached, updates, began, seconds, compile_s)
