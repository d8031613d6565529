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

from mnist_jax.train import devices, loop, step


def strategy(members: int, platform: str) -> loop.Strategy:
    """Return how so many members are trained on "cpu", "gpu" or "tpu"."""
    return loop.sequential if members == 1 or platform == "cpu" else vectorized


def over_devices(program: step.Program, members: int, platform: str) -> step.Program:
    """Return the program with the devices sharing its members, where these are vectorized; else it is one device's."""
    return program._replace(mesh=devices.member_mesh(members) if strategy(members, platform) is vectorized else None)


class _Compiled(NamedTuple):
    train: Callable[..., tuple[loop.Member, jax.Array]]  # (members, data, orders, updates), consumes the members
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]  # (parameters, data): float32[K] each


@functools.cache
def _compiled(program: step.Program) -> _Compiled:
    """Return the functions of a program for members with a leading axis [K]."""
    def train(members: loop.Member, data: step.Data, orders: jax.Array, updates: jax.Array) -> tuple[loop.Member, jax.Array]:
        start = members.state.step[0] % program.steps_per_epoch

        def one(member: loop.Member, data: step.Data, order: jax.Array) -> tuple[loop.Member, jax.Array]:
            state, metrics, means = step.train_epoch(program, member.hyper, member.state, member.metrics, member.seed, data,
                                                     order, start, updates)
            return member._replace(state=state, metrics=metrics), means

        def here(members: loop.Member, data: step.Data, orders: jax.Array) -> tuple[loop.Member, jax.Array]:
            return jax.vmap(lambda member, order: one(member, data, order))(members, orders)

        return devices.each_its_members(program.mesh, here, True, False, True)(members, data, orders)

    def evaluate(parameters: Any, data: step.Data) -> tuple[jax.Array, jax.Array]:
        def here(parameters: Any, data: step.Data) -> tuple[jax.Array, jax.Array]:
            return jax.lax.map(lambda each: step.evaluate(program, each, data)[:2], parameters)

        return devices.each_its_members(program.mesh, here, True, False)(parameters, data)

    options = dict(program.compiler_options)
    return _Compiled(jax.jit(train, donate_argnums=0, compiler_options=options), jax.jit(evaluate, compiler_options=options))


@functools.partial(jax.jit, static_argnums=0)
def _orders_vectorized(examples: int, seeds: jax.Array, epoch: jax.Array) -> jax.Array:
    return jax.vmap(lambda seed: step.permutation(examples, seed, epoch))(seeds)


def _scatter(members: loop.Member) -> list[loop.Member]:
    return [jax.tree.map(lambda leaf, place=place: leaf[place], members) for place in range(len(members.seed))]


vectorized = loop.Strategy(
    gather=lambda program, members: devices.dealt(program.mesh, jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)),
    scatter=_scatter,
    metrics=lambda members: members.metrics,
    begin_epoch=lambda program, members: members._replace(metrics=loop.no_metrics(program, len(members.seed))),
    orders=lambda members, examples, epoch: _orders_vectorized(examples, members.seed, epoch),
    train=lambda program, members, data, orders, updates: _compiled(program).train(members, data, orders, updates),
    evaluate=lambda program, members, data: list(zip(*_compiled(program).evaluate(members.state.parameters, data),
                                                     strict=True)))
