"""Many members in one compiled program, each with its own seed and hyperparameters: one after the other, or side by side.

Mapped, a member is bit for bit the run that it would be alone; side by side (vmap) it is so to about 1e-7 in the loss. On
a CPU, side by side gains nothing.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax import train

# Every array of a member has a leading axis [K] here: hyper, states, metrics, seeds, orders.


def side_by_side(platform: str) -> bool:
    """Return whether members are vmapped on "cpu", "gpu" or "tpu"."""
    return platform != "cpu"


def stack(members: list[Any]) -> Any:
    """Return one pytree with a leading axis from one of each member."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def take(members: Any, member: int) -> Any:
    """Return one member of a stacked pytree."""
    return jax.tree.map(lambda leaf: leaf[member], members)


@functools.partial(jax.jit, static_argnums=0)
def initial_states(program: train.Program, hyper: train.Hyper, seeds: jax.Array) -> train.State:
    """Return the states before the first update."""
    return jax.lax.map(lambda member: train.initial_state(program, *member), (hyper, seeds))


@functools.partial(jax.jit, static_argnums=0)
def permutations(examples: int, seeds: jax.Array, epoch: jax.Array) -> jax.Array:
    """Return the order of an epoch of each member, int32[K, examples]."""
    return jax.lax.map(lambda seed: train.permutation(examples, seed, epoch), seeds)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def train_epoch(program: train.Program, vmapped: bool, hyper: train.Hyper, states: train.State, metrics: jax.Array,
                seeds: jax.Array, data: train.Data, orders: jax.Array,
                updates: jax.Array) -> tuple[train.State, jax.Array, jax.Array]:
    """Do the next `updates` updates of an epoch of every member; as train.train_epoch, with a leading axis."""
    start = states.step[0] % program.steps_per_epoch

    def one(member: Any) -> tuple[train.State, jax.Array, jax.Array]:
        hyper, state, metrics, seed, order = member
        return train.train_from(program, hyper, state, metrics, seed, data, order, start, updates)

    members = (hyper, states, metrics, seeds, orders)
    return jax.vmap(one)(members) if vmapped else jax.lax.map(one, members)


@functools.partial(jax.jit, static_argnums=0)
def evaluate(program: train.Program, parameters: Any, data: train.Data) -> train.Evaluation:
    """Evaluate every member on every example."""
    return jax.lax.map(lambda member: train.evaluate(program, member, data), parameters)
