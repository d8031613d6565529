"""The runs in a folder: found by a short name, and listed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.record import reader, run_file

DEFAULT = Path("runs")  # where run.py puts them


def find(name: str | Path, folder: Path = DEFAULT) -> Path:
    """Return the directory of a run: the path itself, or the only run in a folder whose name or id begins so.

    Raises:
      UserError: no run is meant, or several are.
    """
    path = Path(name)
    if (path / "run.json").exists() or path.is_absolute() or len(path.parts) > 1:
        return path  # reading it says what is wrong with it
    begun = [place for place in directories(folder) if place.name.startswith(str(name)) or _id(place).startswith(str(name))]
    if len(begun) == 1:
        return begun[0]
    if begun:
        names = ", ".join(place.name for place in begun[:5])
        raise errors.UserError(f"{name}: expected the beginning of one run's name or id, found {len(begun)} in {folder}: "
                               f"{names}{', ...' if len(begun) > 5 else ''}; give more of it")
    close = errors.suggestion(str(name), [place.name for place in directories(folder)])
    raise errors.UserError(f"{name}: expected a run's directory, or the beginning of the name or id of a run in {folder}, "
                           f"found none{close}")


def directories(folder: Path) -> list[Path]:
    """Return the directories of the runs in a folder, members of sweeps included, by name."""
    patterns = ("*/run.json", "members/*/run.json", "*/members/*/run.json")
    return sorted(path.parent for pattern in patterns for path in folder.glob(pattern))


def list_runs(folder: str | Path = DEFAULT) -> list[dict[str, Any]]:
    """Return what `list --json` prints: one object a run, oldest first.

    A killed run is "killed", not "running" for ever; one whose record cannot be read is "damaged", and says why.

    Raises:
      UserError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise errors.UserError(f"{folder}: expected a folder of runs, found none; give another, or train one with mnist-jax train")
    return sorted((_row(place) for place in directories(folder)), key=lambda row: row["created"])


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line a run: directory, status, steps, test accuracy, when it began."""
    cells = [(row["directory"], row["status"], f"{row['steps']:,} steps",
              f"{row['metrics']['test/accuracy']:.2%}" if "test/accuracy" in row["metrics"] else "",
              time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"])), row["id"][:8], row.get("problem", ""))
             for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _row(directory: Path) -> dict[str, Any]:
    try:
        recorded = reader.read(directory)
    except (errors.RecordError, errors.UserError) as error:
        return {"directory": str(directory), "id": _id(directory), "name": "", "status": "damaged", "created": 0.0, "steps": 0,
                "metrics": {}, "problem": str(error)}
    steps = max((int(fact.steps[-1]) for fact in recorded.of(events.Metrics) if len(fact.steps)), default=0)
    return {"directory": str(directory), "id": recorded.run.id, "name": recorded.run.name, "status": recorded.status,
            "created": recorded.run.created, "steps": steps, "metrics": recorded.last()}


def _id(directory: Path) -> str:
    try:
        return str(run_file.read(directory).get("id", ""))
    except (errors.RecordError, errors.UserError):
        return ""
