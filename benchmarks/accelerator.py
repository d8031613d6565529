"""What one GPU or TPU does: time to 99%, images per second, share of peak, sweeps; beside PyTorch on the same GPU.

    pip install -U 'jax[cuda12]' torch && python -m benchmarks.accelerator --markdown=gpu.md
    python -m benchmarks.accelerator --quick                   a minute on a CPU: shows that the command works

The tables are printed as Markdown, ready for RESULTS.md. Peak is that of a large matmul in the same precision, measured here.
Speeds are those of whole epochs of 60,000 images (the embedded digits, repeated), median of five. That PyTorch's network is
the same one is checked by training.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import training
from mnist_jax.data import sources
from mnist_jax.record import reader
from mnist_jax.train import config as configs
from mnist_jax.train import loop, step, vectorize

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="", help="where MNIST is, for the time to 99%%")
    parser.add_argument("--quick", action="store_true", help="small sizes, and the embedded digits")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, too")
    parsed = parser.parse_args()
    quick = parsed.quick
    batches = (128,) if quick else (128, 512, 2048, 8192)
    sizes = (1, 4) if quick else (1, 4, 16, 64, 256, 1024)
    images, labels = sources.load("digits", "").arrays["train"]
    rows = np.random.default_rng(0).integers(0, len(labels), 1_280 if quick else 60_000)
    images, labels = images[rows], labels[rows]
    lines = [f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {time.strftime('%d %B %Y')}", ""]
    lines += ["| to 99% | to the first step | of that compiling | training | test accuracy |",
              "| --- | --- | --- | --- | --- |", *to_accuracy(parsed.data_dir, quick), ""]
    lines += ["| model | precision | batch | images/s | share of peak | torch.compile, CUDA graphs |",
              "| --- | --- | --- | --- | --- | --- |", *speeds(images, labels, batches), ""]
    lines += ["| members | seconds an epoch | images/s of all |", "| --- | --- | --- |", *sweeps(images, labels, sizes)]
    print("\n".join(lines))
    if parsed.markdown:
        parsed.markdown.write_text("\n".join(lines) + "\n")


def to_accuracy(data_dir: str, quick: bool) -> list[str]:
    """Return rows of the same run with an empty compilation cache and a full one."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        config = ["--config=configs/cnn.py:digits", "--config.epochs=2"] if quick else ["--config=configs/cnn.py:fast"]
        for name in ("cold", "warm"):
            place = Path(folder) / name
            subprocess.run([sys.executable, "run.py", *config, f"--config.dataset.data_dir={data_dir}", f"--workdir={place}"],
                           cwd=ROOT, check=True, capture_output=True, env={**os.environ, "XDG_CACHE_HOME": folder})
            recorded = reader.read(place)
            last, times = recorded.last(), recorded.series()["train/loss"]
            seconds = (times[0][-1]) / (last["system/images_per_second"] / recorded.run.config["batch_size"])
            rows.append(f"| {name} | {last['system/seconds_to_first_step']:.1f} s | {last['system/compile_seconds']:.1f} s | "
                        f"{seconds:.2f} s | {last['test/accuracy']:.2%} |")
    return rows


def speeds(images: np.ndarray, labels: np.ndarray, batches: tuple[int, ...]) -> list[str]:
    """Return a row for each model, precision and batch size."""
    rows = []
    for model in ("cnn", "mlp"):
        for precision in ("float32", "bfloat16"):
            peak = matmul_peak(jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
            for batch in batches:
                chosen = training.chosen(model, batch_size=batch, precision=precision)
                program = step.program(chosen, len(labels), jax.default_backend())
                speed = len(labels) / median_seconds(epoch_of(program, chosen, images, labels, 1))
                flops = training.flops_an_image(model) * speed
                rows.append(f"| {model} | {precision} | {batch:,} | {speed:,.0f} | {flops / peak:.1%} | "
                            f"{torch_speed(model, images, labels, batch) if precision == 'float32' else ''} |")
    return rows


def sweeps(images: np.ndarray, labels: np.ndarray, sizes: tuple[int, ...]) -> list[str]:
    """Return a row for each number of MLPs with seeds of their own."""
    chosen = training.chosen("mlp")
    program = step.program(chosen, len(labels), jax.default_backend())
    rows = []
    for members in sizes:
        seconds = median_seconds(epoch_of(program, chosen, images, labels, members))
        rows.append(f"| {members:,} | {seconds:.2f} | {members * len(labels) / seconds:,.0f} |")
    return rows


def epoch_of(program: step.Program, chosen: configs.ExperimentConfig, images: np.ndarray, labels: np.ndarray,
             members: int) -> Callable[[], None]:
    """Return a call that trains an epoch."""
    strategy = vectorize.in_turn if members == 1 else vectorize.side_by_side
    held = {"members": strategy.gather(program, [loop.begin(program, chosen)[0]._replace(seed=jnp.uint32(seed))
                                        for seed in range(members)])}
    data = jax.device_put(step.Data(images, labels.astype(np.int32)))
    orders = strategy.orders(held["members"], len(labels), jnp.int32(0))

    def epoch() -> None:
        held["members"], latest = strategy.train(program, held["members"], data, orders, jnp.int32(program.steps_per_epoch))
        jax.block_until_ready(latest)

    return epoch


def torch_speed(model: str, images: np.ndarray, labels: np.ndarray, batch: int) -> str:
    """Return PyTorch's images/s on the same GPU, or why there are none."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return "no CUDA"
    epoch = training.torchs("torch.compile", model, images, labels, batch, "cuda")
    return f"{len(labels) // batch * batch / median_seconds(epoch):,.0f}"


def matmul_peak(dtype: Any, size: int = 4096) -> float:
    """Return the FLOP/s of a large square matmul."""
    size = size if jax.default_backend() != "cpu" else 1024
    square, product = jnp.ones((size, size), dtype), jax.jit(lambda a: a @ a)
    return float(2 * size**3 / median_seconds(lambda: product(square).block_until_ready()))


def median_seconds(call: Callable[[], Any], times: int = 5) -> float:
    """Return the median time of a call, after one that does not count."""
    call()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
