"""Members of one compiled program, each with its own seed and hyperparameters: trained one after the other, or side by side.

One after the other, a member is bit for bit the run that it would be alone, since it is the same program that runs: inside a
compiled loop over members XLA may fuse otherwise, and with jax 0.12 it does. Side by side (vmap) a member is the same to
about 1e-7 in the loss, and every device has its share of them. On a CPU, side by side gains nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import devices, train


class Member(NamedTuple):
    """One run in training."""

    hyper: train.Hyper
    seed: jax.Array  # uint32[]
    state: train.State
    metrics: jax.Array  # float32[steps_per_epoch, 2], loss and accuracy of the epoch so far


Members = Any  # a list of Member, or one Member whose arrays have a leading axis [K]


class Strategy(NamedTuple):
    """How members are trained: the same calls, one after the other or side by side."""

    gather: Callable[[train.Program, list[Member]], Members]
    scatter: Callable[[Members], list[Member]]
    metrics: Callable[[Members], Any]  # of each member, on the device
    begin_epoch: Callable[[train.Program, Members], Members]  # with no metrics yet
    orders: Callable[[Members, int, jax.Array], Any]  # (members, examples, epoch) -> the epoch's order of each
    train: Callable[[train.Program, Members, train.Data, Any, jax.Array], tuple[Members, Any]]  # consumes the members
    evaluate: Callable[[train.Program, Members, train.Data], list[tuple[jax.Array, jax.Array]]]  # loss and accuracy of each


def strategy(members: int, platform: str) -> Strategy:
    """Return how so many members are trained on "cpu", "gpu" or "tpu"."""
    return in_turn if members == 1 or platform == "cpu" else side_by_side


def over_devices(program: train.Program, members: int, platform: str) -> train.Program:
    """Return the program with the devices sharing its members, where they train side by side; else it is one device's."""
    return program._replace(mesh=devices.member_mesh(members) if strategy(members, platform) is side_by_side else None)


def no_metrics(program: train.Program, *members: int) -> jax.Array:
    """Return the metrics of an epoch that has not begun, on every device; dealt over them, for a number of members."""
    put = devices.dealt if members else devices.everywhere
    return put(program.mesh, np.zeros((*members, program.steps_per_epoch, 2), np.float32))


def _train_in_turn(program: train.Program, members: list[Member], data: train.Data, orders: list[jax.Array],
                   updates: jax.Array) -> tuple[list[Member], list[jax.Array]]:
    trained, latest = [], []
    for member, order in zip(members, orders, strict=True):
        state, metrics, means = train.train_epoch(program, member.hyper, member.state, member.metrics, member.seed, data,
                                                  order, updates)
        trained.append(member._replace(state=state, metrics=metrics))
        latest.append(means)
    return trained, latest


def _evaluate_in_turn(program: train.Program, members: list[Member], data: train.Data) -> list[tuple[jax.Array, jax.Array]]:
    return [train.evaluate(program, member.state.parameters, data)[:2] for member in members]


in_turn = Strategy(
    gather=lambda program, members: members, scatter=lambda members: members,
    metrics=lambda members: [member.metrics for member in members],
    begin_epoch=lambda program, members: [member._replace(metrics=no_metrics(program)) for member in members],
    orders=lambda members, examples, epoch: [train.permutation(examples, member.seed, epoch) for member in members],
    train=_train_in_turn, evaluate=_evaluate_in_turn)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _train_side_by_side(program: train.Program, members: Member, data: train.Data, orders: jax.Array,
                        updates: jax.Array) -> tuple[Member, jax.Array]:
    start = members.state.step[0] % program.steps_per_epoch

    def one(member: Member, data: train.Data, order: jax.Array) -> tuple[Member, jax.Array]:
        state, metrics, means = train.train_from(program, member.hyper, member.state, member.metrics, member.seed, data,
                                                 order, start, updates)
        return member._replace(state=state, metrics=metrics), means

    def here(members: Member, data: train.Data, orders: jax.Array) -> tuple[Member, jax.Array]:
        return jax.vmap(lambda member, order: one(member, data, order))(members, orders)

    return devices.each_its_members(program.mesh, here, True, False, True)(members, data, orders)


@functools.partial(jax.jit, static_argnums=0)
def _evaluate_side_by_side(program: train.Program, members: Member, data: train.Data) -> tuple[jax.Array, jax.Array]:
    def here(parameters: Any, data: train.Data) -> tuple[jax.Array, jax.Array]:
        return jax.lax.map(lambda each: train.evaluate_inside(program, each, data)[:2], parameters)

    return devices.each_its_members(program.mesh, here, True, False)(members.state.parameters, data)


@functools.partial(jax.jit, static_argnums=0)
def _orders_side_by_side(examples: int, seeds: jax.Array, epoch: jax.Array) -> jax.Array:
    return jax.vmap(lambda seed: train.permutation(examples, seed, epoch))(seeds)


def _scatter(members: Member) -> list[Member]:
    return [jax.tree.map(lambda leaf, place=place: leaf[place], members) for place in range(len(members.seed))]


side_by_side = Strategy(
    gather=lambda program, members: devices.dealt(program.mesh, jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)),
    scatter=_scatter,
    metrics=lambda members: members.metrics,
    begin_epoch=lambda program, members: members._replace(metrics=no_metrics(program, len(members.seed))),
    orders=lambda members, examples, epoch: _orders_side_by_side(examples, members.seed, epoch),
    train=_train_side_by_side,
    evaluate=lambda program, members, data: list(zip(*_evaluate_side_by_side(program, members, data), strict=True)))
