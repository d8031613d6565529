"""The series of runs as panels of curves, sampled for a screen, with bands over runs that differ only in their seed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_jax.record import reader

MOST_POINTS = 2_000  # of a curve
_QUANTITIES = ("loss", "accuracy")  # a panel each; every other series has a panel of its own name's group
_FEWEST_IN_BAND = 3


def panels(runs: Sequence[reader.RunRecord], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the panels, each {"title", "curves": [{"run", "series", "x", "y", "of"}], "bands": [...]}, as JSON.

    A panel has at least one curve of more than one point. "of" is the number of points before sampling.
    """
    by_title: dict[str, dict[str, Any]] = {}
    for run, label in zip(runs, labels, strict=True):
        for name, (steps, values) in sorted(run.series().items()):
            x, y = sample(np.asarray(steps), np.asarray(values, np.float64))
            panel = by_title.setdefault(_panel(name), {"title": _panel(name), "curves": [], "bands": []})
            panel["curves"].append({"run": label, "series": name, "x": x.tolist(), "y": _finite(y), "of": len(steps)})
    by_title = {title: panel for title, panel in by_title.items() if any(curve["of"] > 1 for curve in panel["curves"])}
    for panel in by_title.values():
        panel["bands"] = bands(runs, labels, panel["title"])
    order = {title: place for place, title in enumerate(_QUANTITIES)}
    return sorted(by_title.values(), key=lambda panel: (order.get(panel["title"], len(order)), panel["title"]))


def sample(steps: np.ndarray, values: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `most` of the points: the smallest and the largest of each interval, so that no spike is lost."""
    if len(steps) <= most:
        return steps, values
    intervals = np.array_split(np.arange(len(steps)), most // 2)
    comparable = np.where(np.isnan(values), -np.inf, values)
    rows = {0, len(steps) - 1}
    for interval in intervals:
        rows |= {int(interval[comparable[interval].argmin()]), int(interval[comparable[interval].argmax()])}
    order = np.array(sorted(rows))
    return steps[order], values[order]


def bands(runs: Sequence[reader.RunRecord], labels: Sequence[str], title: str) -> list[dict[str, Any]]:
    """Return mean, lowest and highest over the runs that differ in nothing but their seed, three or more of them."""
    groups: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        config = {key: value for key, value in run.run.config.items() if key not in ("seed", "name")}
        groups.setdefault(json.dumps(config, sort_keys=True), []).append(number)
    result = []
    for group in groups.values():
        if len(group) < _FEWEST_IN_BAND:
            continue
        every = [runs[number].series() for number in group]
        for name in sorted(set.intersection(*(set(series) for series in every))):
            steps = every[0][name][0]
            same_steps = all(np.array_equal(series[name][0], steps) for series in every)
            if _panel(name) != title or len(steps) < 2 or not same_steps:
                continue
            values = np.array([series[name][1] for series in every], np.float64)
            x, mean = sample(np.asarray(steps), values.mean(0))
            places = np.searchsorted(steps, x)
            result.append({"series": name, "runs": [labels[number] for number in group], "x": x.tolist(), "mean": _finite(mean),
                          "low": _finite(values.min(0)[places]), "high": _finite(values.max(0)[places])})
    return result


def _panel(name: str) -> str:
    quantity = name.rpartition("/")[2].removeprefix("epoch_")
    return quantity if quantity in _QUANTITIES else name


def _finite(values: np.ndarray) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
