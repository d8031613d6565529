"""Training and evaluation as pure functions: what is counted, what is derived, and what is equal bit for bit."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mnist_jax.train import augmentation, config_file, step
from mnist_jax.train import config as configs

EXAMPLES = 70


def experiment(**changes) -> configs.ExperimentConfig:
    config = config_file.load_config("configs/cnn.py:digits")
    config.batch_size = 16
    config.epochs = 2
    config.model.features = (4, 8)
    config.model.hidden = 16
    config.update_from_flattened_dict(changes)
    return configs.from_config(config)


def random_data(generator: np.random.Generator, examples: int) -> step.Data:
    return step.Data(*jax.device_put((generator.integers(0, 256, (examples, 28, 28, 1), np.uint8),
                                      generator.integers(0, 10, examples).astype(np.int32))))


@pytest.fixture
def data() -> step.Data:
    generator = np.random.default_rng(0)
    return random_data(generator, EXAMPLES)


def train_two_epochs(chosen: configs.ExperimentConfig, data: step.Data, chunks: list[int], seed: int = 0,
                     platform: str = "cpu") -> tuple[step.Program, step.State, np.ndarray]:
    """Train in chunks of the given lengths, explicitly on the device throughout; return state and metrics."""
    program = step.program(chosen, EXAMPLES, platform)
    with jax.transfer_guard("disallow"):
        key, hyper = jax.device_put(np.uint32(seed)), step.hyper(chosen.optimizer)
        compiled = step.compiled(program)
        state = compiled.init(hyper, key)
        rows = []
        for epoch in range(chosen.epochs):
            order = step.permutation(EXAMPLES, key, jax.device_put(np.int32(epoch)))
            metrics = jax.device_put(np.zeros((program.steps_per_epoch, 2), np.float32))
            for updates in chunks:
                state, metrics, _ = compiled.train(hyper, state, metrics, key, data, order, jax.device_put(np.int32(updates)))
            rows.append(jax.device_get(metrics))
    return program, jax.device_get(state), np.concatenate(rows)


def initial_parameters(program: step.Program, chosen: configs.ExperimentConfig) -> Any:
    return step.compiled(program).init(step.hyper(chosen.optimizer), jnp.uint32(0)).parameters


def same_bits(one, other) -> bool:
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes()
               for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_an_epoch_in_any_chunks_gives_the_same_bits(data):
    _, whole, whole_metrics = train_two_epochs(experiment(), data, [4])
    for chunks in ([1, 1, 1, 1], [3, 1], [1, 3]):
        _, state, metrics = train_two_epochs(experiment(), data, chunks)
        assert same_bits(state, whole) and same_bits(metrics, whole_metrics)


def test_another_seed_gives_other_bits(data):
    _, one, _ = train_two_epochs(experiment(), data, [4])
    _, other, _ = train_two_epochs(experiment(), data, [4], seed=1)
    assert not same_bits(one.parameters, other.parameters)


def test_steps_are_counted_and_the_loss_falls(data):
    program, state, metrics = train_two_epochs(experiment(epochs=12), data, [4])
    assert state.step == program.steps == 48
    assert metrics[-4:, 0].mean() < metrics[:4, 0].mean()


def test_the_order_visits_every_example_once_and_differs_by_epoch():
    key = jax.device_put(np.uint32(0))
    orders = [np.asarray(step.permutation(EXAMPLES, key, np.int32(epoch))) for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(EXAMPLES)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 3


@pytest.mark.parametrize("examples", [1, 69, 70, 999, 1000, 1001, 2003])
def test_evaluation_counts_every_example_once(examples):
    generator = np.random.default_rng(examples)
    data = random_data(generator, examples)
    chosen = configs.from_config(config_file.load_config("configs/mlp.py:digits"))
    program = step.program(chosen, 1437, "cpu")
    parameters = initial_parameters(program, chosen)
    evaluation = step.compiled(program).evaluate(parameters, data)
    logits = np.asarray(step.eval_step(program, parameters, data.images), np.float64)
    labels = np.asarray(data.labels)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(examples), labels]
    assert evaluation.logits.shape == (examples, 10)
    assert float(evaluation.loss) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(evaluation.accuracy) == pytest.approx((logits.argmax(1) == labels).mean(), abs=1e-6)


def test_dropout_is_new_every_step_and_off_in_evaluation(data):
    chosen = experiment()
    program = step.program(chosen, EXAMPLES, "cpu")
    parameters = initial_parameters(program, chosen)
    noisy = [program.model.apply({"params": parameters}, data.images, train=True, rngs={"dropout": jax.random.key(seed)})
             for seed in range(2)]
    assert not same_bits(*noisy)
    quiet = [step.eval_step(program, parameters, data.images) for _ in range(2)]
    assert same_bits(*quiet)


def test_every_purpose_has_a_stream_of_its_own():
    """Were two the same, the order of the data would be tied to the weights, or dropout to the warp of the images."""
    keys = {purpose: jax.random.key_data(step._stream(jnp.uint32(0), purpose)).tobytes() for purpose in step._PURPOSES}
    assert set(keys) == {"parameters", "order", "dropout", "augmentation"} and len(set(keys.values())) == 4


@pytest.fixture
def drawn(data, monkeypatch):
    """Train two epochs of two updates, and return what the network and the warp were given: their keys, a row a use."""
    keys: dict[str, list[bytes]] = {"dropout": [], "augmentation": [], "parameters": [], "order": []}

    def note(name: str, key: jax.Array) -> None:
        jax.debug.callback(lambda value: keys[name].append(np.asarray(value).tobytes()), jax.random.key_data(key))

    real_apply, real_init, real_warp, real_order = nn.Module.apply, nn.Module.init, augmentation.warp, jax.random.permutation

    def apply(module, variables, images, train, rngs=None):
        if rngs:
            note("dropout", rngs["dropout"])
        return real_apply(module, variables, images, train=train, rngs=rngs)

    def init(module, key, *arguments, **settings):
        note("parameters", key)
        return real_init(module, key, *arguments, **settings)

    def warp(strength, key, images):
        note("augmentation", key)
        return real_warp(strength, key, images)

    def permutation(key, examples):
        note("order", key)
        return real_order(key, examples)

    monkeypatch.setattr(nn.Module, "apply", apply)
    monkeypatch.setattr(nn.Module, "init", init)
    monkeypatch.setattr(augmentation, "warp", warp)
    monkeypatch.setattr(jax.random, "permutation", permutation)
    jitted: Any = step.permutation
    caches = (step.compiled.cache_clear, jitted.clear_cache)
    for clear in caches:
        clear()
    chosen = experiment(**{"augmentation.shift": 1.0, "batch_size": EXAMPLES // 2})
    program = step.program(chosen, EXAMPLES, "cpu")
    compiled, seed, hyper = step.compiled(program), jnp.uint32(0), step.hyper(chosen.optimizer)
    state = compiled.init(hyper, seed)
    for epoch in range(2):
        order = step.permutation(EXAMPLES, seed, jnp.int32(epoch))
        state, _, _ = compiled.train(hyper, state, jnp.zeros((2, 2)), seed, data, order, jnp.int32(2))
    jax.block_until_ready(state)
    jax.effects_barrier()
    yield keys
    for clear in caches:
        clear()


def test_no_key_is_used_twice(drawn):
    """Dropout and warp draw anew at every update, the order at every epoch, and none of them what another draws."""
    assert {name: len(used) for name, used in drawn.items()} == {"dropout": 4, "augmentation": 4, "parameters": 1, "order": 2}
    used = [key for keys in drawn.values() for key in keys]
    assert len(set(used)) == len(used)


def orders_of_three_seeds() -> np.ndarray:
    """As members of a sweep have them."""
    seeds = jnp.arange(3, dtype=jnp.uint32)
    return np.asarray(jax.vmap(lambda seed: step.permutation(EXAMPLES, seed, np.int32(1)))(seeds))


@pytest.mark.parametrize(("name", "value"), [("jax_threefry_partitionable", False), ("jax_default_prng_impl", "rbg"),
                                             ("jax_random_seed_offset", 5)])
def test_jax_config_does_not_reach_the_generator(data, name, value):
    chosen = experiment(**{"augmentation.shift": 1.0})
    pinned = train_two_epochs(chosen, data, [4])
    before = getattr(jax.config, name)
    step.compiled.cache_clear()
    jax.config.update(name, value)
    try:
        _, state, metrics = train_two_epochs(chosen, data, [4])
        orders = orders_of_three_seeds()
    finally:
        jax.config.update(name, before)
        step.compiled.cache_clear()
    assert same_bits(state, pinned[1]) and same_bits(metrics, pinned[2])
    assert same_bits(orders, orders_of_three_seeds())


def test_the_streams_are_those_of_jaxs_default_generator():
    """What was trained with jax's defaults before the generator was pinned keeps its bits."""
    for number, purpose in enumerate(("parameters", "order", "dropout", "augmentation")):
        reference = jax.random.fold_in(jax.random.key(123, impl="threefry2x32"), number)
        assert same_bits(jax.random.key_data(step._stream(jnp.uint32(123), purpose)), jax.random.key_data(reference))


def test_both_formulations_train_alike_for_fifty_steps(data):
    chosen = experiment(epochs=13, precision="highest")
    _, _, on_cpu = train_two_epochs(chosen, data, [4])
    _, _, elsewhere = train_two_epochs(chosen, data, [4], platform="gpu")
    np.testing.assert_allclose(on_cpu[:50, 0], elsewhere[:50, 0], atol=1e-5)


@pytest.mark.parametrize("changes", [{"optimizer.name": "sgd", "optimizer.learning_rate": 0.05},
                                     {"optimizer.schedule": "constant"}, {"precision": "bfloat16"}, {"batch_size": EXAMPLES},
                                     {"precision": "bfloat16", "augmentation.elastic": 1.0},
                                     {"epochs": 1, "batch_size": EXAMPLES}])
def test_other_settings_train_to_finite_numbers(data, changes):
    chosen = experiment(**changes)
    steps = EXAMPLES // chosen.batch_size
    _, state, metrics = train_two_epochs(chosen, data, [steps])
    assert np.isfinite(metrics).all() and len(metrics) == steps * chosen.epochs
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(state.parameters))


def test_the_optimizer_built_in_the_step_is_the_one_of_optax(data):
    """AdamW with the one-cycle schedule, as optax itself would build it from Python numbers."""
    chosen = experiment(**{"model.features_dropout": 0.0, "model.hidden_dropout": 0.0})
    program, state, _ = train_two_epochs(chosen, data, [4])
    schedule = optax.cosine_onecycle_schedule(program.steps, chosen.optimizer.learning_rate)
    reference = optax.adamw(schedule, b1=chosen.optimizer.momentum, weight_decay=chosen.optimizer.weight_decay)
    parameters = initial_parameters(program, chosen)
    optimizer, update = reference.init(parameters), jax.jit(reference.update)

    @jax.jit
    @jax.grad
    def gradient_of(parameters, batch):
        logits = program.model.apply({"params": parameters}, batch.images, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    for position in range(program.steps):
        order = np.asarray(step.permutation(EXAMPLES, np.uint32(0), np.int32(position // 4)))
        rows = order[position % 4 * 16:][:16]
        gradients = gradient_of(parameters, step.Data(data.images[rows], data.labels[rows]))
        updates, optimizer = update(gradients, optimizer, parameters)
        parameters = optax.apply_updates(parameters, updates)
    for mine, theirs in zip(jax.tree.leaves(state.parameters), jax.tree.leaves(parameters), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-4)


def test_label_smoothing_spreads_the_label_over_all_classes(data):
    quiet = {"model.features_dropout": 0.0, "model.hidden_dropout": 0.0, "epochs": 1, "batch_size": EXAMPLES}
    program, _, metrics = train_two_epochs(experiment(label_smoothing=0.2, **quiet), data, [1])
    chosen = experiment(**quiet)
    parameters = initial_parameters(program, chosen)
    logs = np.asarray(jax.nn.log_softmax(step.eval_step(program, parameters, data.images)))
    share = np.full((EXAMPLES, 10), 0.02)
    share[np.arange(EXAMPLES), data.labels] += 0.8
    np.testing.assert_allclose(metrics[0, 0], -(share * logs).sum(1).mean(), rtol=1e-5)


def test_images_are_warped_in_training_alone_and_anew_at_every_step(data):
    chosen = experiment(**{"augmentation.shift": 3.0, "optimizer.learning_rate": 1e-12, "epochs": 2, "batch_size": EXAMPLES,
                           "model.features_dropout": 0.0, "model.hidden_dropout": 0.0})
    program, state, metrics = train_two_epochs(chosen, data, [1])
    plain = step.compiled(program).evaluate(state.parameters, data)
    assert abs(metrics[0, 0] - metrics[1, 0]) > 1e-5 and abs(metrics[0, 0] - plain.loss) > 1e-5
    _, again, same = train_two_epochs(chosen, data, [1])
    assert same_bits(again, state) and same_bits(same, metrics)


def test_the_default_networks_are_the_classics():
    counts = {}
    for name in ("cnn", "mlp"):
        chosen = configs.from_config(config_file.load_config(f"configs/{name}.py"))
        program = step.program(chosen, 55_000, "cpu")
        state = jax.eval_shape(lambda program=program, chosen=chosen: step.init(
            program, step.hyper(chosen.optimizer), jnp.uint32(0)))
        counts[name] = sum(leaf.size for leaf in jax.tree.leaves(state.parameters))
    assert counts == {"cnn": 824_458, "mlp": 669_706}


def test_state_holds_arrays_and_nothing_else(data):
    _, state, _ = train_two_epochs(experiment(), data, [4])
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(state))


def test_the_program_is_hashable_and_equal_for_equal_settings():
    one, other = (step.program(experiment(), EXAMPLES, "cpu") for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert one != step.program(dataclasses.replace(experiment(), batch_size=8), EXAMPLES, "cpu")
