"""Runs one program on many devices, of one process or several: they share a batch, or the members of a sweep.

Everything else is replicated. The global batch is the same, so the experiment is the same; sums are in another order, so the
numbers differ in the last bits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mnist_jax import errors

_BATCH, _MEMBERS = "batch", "members"  # the axis that the devices of a mesh share


def connect(coordinator: str | None = None, processes: int | None = None, index: int | None = None,
            environment: Mapping[str, str] = os.environ) -> None:
    """Join the processes of one run, before jax is first used. On TPU pods and under SLURM jax finds them itself.

    Raises:
      UserError: only some of the three arguments are set, or the processes cannot be joined.
    """
    is_set = [coordinator is not None, processes is not None, index is not None]
    if any(is_set) and not all(is_set):
        raise errors.UserError("expected --coordinator, --processes and --process_index together, found only some of them")
    # SLURM_NTASKS is of the job, and is also set in a batch script that starts one process.
    is_cluster = int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1 or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    if not any(is_set) and not is_cluster:
        return
    if index is not None and processes is not None and not 0 <= index < processes:
        raise errors.UserError(f"--process_index: expected a number from 0 to {processes - 1}, found {index}")
    try:
        jax.distributed.initialize(coordinator, processes, index)
    except (RuntimeError, ValueError) as error:
        place = coordinator or "their coordinator"
        raise errors.UserError(f"expected {processes or 'the'} processes to meet at {place}, found: "
                               f"{str(error).splitlines()[0]}") from error


def is_primary() -> bool:
    """Return whether this is the primary process, 0, which owns the record and the trackers."""
    return jax.process_index() == 0


def mesh(batch_size: int) -> Mesh | None:
    """Return the devices that share a batch, as many as divide it evenly; None where that is one.

    Raises:
      UserError: several processes, whose devices must all take part, do not divide the batch.
    """
    count = math.gcd(batch_size, jax.device_count())
    if jax.process_count() > 1 and count < jax.device_count():
        raise errors.UserError(f"batch_size: expected a multiple of the {jax.device_count()} devices, found {batch_size}; "
                               f"change --config.batch_size")
    return Mesh(np.array(jax.devices()[:count]), (_BATCH,)) if count > 1 else None


def member_mesh(members: int) -> Mesh | None:
    """Return the devices that share the members of a sweep, as many as divide them evenly; None where that is one."""
    count = math.gcd(members, jax.device_count())
    return Mesh(np.array(jax.devices()[:count]), (_MEMBERS,)) if count > 1 else None


def everywhere(mesh: Mesh | None, tree: Any) -> Any:
    """Put a pytree on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()) if mesh else None)


def split(mesh: Mesh | None, batch: jax.Array) -> jax.Array:
    """Inside a program: let every device have its share of a batch, where it divides evenly."""
    if mesh is None or mesh.axis_names != (_BATCH,) or batch.shape[0] % mesh.size:
        return batch
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(_BATCH)))


def whole(mesh: Mesh | None, tree: Any) -> Any:
    """Inside a program: have a pytree on every device."""
    if mesh is None or mesh.axis_names != (_BATCH,):
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def dealt(mesh: Mesh | None, members: Any) -> Any:
    """Give every device its members, of a pytree of arrays with the members first."""
    return members if mesh is None else jax.device_put(members, NamedSharding(mesh, PartitionSpec(_MEMBERS)))


def each_its_members(mesh: Mesh | None, function: Callable[..., Any], *dealt: bool) -> Callable[..., Any]:
    """Inside a program: let every device call a function with its members alone; `dealt` says which arguments are so."""
    if mesh is None:
        return function
    members = PartitionSpec(_MEMBERS)
    return jax.shard_map(function, mesh=mesh, in_specs=tuple(members if each else PartitionSpec() for each in dealt),
                         out_specs=members, check_vma=False)


def from_primary(tree: Any) -> Any:
    """Return the primary process's pytree of numpy arrays or numbers in every process."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    def like(leaf: Any, value: Any) -> Any:
        return np.asarray(value) if isinstance(leaf, np.ndarray) else type(leaf)(value)

    return jax.tree.map(like, tree, multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, tree)))


def on_primary(call: Callable[[], Any]) -> Any:
    """Return the result of a call in the primary process, and None in the others; its error is raised in all of them.

    Raises:
      UserError, RecordError: what the call raises.
    """
    result, error = None, None
    if is_primary():
        try:
            result = call()
        except (errors.UserError, errors.RecordError) as raised:
            error = raised
    if any_of(error is not None):
        raise error or errors.UserError("expected a run that process 0 can start, found that it cannot; its message says why")
    return result


def any_of(value: bool) -> bool:
    """Return whether a value is true in any process."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(np.asarray(multihost_utils.process_allgather(np.array(value))).any())
