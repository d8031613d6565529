"""Finds runs in a folder by a short name, and lists them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors
from mnist_jax.record import run_file, summary

DEFAULT = Path("runs")  # where `mnist-jax train` writes them


def find(name: str | Path, folder: Path = DEFAULT) -> Path:
    """Return the directory of a run: the path itself, or the only run in a folder whose name or id begins so.

    Raises:
      UserError: no run matches, or several do.
    """
    path = Path(name)
    if (path / "run.json").exists() or path.is_absolute() or len(path.parts) > 1:
        return path  # if it is wrong, reading it raises the error
    runs = directories(folder)
    matches = [directory for directory in runs if directory.name.startswith(str(name)) or _id(directory).startswith(str(name))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(directory.name for directory in matches[:5])
        raise errors.UserError(f"{name}: expected the beginning of one run's name or id, found {len(matches)} in {folder}: "
                               f"{names}{', ...' if len(matches) > 5 else ''}; give more of it")
    close = errors.suggestion(str(name), [directory.name for directory in runs])
    raise errors.UserError(f"{name}: expected a run's directory, or the beginning of the name or id of a run in {folder}, "
                           f"found none{close}")


def directories(folder: Path) -> list[Path]:
    """Return the directories of the runs in a folder, members of sweeps included, by name."""
    patterns = ("*/run.json", "members/*/run.json", "*/members/*/run.json")
    return sorted(path.parent for pattern in patterns for path in folder.glob(pattern))


def list_runs(folder: str | Path = DEFAULT) -> list[dict[str, Any]]:
    """Return what `list --json` prints: one object a run, oldest first.

    A run whose process was killed has the status "killed"; a run that cannot be read has "damaged" and a "problem".

    Raises:
      UserError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise errors.UserError(f"{folder}: expected a folder of runs, found no folder; name another, or train a run with "
                               f"mnist-jax train")
    return sorted((_row(directory) for directory in directories(folder)), key=lambda row: row["created"])


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line per run: directory, status, steps, test accuracy, creation time, id."""
    cells = [(row["directory"], row["status"], f"{row['steps']:,} steps",
              f"{row['metrics']['test/accuracy']:.2%}" if "test/accuracy" in row["metrics"] else "",
              time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"])), row["id"][:8], row.get("problem", ""))
             for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _row(directory: Path) -> dict[str, Any]:
    try:
        row = summary.read(directory)
    except (errors.RecordError, errors.UserError) as error:
        return {"directory": str(directory), "id": _id(directory), "name": "", "status": "damaged", "created": 0.0, "tags": [],
                "steps": 0, "metrics": {}, "problem": str(error)}
    return {**{name: row[name] for name in ("directory", "id", "name", "status", "created", "tags", "steps")},
            "metrics": {name: series["last"] for name, series in row["series"].items()}}


def _id(directory: Path) -> str:
    try:
        return str(run_file.read(directory).get("id", ""))
    except (errors.RecordError, errors.UserError):
        return ""
