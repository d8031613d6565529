"""What one GPU or TPU does: time to 99%, bits, images per second, share of peak, sweeps; beside PyTorch on the same GPU.

    pip install -U 'jax[cuda12]' torch && python -m benchmarks.accelerator --markdown=gpu.md
    python -m benchmarks.accelerator --only=bits,speed --torch_batches=128
    python -m benchmarks.accelerator --quick                   a minute on a CPU: shows that the command works

The tables are Markdown, ready for RESULTS.md; a row is printed when it is measured. Peak is that of a large matmul in the same
precision, measured here. Speeds are those of whole epochs of 60,000 images (the embedded digits, repeated), the median of nine
with the lowest and the highest. PyTorch runs torch.compile with CUDA graphs (mode="reduce-overhead") on the same data; that its
network is the same one is checked by training.py.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import training
from mnist_jax import events
from mnist_jax.data import sources
from mnist_jax.record import reader
from mnist_jax.train import config as configs
from mnist_jax.train import config_file, experiment, loop, step, vectorize

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = {"float32": "float32 (TF32)", "highest": "float32 without TF32", "bfloat16": "bfloat16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="", help="where MNIST is, for the time to 99%%")
    parser.add_argument("--only", default="accuracy,bits,speed,sweeps", help="some of these tables, comma-separated")
    parser.add_argument("--batches", default="128,512,2048,8192", help="batch sizes")
    parser.add_argument("--torch_batches", default="128,2048", help="at these batch sizes PyTorch is measured, too")
    parser.add_argument("--quick", action="store_true", help="small sizes, and the embedded digits")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, too")
    parsed = parser.parse_args()
    images, labels = sources.load("digits", "").arrays["train"]
    rows = np.random.default_rng(0).integers(0, len(labels), 1_280 if parsed.quick else 60_000)
    images, labels = images[rows], labels[rows]
    batches = (128,) if parsed.quick else tuple(int(batch) for batch in parsed.batches.split(","))
    sizes = (1, 4) if parsed.quick else (1, 4, 16, 64, 256, 1024)
    torch_batches = [int(batch) for batch in parsed.torch_batches.split(",")]
    tables: dict[str, Callable[[], Iterator[str]]] = {
        "accuracy": lambda: accuracy(parsed.data_dir, parsed.quick), "bits": lambda: bits(2 if parsed.quick else 6),
        "speed": lambda: speed(images, labels, batches, torch_batches), "sweeps": lambda: sweeps(images, labels, sizes)}
    lines = [f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {time.strftime('%d %B %Y')}"]
    print(lines[0])
    for name in parsed.only.split(","):
        for line in itertools.chain([""], tables[name]()):
            print(line, flush=True)
            lines.append(line)
            if parsed.markdown:
                parsed.markdown.write_text("\n".join(lines) + "\n")


def accuracy(data_dir: str, quick: bool) -> Iterator[str]:
    """Yield the same run with an empty compilation cache and twice with a full one."""
    yield "| cnn.py:fast, one epoch | to the first step | of that compiling | training | test accuracy |"
    yield "| --- | --- | --- | --- | --- |"
    with tempfile.TemporaryDirectory() as folder:
        config = ["--config=cnn.py:digits", "--config.epochs=2"] if quick else ["--config=cnn.py:fast",
                                                                               f"--config.dataset.data_dir={data_dir}"]
        for name in ("cold", "warm", "warm again"):
            directory = Path(folder) / name.replace(" ", "-")
            subprocess.run([sys.executable, "run.py", *config, f"--workdir={directory}"], cwd=ROOT, check=True,
                           capture_output=True, env={**os.environ, "XDG_CACHE_HOME": folder})
            record = reader.read(directory)
            last, steps = record.last(), record.steps
            seconds = steps * record.config["batch_size"] / last["system/images_per_second"]
            yield (f"| {name} | {last['system/seconds_to_first_step']:.1f} s | {last['system/compile_seconds']:.1f} s | "
                   f"{seconds:.2f} s | {last['test/accuracy']:.2%} |")


def bits(epochs: int) -> Iterator[str]:
    """Yield whether a run, the same run resumed, and its reproduction by another process are the same here, bit for bit."""
    yield "| digits | again | resumed | reproduce |"
    yield "| --- | --- | --- | --- |"
    for model in ("cnn", "mlp"):
        config = config_file.load_config(f"{model}.py:digits")
        config.epochs = epochs
        with tempfile.TemporaryDirectory() as folder:
            once, again, resumed = (Path(folder) / name for name in ("once", "again", "resumed"))
            experiment.run(config, workdir=once, watch=False)
            experiment.run(config, workdir=again, watch=False)
            experiment.run(config, workdir=resumed, stop_after=50, watch=False)
            experiment.run(config, workdir=resumed, watch=False)
            command = [sys.executable, "-m", "mnist_jax", "reproduce", str(once), f"--workdir={folder}/reproduced"]
            reproduced = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            cells = ["the same bits" if _parameters(once) == _parameters(other) else "other bits" for other in (again, resumed)]
        yield f"| {' | '.join([model, *cells, *reproduced.stdout.splitlines()[:1]])} |"


def _parameters(directory: Path) -> Any:
    return reader.read(directory).of(events.Model)[-1].metadata["parameters_sha256"]


def speed(images: np.ndarray, labels: np.ndarray, batches: tuple[int, ...], torch_batches: list[int]) -> Iterator[str]:
    """Yield a row for each model, precision and batch size."""
    yield ("| model | precision | batch | images/s | lowest to highest | share of peak | torch.compile, CUDA graphs "
           "| ours / it |")
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for precision, name in PRECISIONS.items():
        peak = matmul_peak(precision)
        for model in ("cnn", "mlp"):
            for batch in batches:
                chosen = training.chosen(model, batch_size=batch, precision=precision)
                program = step.program(chosen, len(labels), jax.default_backend())
                rates = [len(labels) // batch * batch / seconds for seconds in times(epoch_of(program, chosen, images, labels))]
                ours, flops = statistics.median(rates), training.flops_an_image(model)
                theirs = torch_rates(model, images, labels, batch, precision) if batch in torch_batches else []
                beside = f"{statistics.median(theirs):,.0f} | {ours / statistics.median(theirs):.1f}" if theirs else " | "
                yield (f"| {model} | {name} | {batch:,} | {ours:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} | "
                       f"{flops * ours / peak:.1%} | {beside} |")


def sweeps(images: np.ndarray, labels: np.ndarray, sizes: tuple[int, ...]) -> Iterator[str]:
    """Yield a row for each number of MLPs with seeds of their own, vectorized."""
    yield "| MLPs, vectorized | seconds an epoch | members a second | images/s of all |"
    yield "| --- | --- | --- | --- |"
    chosen = training.chosen("mlp")
    program = step.program(chosen, len(labels), jax.default_backend())
    for members in sizes:
        seconds = statistics.median(times(epoch_of(program, chosen, images, labels, members), 3))
        yield f"| {members:,} | {seconds:.3f} | {members / seconds:.1f} | {members * len(labels) / seconds:,.0f} |"


def epoch_of(program: step.Program, chosen: configs.ExperimentConfig, images: np.ndarray, labels: np.ndarray,
             members: int = 1) -> Callable[[], None]:
    """Return a call that trains an epoch of one member, or of several that are vectorized."""
    strategy = loop.sequential if members == 1 else vectorize.vectorized
    hyper, init = step.hyper(chosen.optimizer), step.compiled(program).init
    states = strategy.gather(program, [loop.Member(hyper, seed, init(hyper, seed), loop.no_metrics(program))
                                       for seed in map(jnp.uint32, range(members))])
    data = step.Data(*jax.device_put((images, labels.astype(np.int32))))
    orders = strategy.orders(states, len(labels), jnp.int32(0))

    def epoch() -> None:
        nonlocal states
        states, means = strategy.train(program, states, data, orders, jnp.int32(program.steps_per_epoch))
        jax.block_until_ready(means)

    return epoch


def torch_rates(model: str, images: np.ndarray, labels: np.ndarray, batch: int, precision: str) -> list[float]:
    """Return PyTorch's images/s on the same GPU; none where it is not installed, or there is no GPU for it."""
    try:
        import torch
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []
    torch._dynamo.reset()  # else a second batch size is compiled for every size
    torch.set_float32_matmul_precision("highest" if precision == "highest" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
        epoch = training.torchs("torch.compile", model, images, labels, batch, "cuda")
        return [len(labels) // batch * batch / seconds for seconds in times(epoch)]


def matmul_peak(precision: str) -> float:
    """Return the FLOP/s of a large square matmul."""
    size = 8192 if jax.default_backend() != "cpu" else 1024
    square = jnp.ones((size, size), jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
    with jax.default_matmul_precision("highest" if precision == "highest" else "default"):
        product = jax.jit(lambda a: a @ a)
        return float(2 * size**3 / statistics.median(times(lambda: product(square).block_until_ready(), 5)))


def times(call: Callable[[], Any], count: int = 9) -> list[float]:
    """Return the seconds of some calls, after two that do not count."""
    seconds = []
    for _ in range(count + 2):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return seconds[2:]


if __name__ == "__main__":
    main()
