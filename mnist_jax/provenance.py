"""Looks at the world a run starts in: environment and source, without secrets.

What it cannot learn is left out, never guessed; what could hold a credential is allowed by name or masked.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax

from mnist_jax import credentials, errors, events

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml-collections", "absl-py", "tensorflow-datasets", "scikit-learn",
             "neptune", "comet-ml", "mnist-jax")
_VARIABLES = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_NUM_CPU_DEVICES",
              "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TF_CUDNN_DETERMINISTIC", "SLURM_JOB_ID")
_LITERAL = re.compile(r"""(token|secret|password|passwd|api_?key|access_?key)["']?\s*[:=]\s*["'][\w+/=.\-]{16,}["']""",
                      re.IGNORECASE)
_PATCH_BYTES = 5 * 2**20
_FILE_BYTES = 2**20


def environment() -> events.Environment:
    """Return what the bits of a run may depend on: versions, device, threads, flags."""
    device = jax.devices()[0]
    facts: dict[str, events.Scalar] = {
        "python": platform.python_version(), "implementation": platform.python_implementation(),
        "system": platform.system(), "release": platform.release(), "machine": platform.machine(), "host": platform.node(),
        "processor": _processor(), "cores": os.cpu_count(), "threads": _threads(), "backend": jax.default_backend(),
        "device": device.device_kind, "devices": jax.device_count(), "processes": jax.process_count(),
    }
    facts.update({f"packages/{name}": version for name in _PACKAGES if (version := _version(name))})
    facts.update({f"variables/{name}": credentials.mask(os.environ[name]) for name in _VARIABLES if name in os.environ})
    return events.Environment(facts)


def source_files(extra: Iterable[Path]) -> dict[str, Path]:
    """Return name -> path of the code that runs: this package and the given files (script, config)."""
    package = Path(__file__).resolve().parent
    files = {f"mnist_jax/{path.relative_to(package)}": path for path in sorted(package.rglob("*.py"))}
    for path in extra:
        if path.is_file() and path.stat().st_size <= _FILE_BYTES:
            files.setdefault(_short_name(path), path)
    return files


def git_facts(folder: Path) -> tuple[str | None, str | None, str | None, bool, bytes]:
    """Return commit, branch, remote, dirty and patch of the repository that holds a folder; None where there is none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None, None, False, b""
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    remote = _git(folder, "config", "--get", "remote.origin.url")
    status = _git(folder, "status", "--porcelain") or ""
    patch = (_git(folder, "diff", "--no-color", "--no-ext-diff", "HEAD") or "") if status else ""
    remote = credentials.without_password(remote) if remote else None
    return commit, branch, remote, bool(status), credentials.mask(patch).encode()[:_PATCH_BYTES]


def command_line(arguments: list[str]) -> tuple[str, ...]:
    """Return a command line without credentials: --api_key=X becomes --api_key=***, URLs lose their password."""
    clean, hide_next = [], False
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        if hide_next:
            clean.append(credentials.MASK)
        elif (argument.startswith("-") or separator) and credentials.NAME.search(name):
            clean.append(f"{name}={credentials.MASK}" if separator else argument)
        else:
            plain = re.sub(r"\w+://\S+", lambda url: credentials.without_password(url.group()), argument)
            clean.append(credentials.mask(plain))
        hide_next = not hide_next and not separator and argument.startswith("-") and bool(credentials.NAME.search(argument))
    return tuple(clean)


def refuse_secrets(values: Mapping[str, object]) -> None:
    """Raise UserError if a flattened config holds a credential of the environment or a URL with a password."""
    known = credentials.values()
    for path, item in values.items():
        value = item if isinstance(item, str) else repr(item)
        for name, secret in known.items():
            if secret in value:
                raise errors.UserError(f"config.{path}: expected no credential, found the value of {name}; a config is "
                                       f"recorded and sent, so leave it in the environment")
        if re.search(r"\w+://[^/\s:@]*:[^/\s@]+@", value):
            raise errors.UserError(f"config.{path}: expected no credential, found a URL with a password; remove it")


def holds_secret(data: bytes) -> list[str]:
    """Return the names of the credential variables whose value occurs in some bytes."""
    return [name for name, value in credentials.values().items() if value.encode() in data]


def literal_secrets(text: str) -> list[int]:
    """Return the numbers of the lines of a source file that look as if they held a credential."""
    return [number for number, line in enumerate(text.split("\n"), start=1) if _LITERAL.search(line)]


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=10, check=True,
                                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"})
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.decode(errors="replace").strip("\n")


def _short_name(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return path.name


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
