"""Members of one compiled program, each with its own seed and hyperparameters: trained sequentially, or vectorized.

Sequentially, a member is bit for bit the run that it would be alone, since it is the same program that runs: inside a
compiled loop over members XLA may fuse otherwise, and with jax 0.12 it does. Vectorized (vmap), a member is the same to
about 1e-7 in the loss, and every device has its share of them. On a CPU, vectorizing gains nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.train import devices, step


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


def strategy(members: int, platform: str) -> Strategy:
    """Return how so many members are trained on "cpu", "gpu" or "tpu"."""
    return sequential if members == 1 or platform == "cpu" else vectorized


def over_devices(program: step.Program, members: int, platform: str) -> step.Program:
    """Return the program with the devices sharing its members, where these are vectorized; else it is one device's."""
    return program._replace(mesh=devices.member_mesh(members) if strategy(members, platform) is vectorized else None)


def no_metrics(program: step.Program, *members: int) -> jax.Array:
    """Return the metrics of an epoch that has not begun, on every device; dealt over them, for a number of members."""
    put = devices.dealt if members else devices.everywhere
    return put(program.mesh, np.zeros((*members, program.steps_per_epoch, 2), np.float32))


def _train_sequential(program: step.Program, members: list[Member], data: step.Data, orders: list[jax.Array],
                      updates: jax.Array) -> tuple[list[Member], list[jax.Array]]:
    trained, latest = [], []
    for member, order in zip(members, orders, strict=True):
        state, metrics, means = step.compiled(program).train(member.hyper, member.state, member.metrics, member.seed, data,
                                                             order, updates)
        trained.append(member._replace(state=state, metrics=metrics))
        latest.append(means)
    return trained, latest


def _evaluate_sequential(program: step.Program, members: list[Member], data: step.Data) -> list[tuple[jax.Array, jax.Array]]:
    return [step.compiled(program).evaluate(member.state.parameters, data)[:2] for member in members]


sequential = Strategy(
    gather=lambda program, members: members, scatter=lambda members: members,
    metrics=lambda members: [member.metrics for member in members],
    begin_epoch=lambda program, members: [member._replace(metrics=no_metrics(program)) for member in members],
    orders=lambda members, examples, epoch: [step.permutation(examples, member.seed, epoch) for member in members],
    train=_train_sequential, evaluate=_evaluate_sequential)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _train_vectorized(program: step.Program, members: Member, data: step.Data, orders: jax.Array,
                      updates: jax.Array) -> tuple[Member, jax.Array]:
    start = members.state.step[0] % program.steps_per_epoch

    def one(member: Member, data: step.Data, order: jax.Array) -> tuple[Member, jax.Array]:
        state, metrics, means = step.train_epoch(program, member.hyper, member.state, member.metrics, member.seed, data,
                                                 order, start, updates)
        return member._replace(state=state, metrics=metrics), means

    def here(members: Member, data: step.Data, orders: jax.Array) -> tuple[Member, jax.Array]:
        return jax.vmap(lambda member, order: one(member, data, order))(members, orders)

    return devices.each_its_members(program.mesh, here, True, False, True)(members, data, orders)


@functools.partial(jax.jit, static_argnums=0)
def _evaluate_vectorized(program: step.Program, members: Member, data: step.Data) -> tuple[jax.Array, jax.Array]:
    def here(parameters: Any, data: step.Data) -> tuple[jax.Array, jax.Array]:
        return jax.lax.map(lambda each: step.evaluate(program, each, data)[:2], parameters)

    return devices.each_its_members(program.mesh, here, True, False)(members.state.parameters, data)


@functools.partial(jax.jit, static_argnums=0)
def _orders_vectorized(examples: int, seeds: jax.Array, epoch: jax.Array) -> jax.Array:
    return jax.vmap(lambda seed: step.permutation(examples, seed, epoch))(seeds)


def _scatter(members: Member) -> list[Member]:
    return [jax.tree.map(lambda leaf, place=place: leaf[place], members) for place in range(len(members.seed))]


vectorized = Strategy(
    gather=lambda program, members: devices.dealt(program.mesh, jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)),
    scatter=_scatter,
    metrics=lambda members: members.metrics,
    begin_epoch=lambda program, members: members._replace(metrics=no_metrics(program, len(members.seed))),
    orders=lambda members, examples, epoch: _orders_vectorized(examples, members.seed, epoch),
    train=_train_vectorized,
    evaluate=lambda program, members, data: list(zip(*_evaluate_vectorized(program, members, data), strict=True)))
