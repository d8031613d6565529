"""Many members of one compiled program, each with its own seed and hyperparameters: one after the other, or side by side.

One after the other, a member is bit for bit the run that it would be alone, since it is the same program that runs: inside a
compiled loop over members XLA may fuse otherwise, and with jax 0.12 it does. Side by side (vmap) a member is the same to
about 1e-7 in the loss. On a CPU, side by side gains nothing.
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


def initial_states(program: train.Program, hyper: train.Hyper, seeds: jax.Array) -> train.State:
    """Return the states before the first update."""
    return stack([train.initial_state(program, take(hyper, member), seed) for member, seed in enumerate(seeds)])


def permutations(examples: int, seeds: jax.Array, epoch: jax.Array) -> jax.Array:
    """Return the order of an epoch of each member, int32[K, examples]."""
    return jnp.stack([train.permutation(examples, seed, epoch) for seed in seeds])


def train_epoch(program: train.Program, vmapped: bool, hyper: train.Hyper, states: train.State, metrics: jax.Array,
                seeds: jax.Array, data: train.Data, orders: jax.Array,
                updates: jax.Array) -> tuple[train.State, jax.Array, jax.Array]:
    """Do the next `updates` updates of an epoch of every member; as train.train_epoch, with a leading axis."""
    if vmapped:
        return _side_by_side(program, hyper, states, metrics, seeds, data, orders, updates)
    members = [(take(hyper, member), take(states, member), metrics[member], seed, data, orders[member])
               for member, seed in enumerate(seeds)]
    trained: tuple[train.State, jax.Array, jax.Array] = stack([train.train_epoch(program, *each, updates) for each in members])
    return trained


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(2, 3))
def _side_by_side(program: train.Program, hyper: train.Hyper, states: train.State, metrics: jax.Array, seeds: jax.Array,
                  data: train.Data, orders: jax.Array, updates: jax.Array) -> tuple[train.State, jax.Array, jax.Array]:
    start = states.step[0] % program.steps_per_epoch

    def one(hyper: train.Hyper, state: train.State, metrics: jax.Array, seed: jax.Array,
            order: jax.Array) -> tuple[train.State, jax.Array, jax.Array]:
        return train.train_from(program, hyper, state, metrics, seed, data, order, start, updates)

    return jax.vmap(one)(hyper, states, metrics, seeds, orders)


def evaluate(program: train.Program, parameters: Any, data: train.Data, members: int) -> train.Evaluation:
    """Evaluate every member on every example."""
    evaluated: train.Evaluation = stack([train.evaluate(program, take(parameters, member), data) for member in range(members)])
    return evaluated
