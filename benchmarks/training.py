"""Images per second of a training step, ours beside PyTorch's, on the CPU: same network, optimizer, batch and data.

    pip install torch tensorflow && python -m benchmarks.training            both networks, about 5 minutes
    python -m benchmarks.training --model=cnn --rounds=9 --json=training.json

Each contender is a process of its own that stays warm; rounds are interleaved, so that a slow minute of a shared machine
falls on all of them; the figure is the median over rounds of the ratio within a round. Before a time counts, the losses
of the first 50 steps must agree with ours to 1e-4 from the same initial parameters, with dropout off on both sides. One
contender, `flax example`, is what users would start from: flax's MNIST tutorial as it stands
(https://flax.readthedocs.io/en/latest/mnist_tutorial.html), with its batch norm, its dropout and its tf.data, here from memory;
its losses are its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES, BATCH, CHECKED = 6_400, 128, 50
CONTENDERS = ("ours", "torch.compile", "torch channels_last", "torch eager", "flax loop", "flax example")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("cnn", "mlp", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.worker:
        work(parsed.worker, parsed.model)
        return
    ceiling = roofline()
    figures = {model: compare(model, parsed.rounds, [name for name in parsed.contenders.split(",")
                                                     if (model, name) != ("mlp", "flax example")])
               for model in (("cnn", "mlp") if parsed.model == "both" else (parsed.model,))}
    if parsed.json:
        parsed.json.write_text(json.dumps({"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
                                           "date": time.strftime("%Y-%m-%d"), "roofline": ceiling,
                                           "figures": figures}, indent=1))


def compare(model: str, rounds: int, contenders: list[str]) -> dict[str, Any]:
    """Run the contenders in turn; print and return images/s and the ratio of ours to each."""
    workers = {name: subprocess.Popen([sys.executable, "-m", "benchmarks.training", f"--worker={name}", f"--model={model}"],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in contenders}

    def ask(name: str, question: str) -> Any:
        worker = workers[name]
        assert worker.stdin and worker.stdout
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
        if not (answer := worker.stdout.readline()):
            raise SystemExit(f"{name}: expected an answer, found that it has stopped; what it said stands above")
        return json.loads(answer)

    losses = {name: ask(name, "losses") for name in contenders}
    differences = {name: float(np.abs(np.array(its) - np.array(losses["ours"])).max()) for name, its in losses.items()}
    for name, difference in differences.items():
        if difference > 1e-4 and name != "flax example":
            raise SystemExit(f"{name}: expected our losses to 1e-4 for {CHECKED} steps, found a difference of {difference:.1e}")
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in contenders if turn % 2 else contenders[::-1]:
            speeds[name].append(ask(name, "speed"))
    for worker in workers.values():
        worker.kill()
    print(f"{model}: batch {BATCH}, float32, AdamW, {rounds} rounds\n{'':22}{'images/s':>10}{'ours / it':>11}   spread")
    figures: dict[str, Any] = {}
    for name in contenders:
        ratios = sorted(mine / its for mine, its in zip(speeds["ours"], speeds[name], strict=True))
        figures[name] = {"images_per_second": statistics.median(speeds[name]), "ratio": statistics.median(ratios),
                         "lowest": ratios[0], "highest": ratios[-1], "loss_difference": differences[name]}
        print(f"{name:22}{figures[name]['images_per_second']:10,.0f}{figures[name]['ratio']:11.2f}   "
              f"{ratios[0]:.2f}-{ratios[-1]:.2f}")
    return figures


def roofline(size: int = 2048, megabytes: int = 256) -> dict[str, float]:
    """Measure what the machine can do: float32 matmul through jax, and copying memory; print what that bounds."""
    import jax
    import jax.numpy as jnp

    from mnist_jax.train import step

    square = jnp.asarray(np.random.default_rng(0).random((size, size), np.float32))
    long = jnp.zeros(megabytes * 2**18)
    flops = 2 * size**3 / _best(jax.jit(lambda a: a @ a), square)
    in_place = jax.jit(lambda a: a + 1, donate_argnums=0)  # a fresh result would time the first touch of its pages
    bandwidth = 2 * long.nbytes / _best(in_place, long)
    figures = {"flop_per_second": flops, "bytes_per_second": bandwidth}
    print(f"roofline: {flops / 1e9:.0f} GFLOP/s in float32 matmul, {bandwidth / 1e9:.1f} GB/s of memory")
    for model in ("cnn", "mlp"):
        experiment = chosen(model)
        program = step.program(experiment, EXAMPLES, "cpu")
        hyper, seed = step.hyper(experiment.optimizer), jnp.uint32(0)
        state = step.compiled(program).init(hyper, seed)
        per_image = flops_an_image(model)
        moved = 4 * sum(leaf.size for leaf in jax.tree.leaves(state)) * 2 / BATCH
        figures[f"{model}_images_per_second"] = 1 / max(per_image / flops, moved / bandwidth)
        print(f"{model}: {per_image / 1e6:.1f} MFLOP and at least {moved / 1e3:.0f} kB an image, forward and backward: at most "
              f"{figures[f'{model}_images_per_second']:,.0f} images/s")
    return figures


def flops_an_image(model: str) -> float:
    """Return the floating point operations of a training step for one image, a multiplication and its addition being two."""
    return 6 * sum(_multiplications(path, leaf.shape) for path, leaf in our_parameters(model).items())


def _multiplications(path: str, shape: tuple[int, ...]) -> int:
    """Return the multiplications of a kernel for one image, forward: backward has twice as many."""
    places = {"conv1/kernel": 28 * 28, "conv2/kernel": 14 * 14}.get(path, 1)
    return places * int(np.prod(shape)) if path.endswith("kernel") else 0


def _best(call: Any, argument: Any, times: int = 10) -> float:
    """Return the shortest of some calls, in seconds."""
    seconds = []
    for _ in range(times + 1):
        started = time.perf_counter()
        result = call(argument).block_until_ready()
        argument = argument if result.ndim == 2 else result
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def work(name: str, model: str) -> None:
    """Answer "losses" with those of the first steps, and "speed" with the images/s of an epoch of the same program."""
    from mnist_jax.data import sources

    images, labels = sources.load("digits", "").arrays["train"]
    rows = np.random.default_rng(0).integers(0, len(labels), EXAMPLES)
    images, labels = images[rows], labels[rows]
    epoch = {"ours": ours, "flax loop": flaxs, "flax example": flaxs_example}.get(
        name, lambda *data: torchs(name, *data))(model, images, labels)
    first = epoch()
    sys.stdin.readline()
    print(json.dumps([float(loss) for loss in first[:CHECKED]]), flush=True)
    while sys.stdin.readline():
        started = time.perf_counter()
        epoch()
        print(EXAMPLES / (time.perf_counter() - started), flush=True)


def chosen(model: str, **changes: Any) -> Any:
    """Return the settings of a config file without dropout, at a constant rate, with changes."""
    from mnist_jax.train import config as configs
    from mnist_jax.train import config_file

    config = config_file.load_config(str(Path(__file__).resolve().parent.parent / "configs" / f"{model}.py"))
    config.optimizer.schedule = "constant"
    config.optimizer.learning_rate = 1e-4  # so small that rounding does not grow within the checked steps
    config.model.hidden_dropout = config.label_smoothing = 0.0
    if model == "cnn":
        config.model.features_dropout = 0.0
    config.update(changes)
    return configs.from_config(config)


def ours(model: str, images: np.ndarray, labels: np.ndarray) -> Any:
    import jax
    import jax.numpy as jnp

    from mnist_jax.train import step

    experiment = chosen(model)
    program = step.program(experiment, EXAMPLES, "cpu")
    seed, hyper = jnp.uint32(0), step.hyper(experiment.optimizer)
    data = step.Data(*jax.device_put((images, labels)))
    order = jax.device_put(np.arange(EXAMPLES, dtype=np.int32))
    compiled = step.compiled(program)
    state = compiled.init(hyper, seed)

    def epoch() -> np.ndarray:
        nonlocal state
        metrics = jax.device_put(np.zeros((program.steps_per_epoch, 2), np.float32))
        state, metrics, _ = compiled.train(hyper, state, metrics, seed, data, order, np.int32(program.steps_per_epoch))
        return np.asarray(metrics)[:, 0]

    return epoch


def flaxs(model: str, images: np.ndarray, labels: np.ndarray) -> Any:
    """Return an epoch of our network by the loop of flax's MNIST example."""
    import jax.numpy as jnp
    from flax import nnx

    class Cnn(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs) -> None:
            self.conv1, self.conv2 = nnx.Conv(1, 32, (3, 3), rngs=rngs), nnx.Conv(32, 64, (3, 3), rngs=rngs)
            self.dense1, self.dense2 = nnx.Linear(64 * 7 * 7, 256, rngs=rngs), nnx.Linear(256, 10, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = nnx.avg_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
            x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
            return self.dense2(nnx.relu(self.dense1(x.reshape(x.shape[0], -1))))

    class Mlp(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs) -> None:
            self.dense1, self.dense2 = nnx.Linear(784, 512, rngs=rngs), nnx.Linear(512, 512, rngs=rngs)
            self.dense3 = nnx.Linear(512, 10, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.dense3(nnx.relu(self.dense2(nnx.relu(self.dense1(x.reshape(x.shape[0], -1))))))

    network: Any = (Cnn if model == "cnn" else Mlp)(rngs=nnx.Rngs(0))
    for path, array in our_parameters(model).items():
        layer, kind = path.split("/")
        getattr(getattr(network, layer), kind)[...] = jnp.asarray(array)
    inputs, classes = images.astype(np.float32) / 255, labels.astype(np.int32)
    return flax_epoch(network, chosen(model).optimizer, lambda: (
        (inputs[start:start + BATCH], classes[start:start + BATCH]) for start in range(0, EXAMPLES, BATCH)))


def flaxs_example(model: str, images: np.ndarray, labels: np.ndarray) -> Any:
    """Return an epoch of the network of flax's MNIST tutorial, with its batch norm, dropout and tf.data, by the same loop."""
    import tensorflow as tf
    from flax import nnx

    class Cnn(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs) -> None:
            self.conv1, self.conv2 = nnx.Conv(1, 32, (3, 3), rngs=rngs), nnx.Conv(32, 64, (3, 3), rngs=rngs)
            self.norm1, self.norm2 = nnx.BatchNorm(32, rngs=rngs), nnx.BatchNorm(64, rngs=rngs)
            self.dropout1, self.dropout2 = nnx.Dropout(0.025, rngs=rngs), nnx.Dropout(0.025, rngs=rngs)
            self.dense1, self.dense2 = nnx.Linear(64 * 7 * 7, 256, rngs=rngs), nnx.Linear(256, 10, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = nnx.avg_pool(nnx.relu(self.norm1(self.dropout1(self.conv1(x)))), (2, 2), (2, 2))
            x = nnx.avg_pool(nnx.relu(self.norm2(self.conv2(x))), (2, 2), (2, 2))
            return self.dense2(nnx.relu(self.dropout2(self.dense1(x.reshape(x.shape[0], -1)))))

    examples = tf.data.Dataset.from_tensor_slices((images, labels)).map(
        lambda image, label: (tf.cast(image, tf.float32) / 255, label))
    batches = examples.repeat().shuffle(1024).batch(BATCH, drop_remainder=True).take(EXAMPLES // BATCH).prefetch(1)
    return flax_epoch(Cnn(rngs=nnx.Rngs(0)), chosen(model).optimizer, batches.as_numpy_iterator)


def flax_epoch(network: Any, chosen_optimizer: Any, batches: Callable[[], Iterable[tuple[Any, Any]]]) -> Any:
    """Return an epoch as flax's MNIST example writes it: nnx, a jitted call and a batch from the host a step, metrics kept."""
    import optax
    from flax import nnx

    optimizer = nnx.Optimizer(network, optax.adamw(chosen_optimizer.learning_rate, b1=0.9, b2=0.999,
                                                   weight_decay=chosen_optimizer.weight_decay), wrt=nnx.Param)
    metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))

    def loss_of(network: Any, x: Any, y: Any) -> Any:
        logits = network(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    @nnx.jit
    def train_step(network: Any, optimizer: Any, metrics: Any, x: Any, y: Any) -> Any:
        (loss, logits), gradients = nnx.value_and_grad(loss_of, has_aux=True)(network, x, y)
        metrics.update(loss=loss, logits=logits, labels=y)
        optimizer.update(network, gradients)
        return loss

    def epoch() -> list[float]:
        losses = [train_step(network, optimizer, metrics, x, y) for x, y in batches()]
        return [float(loss) for loss in losses]

    return epoch


def torchs(name: str, model: str, images: np.ndarray, labels: np.ndarray, batch: int = BATCH, device: str = "cpu") -> Any:
    """Return an epoch in PyTorch, which gives the losses; torch.compile on a GPU uses CUDA graphs."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Cnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
            self.dense1, self.dense2 = nn.Linear(64 * 7 * 7, 256), nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            x = functional.avg_pool2d(functional.relu(self.conv1(x)), 2)
            x = functional.avg_pool2d(functional.relu(self.conv2(x)), 2)
            x = x.permute(0, 2, 3, 1).flatten(1)  # our order of features, so that parameters carry over
            return self.dense2(functional.relu(self.dense1(x)))

    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense1, self.dense2, self.dense3 = nn.Linear(784, 512), nn.Linear(512, 512), nn.Linear(512, 10)

        def forward(self, x: Any) -> Any:
            return self.dense3(functional.relu(self.dense2(functional.relu(self.dense1(x.flatten(1))))))

    torch.set_num_threads(os.cpu_count() or 1)
    network: Any = Cnn() if model == "cnn" else Mlp()
    with torch.no_grad():
        for path, array in our_parameters(model).items():
            layer, kind = path.split("/")
            tensor = torch.tensor(array)
            if kind == "kernel":
                tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
            getattr(getattr(network, layer), "weight" if kind == "kernel" else "bias").copy_(tensor)
    experiment = chosen(model)
    network = network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=experiment.optimizer.learning_rate, betas=(0.9, 0.999),
                                  weight_decay=experiment.optimizer.weight_decay, fused=True)
    pixels = torch.tensor(images).permute(0, 3, 1, 2).contiguous().to(device)
    classes = torch.tensor(labels).long().to(device)
    if name == "torch channels_last":
        network = network.to(memory_format=torch.channels_last)
        pixels = pixels.to(memory_format=torch.channels_last)
    loss_of: Any = lambda x, y: functional.cross_entropy(network(x.float() / 255), y)  # noqa: E731
    if name == "torch.compile":
        loss_of = torch.compile(loss_of, mode="reduce-overhead" if device == "cuda" else "default")

    def epoch() -> list[float]:
        losses = []
        for start in range(0, len(classes) - batch + 1, batch):
            loss = loss_of(pixels[start:start + batch], classes[start:start + batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach().clone())  # a CUDA graph writes over its results
        return [float(loss) for loss in losses]

    return epoch


def our_parameters(model: str) -> dict[str, np.ndarray]:
    import jax.numpy as jnp

    from mnist_jax.train import pytree, step

    experiment = chosen(model)
    program = step.program(experiment, EXAMPLES, "cpu")
    state = step.compiled(program).init(step.hyper(experiment.optimizer), jnp.uint32(0))
    return pytree.flatten(state.parameters)


if __name__ == "__main__":
    main()
