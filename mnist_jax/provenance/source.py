"""The source of a run: the repository's commit and patch, and files. Credentials in it are masked or left out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from mnist_jax import events, secrets

_PATCH_BYTES = 5 * 2**20
_FILE_BYTES = 2**20


def source(write_blob: Callable[[bytes, str], events.Blob], script: Iterable[Path]) -> tuple[events.Source, str]:
    """Write the source into a run; return it, and a warning where it may hold a credential.

    Args:
      write_blob: writes bytes under a name, such as RunWriter.blob.
      script: files to record beside this package, such as the script and its config.
    """
    commit, branch, remote, dirty, patch = _git_facts()
    files, warnings = [], []
    for name, path in _files(script).items():
        content = path.read_bytes()
        if variables := secrets.names_in(content):
            warnings.append(f"{name} holds the value of {', '.join(variables)} and is not recorded")
            continue
        if lines := secrets.suspicious_lines(content.decode(errors="replace")):
            warnings.append(f"{name}, line {lines[0]}, may hold a credential, and source is recorded and synced; move it "
                            f"to the environment")
        files.append(write_blob(content, name))
    if secrets.suspicious_lines("\n".join(line for line in patch.split("\n") if line[:1] == "+")):
        warnings.append("the uncommitted changes may hold a credential, which is masked, and are recorded and synced; move "
                        "it to the environment")
    patch_blob = write_blob(secrets.mask(patch).encode()[:_PATCH_BYTES], "uncommitted.diff") if patch else None
    return events.Source(commit, branch, remote, dirty, patch_blob, tuple(files)), "; ".join(warnings)


def _files(script: Iterable[Path]) -> dict[str, Path]:
    """Return the files to record by name: those of this package and the script."""
    package = Path(__file__).resolve().parent.parent
    files = {f"mnist_jax/{path.relative_to(package)}": path for path in sorted(package.rglob("*.py"))}
    for path in script:
        if path.is_file() and path.stat().st_size <= _FILE_BYTES:
            files.setdefault(_short_name(path), path)
    return files


def _git_facts() -> tuple[str | None, str | None, str | None, bool, str]:
    """Return commit, branch, remote, dirty and patch of the working directory's repository; None where there is none."""
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # it was removed
        return None, None, None, False, ""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None, None, False, ""
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    remote = _git(folder, "config", "--get", "remote.origin.url")
    changes = _git(folder, "status", "--porcelain") or ""
    patch = (_git(folder, "diff", "--no-color", "--no-ext-diff", "HEAD") or "") if changes else ""
    return commit, branch, secrets.mask(remote) if remote else None, bool(changes), patch[:_PATCH_BYTES + 4096]


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
    except (ValueError, FileNotFoundError):  # elsewhere; or the working directory is gone
        return path.name
