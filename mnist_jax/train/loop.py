"""The loop over the chunks of epochs. It only trains: the caller records the results of a chunk.

The hot path is one compiled program a chunk of about a second; inside a chunk nothing crosses to the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mnist_jax.train import devices, step

CHUNK_S = 1.0  # between two checks of progress and signals
FIRST_CHUNK = 16  # updates, while the speed of the machine is unknown


class Member(NamedTuple):
    """One run in training."""

    hyper: step.Hyper
    seed: jax.Array  # uint32[]
    state: step.State
    metrics: jax.Array  # float32[steps_per_epoch, 2], loss and accuracy of the epoch so far


Members = Any  # a list of Member, or one Member whose arrays have a leading axis [K]


class Strategy(NamedTuple):
    """How members are trained: the same calls, sequentially or vectorized."""

    gather: Callable[[step.Program, list[Member]], Members]
    scatter: Callable[[Members], list[Member]]
    metrics: Callable[[Members], Any]  # of each member, on the device
    begin_epoch: Callable[[step.Program, Members], Members]  # with no metrics yet
    orders: Callable[[Members, int, jax.Array], Any]  # (members, examples, epoch) -> the epoch's order of each
    train: Callable[[step.Program, Members, step.Data, Any, jax.Array], tuple[Members, Any]]  # consumes the members
    evaluate: Callable[[step.Program, Members, step.Data], list[tuple[jax.Array, jax.Array]]]  # loss and accuracy of each


class Chunk(NamedTuple):
    """The result of some updates, all of one epoch. The next chunk consumes the members."""

    members: Members
    means: jax.Array  # float32[..., 2], loss and accuracy over the chunk's updates
    step: int  # completed updates
    updates: int
    began: float  # unix seconds
    seconds: float
    compile_s: float  # of compiling ahead, before the first chunk


def chunks(program: step.Program, strategy: Strategy, members: Members, data: Mapping[str, step.Data],
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


def no_metrics(program: step.Program, *members: int) -> jax.Array:
    """Return the metrics of an epoch that has not begun, on every device; dealt over them, for a number of members."""
    put = devices.dealt if members else devices.everywhere
    return put(program.mesh, np.zeros((*members, program.steps_per_epoch, 2), np.float32))


def _train_sequential(program: step.Program, members: list[Member], data: step.Data, orders: list[jax.Array],
                      updates: jax.Array) -> tuple[list[Member], list[jax.Array]]:
    results, latest = [], []
    for member, order in zip(members, orders, strict=True):
        state, metrics, means = step.compiled(program).train(member.hyper, member.state, member.metrics, member.seed, data,
                                                             order, updates)
        results.append(member._replace(state=state, metrics=metrics))
        latest.append(means)
    return results, latest


def _evaluate_sequential(program: step.Program, members: list[Member], data: step.Data) -> list[tuple[jax.Array, jax.Array]]:
    return [step.compiled(program).evaluate(member.state.parameters, data)[:2] for member in members]


sequential = Strategy(
    gather=lambda program, members: members, scatter=lambda members: members,
    metrics=lambda members: [member.metrics for member in members],
    begin_epoch=lambda program, members: [member._replace(metrics=no_metrics(program)) for member in members],
    orders=lambda members, examples, epoch: [step.permutation(examples, member.seed, epoch) for member in members],
    train=_train_sequential, evaluate=_evaluate_sequential)
