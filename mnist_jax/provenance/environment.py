"""The environment of a run, on which its bits may depend: versions, devices, threads, flags.

Unknown facts are left out, never guessed. Devices are recorded only where the program has used jax already: the question
would start a backend, which on a GPU reserves most of the memory.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

from mnist_jax import events, secrets

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml-collections", "absl-py", "tensorflow-datasets", "scikit-learn",
             "neptune", "comet-ml", "mnist-jax")
_VARIABLES = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_NUM_CPU_DEVICES",
              "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TF_CUDNN_DETERMINISTIC", "SLURM_JOB_ID")


def environment() -> events.Environment:
    """Return the environment of this process."""
    facts: dict[str, events.Scalar] = {
        "python": platform.python_version(), "implementation": platform.python_implementation(),
        "system": platform.system(), "release": platform.release(), "machine": platform.machine(), "host": platform.node(),
        "processor": _processor(), "cores": os.cpu_count(), "threads": _threads(), **_devices()}
    facts.update({f"packages/{name}": version for name in _PACKAGES if (version := _version(name))})
    facts.update({f"variables/{name}": secrets.mask(os.environ[name]) for name in _VARIABLES if name in os.environ})
    return events.Environment(facts)


def _devices() -> dict[str, events.Scalar]:
    """Return jax's devices, or nothing where this process has not used jax."""
    jax, backends = sys.modules.get("jax"), sys.modules.get("jax._src.xla_bridge")
    # No public function answers this without starting a backend; jax.distributed calls the same one.
    if jax is None or not getattr(backends, "backends_are_initialized", lambda: False)():
        return {}
    return {"backend": jax.default_backend(), "device": jax.devices()[0].device_kind, "devices": jax.device_count(),
            "processes": jax.process_count()}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
