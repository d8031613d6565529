"""Training and evaluation as pure functions over pytrees, compiled an epoch at a time.

Order and dropout are functions of (key, epoch, step), so there is no iterator and no generator to carry or to save. The
generator is pinned by the program, threefry2x32 and partitionable, whatever the environment or jax.config ask for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from mnist_jax.train import augmentation, config, convolution, devices, models

_EVALUATION_BATCH = 1_000
# Without it a GPU adds up in whatever order its threads come, and neither a repeated nor a resumed run has the same bits.
_DETERMINISTIC = {"gpu": (("xla_gpu_deterministic_ops", "True"),)}
_PURPOSES = ("parameters", "order", "dropout", "augmentation")  # each has a stream of its own


def _own_generator(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a traced function that draws: what it draws is partitionable, as jax's default has been since 0.5."""
    @functools.wraps(function)
    def traced(*arguments: Any, **settings: Any) -> Any:
        partitionable: Any = getattr(jax, "threefry_partitionable", contextlib.nullcontext)  # without the setting, it always is
        with partitionable(True):
            return function(*arguments, **settings)

    return traced


class Hyper(NamedTuple):
    """Hyperparameters that members of a sweep may differ in: arrays, so that one program serves every value."""

    learning_rate: jax.Array  # float32[]
    momentum: jax.Array
    weight_decay: jax.Array


class State(NamedTuple):
    """Everything that an update changes."""

    step: jax.Array  # int32[], completed updates
    parameters: Any
    optimizer: optax.OptState


class Data(NamedTuple):
    """A split on the device."""

    images: jax.Array  # uint8[N, 28, 28, 1]
    labels: jax.Array  # int32[N]


class Program(NamedTuple):
    """What is fixed when the functions are compiled. Hashable."""

    model: nn.Module
    optimizer: str
    schedule: str
    precision: str
    label_smoothing: float
    augmentation: config.AugmentationConfig
    batch_size: int
    steps_per_epoch: int
    epochs: int
    mesh: jax.sharding.Mesh | None = None  # the devices that share a batch
    compiler_options: tuple[tuple[str, str], ...] = ()

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs


class Evaluation(NamedTuple):
    loss: jax.Array  # float32[], mean over the examples
    accuracy: jax.Array  # float32[], share of the examples
    logits: jax.Array  # float32[N, 10]


class Compiled(NamedTuple):
    """The functions of one program, compiled: pure, but `train` consumes the state and the metrics that it is given."""

    init: Callable[[Hyper, jax.Array], State]  # (hyper, seed): the state before the first update
    train: Callable[..., tuple[State, jax.Array, jax.Array]]  # train_epoch, from where the state stands in its epoch
    evaluate: Callable[[Any, Data], Evaluation]  # (parameters, data)


def program(experiment: config.ExperimentConfig, examples: int, platform: str) -> Program:
    """Return the program of a config for `examples` training images; a last partial batch is left to the next order."""
    model = models.build(experiment.model, experiment.precision, convolution.by_platform(platform))
    optimizer = experiment.optimizer
    options = convolution.compiler_options(platform) if isinstance(experiment.model, config.CnnConfig) else ()
    return Program(model, optimizer.name, optimizer.schedule, experiment.precision, experiment.label_smoothing,
                   experiment.augmentation, experiment.batch_size, examples // experiment.batch_size, experiment.epochs,
                   devices.mesh(experiment.batch_size), (*_DETERMINISTIC.get(platform, ()), *options))


@functools.cache
def compiled(program: Program) -> Compiled:
    """Return the compiled functions of a program; equal programs share them."""
    options = dict(program.compiler_options)

    def train(hyper: Hyper, state: State, metrics: jax.Array, seed: jax.Array, data: Data, order: jax.Array,
              updates: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        start = state.step % program.steps_per_epoch
        return train_epoch(program, hyper, state, metrics, seed, data, order, start, updates)

    return Compiled(jax.jit(functools.partial(init, program)),  # eager, it would cost a second of small programs
                    jax.jit(train, donate_argnums=(1, 2), compiler_options=options),
                    jax.jit(functools.partial(evaluate, program), compiler_options=options))


def hyper(optimizer: config.OptimizerConfig) -> Hyper:
    """Return the config's hyperparameters as arrays, on the default device."""
    values = (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay)
    return Hyper(*jax.device_put([np.float32(value) for value in values]))


@_own_generator
def init(program: Program, hyper: Hyper, seed: jax.Array) -> State:
    """Return the state before the first update."""
    images = jnp.zeros((1, *models.IMAGE_SHAPE), jnp.uint8)
    parameters = program.model.init(_stream(seed, "parameters"), images, train=False)["params"]
    return State(jnp.zeros((), jnp.int32), parameters, _optimizer(program, hyper).init(parameters))


@functools.partial(jax.jit, static_argnums=0)
@_own_generator
def permutation(examples: int, seed: jax.Array, epoch: jax.Array) -> jax.Array:
    """Return the order of an epoch, int32[examples]: every example once."""
    return jax.random.permutation(jax.random.fold_in(_stream(seed, "order"), epoch), examples)


def train_epoch(program: Program, hyper: Hyper, state: State, metrics: jax.Array, seed: jax.Array, data: Data,
                order: jax.Array, start: jax.Array, updates: jax.Array) -> tuple[State, jax.Array, jax.Array]:
    """Do `updates` updates of an epoch from its update `start`, in one loop; an epoch in any chunks gives the same bits.

    Returns the state, the metrics filled further, and their mean over these updates, float32[2].

    Args:
      metrics: float32[steps_per_epoch, 2], loss and accuracy of the epoch so far.
      order: the epoch's permutation.
      updates: int32[], at most what is left of the epoch, and 0 only compiles. A traced number: chunks of any length share
        one program.
    """
    with jax.default_matmul_precision("highest" if program.precision == "highest" else "default"):
        def body(position: jax.Array, carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, metrics = carry
            rows = jax.lax.dynamic_slice(order, (position * program.batch_size,), (program.batch_size,))
            batch = Data(devices.split(program.mesh, data.images[rows]), devices.split(program.mesh, data.labels[rows]))
            state, values = train_step(program, hyper, state, seed, batch)
            return state, metrics.at[position].set(values)

        state, metrics = jax.lax.fori_loop(start, start + updates, body, (state, metrics))
        rows = jnp.arange(program.steps_per_epoch)[:, None]
        done = (start <= rows) & (rows < start + updates)
        return devices.whole(program.mesh, (state, metrics, jnp.where(done, metrics, 0).sum(0) / jnp.maximum(updates, 1)))


@_own_generator
def train_step(program: Program, hyper: Hyper, state: State, seed: jax.Array, batch: Data) -> tuple[State, jax.Array]:
    """Return the state after one update, and its loss and accuracy as float32[2]."""
    dropout = jax.random.fold_in(_stream(seed, "dropout"), state.step)
    images = batch.images
    if any(dataclasses.astuple(program.augmentation)):
        images = augmentation.warp(program.augmentation, jax.random.fold_in(_stream(seed, "augmentation"), state.step), images)

    def loss_of(parameters: Any) -> tuple[jax.Array, jax.Array]:
        logits: Any = program.model.apply({"params": parameters}, images, train=True, rngs={"dropout": dropout})
        return _loss(program, logits, batch.labels).mean(), (logits.argmax(-1) == batch.labels).mean()

    (loss, accuracy), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.parameters)
    updates, optimizer = _optimizer(program, hyper).update(gradients, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    return State(state.step + 1, parameters, optimizer), jnp.stack([loss, accuracy])


def evaluate(program: Program, parameters: Any, data: Data) -> Evaluation:
    """Evaluate every example exactly once: the last batch is padded and the padding masked."""
    examples = data.labels.shape[0]
    batch = min(_EVALUATION_BATCH, examples)
    batches = -(-examples // batch)

    def body(total: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = first + jnp.arange(batch)
        counted = rows < examples
        rows = jnp.minimum(rows, examples - 1)
        logits = eval_step(program, parameters, devices.split(program.mesh, data.images[rows]))
        labels = data.labels[rows]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        correct = logits.argmax(-1) == labels
        sums = jnp.stack([jnp.where(counted, losses, 0).sum(), (counted & correct).sum().astype(jnp.float32)])
        return total + sums, logits

    total, logits = jax.lax.scan(body, jnp.zeros(2), jnp.arange(batches) * batch)
    loss, accuracy = total / examples
    return devices.whole(program.mesh, Evaluation(loss, accuracy, logits.reshape(batches * batch, -1)[:examples]))


def eval_step(program: Program, parameters: Any, images: jax.Array) -> jax.Array:
    """Return the logits, float32[B, 10], of uint8[B, 28, 28, 1]."""
    with jax.default_matmul_precision("highest" if program.precision == "highest" else "default"):
        logits: Any = program.model.apply({"params": parameters}, images, train=False)
        return logits


def _loss(program: Program, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the training loss of each example, float32[B]."""
    if not program.label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    shares = optax.smooth_labels(jax.nn.one_hot(labels, models.CLASSES), program.label_smoothing)
    return optax.softmax_cross_entropy(logits, shares)


def _optimizer(program: Program, hyper: Hyper) -> optax.GradientTransformation:
    def learning_rate(count: jax.Array) -> jax.Array:
        if program.schedule == "constant":
            return hyper.learning_rate
        return hyper.learning_rate * optax.cosine_onecycle_schedule(program.steps, 1.0)(count)

    if program.optimizer == "adamw":
        return optax.adamw(learning_rate, b1=hyper.momentum, weight_decay=hyper.weight_decay)
    return optax.chain(optax.add_decayed_weights(hyper.weight_decay), optax.trace(decay=hyper.momentum),
                       optax.scale_by_learning_rate(learning_rate))


def _stream(seed: jax.Array, purpose: str) -> jax.Array:
    """Return the key of one purpose; no two purposes share one."""
    # The bits of jax.random.key(seed, impl="threefry2x32"), which would add jax.config's jax_random_seed_offset.
    key = jax.random.wrap_key_data(jnp.stack([jnp.uint32(0), seed]), impl="threefry2x32")
    return jax.random.fold_in(key, _PURPOSES.index(purpose))
