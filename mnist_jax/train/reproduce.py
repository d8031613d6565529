"""Trains a recorded run again and compares the two: bit-identical, or their first divergence.

Steps, the deterministic series (RunInfo.nondeterministic names the others) and the final parameters are compared, and nothing
else. The verdict "bit-identical" is given only for values that a new run has computed since the command started.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax import errors, events
from mnist_jax.provenance import differences as provenance_differences
from mnist_jax.record import nested, reader, writer
from mnist_jax.registry import lineage
from mnist_jax.train import config as configs
from mnist_jax.train import experiment, recorder

_PACKAGE = "mnist_jax/"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a run and its reproduction compare."""

    verdict: str  # as text
    holds: bool  # whether the claim holds: equal bits, or values within the tolerance
    values: int  # compared
    steps: int  # the last one compared
    largest: float  # difference between two values
    first_divergence: tuple[int, str, float, float] | None  # the first step and series that differ, and the two values
    differences: tuple[str, ...]  # in config, data, source and environment, which may explain it
    directory: Path  # of the reproduction

    def lines(self) -> list[str]:
        """Return the verdict as lines of text."""
        lines = [self.verdict, f"compared: {self.values} values up to step {self.steps}"]
        if self.first_divergence:
            step, name, there, here = self.first_divergence
            lines.append(f"first divergence at step {step}: {name} was {there!r}, now {here!r}")
        if self.first_divergence or not self.holds:
            lines += [f"could explain it: {line}" for line in self.differences] or [
                "no difference in config, data, source or environment was found to explain it"]
        else:
            lines += [f"differs without effect: {line}" for line in self.differences]
        return lines


def reproduce_run(directory: Path | str, *, steps: int | None = None, tolerance: float = 0.0, workdir: Path | str | None = None,
                  changes: Sequence[str] = (), watch: bool = True) -> Verdict:
    """Train the recorded config of a run again, as a child run, and compare the two.

    Args:
      steps: compare only so many updates, which is quicker.
      tolerance: accept values that differ by at most so much, instead of equal bits.
      workdir: the child's directory, empty or new; by default runs/<time>-<name>-again.
      changes: settings to change, such as "seed=1", to see where the run diverges.

    Raises:
      UserError: the run is not of this package's training, a setting is not as expected, or the directory holds something.
      RecordError: a record is damaged, or is not the child's.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise errors.UserError(f"--tolerance: expected a finite number of 0 or more, found {tolerance}")
    original = reader.read(directory)
    recorded_settings = _settings(original)
    experiment_config = _apply_changes(recorded_settings, changes)
    parent, run_id = lineage.parent(original), writer.new_id()
    result = experiment.run(
        experiment_config, workdir=_empty_directory(workdir, original.run.name), parent=parent["directory"] if parent else None,
        reproduces=original.run.id, run_id=run_id, stop_after=steps, watch=watch)
    again = reader.read(result.directory)
    if (again.run.id, again.run.parent) != (run_id, original.run.id):
        raise errors.RecordError(f"{result.directory}: expected the reproduction {run_id}, found run {again.run.id}; another "
                                 f"program has written there, and nothing was compared: choose another --workdir")
    return compare(original, again, steps=steps, tolerance=tolerance,
                   differences=[*_of_config(recorded_settings, experiment_config), *_of_facts(original, again)])


def compare(original: reader.RunRecord, again: reader.RunRecord, *, steps: int | None = None, tolerance: float = 0.0,
            differences: Sequence[str] = ()) -> Verdict:
    """Compare the records of two runs. The parameters are compared if both runs have finished."""
    rows = {name: points for name, points in _series(original).items() if original.run.is_deterministic(name)}
    repeated = _series(again)
    diverging: list[tuple[int, str, float, float]] = []
    values, last, largest = 0, 0, 0.0
    for name, (at, there) in rows.items():
        here = dict(zip(*repeated.get(name, ([], [])), strict=True))
        for step, value in zip(at, there, strict=True):
            if steps is not None and step > steps:
                continue
            now = here.get(step)
            values, last = values + 1, max(last, step)
            if now is None or not _same(value, now):
                difference = abs(value - now) if now is not None else np.inf
                largest = max(largest, difference if difference == difference else np.inf)
                if not difference <= tolerance:
                    diverging.append((step, name, value, np.nan if now is None else now))
    first = min(diverging, key=lambda each: (each[0], each[1] != recorder.TRAIN_LOSS), default=None)
    models = [run.of(events.Model)[-1:] for run in (original, again)]
    digests = {model[0].metadata.get("parameters_sha256") for model in models if model}
    whole = all(models) and steps is None
    if not values:
        verdict, holds = "nothing to compare: the run has recorded no value that far", False
    elif first:
        verdict, holds = "not the same", False
    elif largest > 0:
        verdict, holds = f"equal within {tolerance:g} (largest difference {largest:.3g})", True
    elif whole and len(digests) > 1:
        verdict, holds = "every value is bit-identical, but the parameters are not", False
    else:
        verdict, holds = f"bit-identical{', parameters included' if whole else ''}", True
    return Verdict(verdict, holds, values, last, largest, first, tuple(differences), again.directory)


def _empty_directory(workdir: Path | str | None, name: str) -> Path:
    """Return the directory of a reproduction. Raises UserError if it holds anything: an earlier result is no proof."""
    if workdir is None:
        base = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-again"
        return next(path for number in range(1, 10_000)
                    for path in [base.with_name(f"{base.name}-{number}") if number > 1 else base] if not path.exists())
    directory = Path(workdir)
    try:
        entries = [path.name for path in directory.iterdir()] if directory.exists() or directory.is_symlink() else []
    except OSError as error:
        raise errors.UserError(f"--workdir={directory}: expected an empty or new directory, found: {error.strerror}") from error
    if entries:
        raise errors.UserError(f"--workdir={directory}: expected an empty or new directory for the reproduction, found "
                               f"{len(entries)} files in it, such as {min(entries)!r}; choose another")
    return directory


def _settings(original: reader.RunRecord) -> configs.ExperimentConfig:
    try:
        return configs.from_config(original.run.config)
    except errors.UserError as error:
        raise errors.UserError(f"{original.directory}: expected a run of this package's training, found one whose config it "
                               f"does not know: {error}") from error


def _apply_changes(before: configs.ExperimentConfig, changes: Sequence[str]) -> configs.ExperimentConfig:
    config: Any = dataclasses.asdict(before)
    for change in changes:
        path, separator, text = change.partition("=")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        try:
            if not separator:
                raise KeyError(path)
            nested.put(config, path, value)
        except KeyError:
            choices = [name for name, _ in nested.flatten(config)]
            raise errors.UserError(f"--set {change}: expected KEY=VALUE with a key of the config, found {path!r}"
                                   f"{errors.suggestion(path, choices)}") from None
    return configs.from_config(config)


def _series(record: reader.RunRecord) -> dict[str, tuple[list[int], list[float]]]:
    return {name: (steps.tolist(), values.tolist()) for name, (steps, values) in record.series().items()}


def _same(one: float, other: float) -> bool:
    return np.float64(one).tobytes() == np.float64(other).tobytes()


def _of_config(before: configs.ExperimentConfig, now: configs.ExperimentConfig) -> Iterator[str]:
    was: Mapping[str, Any] = dict(nested.flatten(dataclasses.asdict(before)))
    for name, value in nested.flatten(dataclasses.asdict(now)):
        if was[name] != value:
            yield f"config: {name} was {was[name]!r}, now {value!r}"


def _of_facts(original: reader.RunRecord, again: reader.RunRecord) -> Iterator[str]:
    """Yield how data, source and environment of two runs differ."""
    digests = {fact.split: fact.digest for fact in original.of(events.Dataset)}
    for fact in again.of(events.Dataset):
        if digests.get(fact.split) != fact.digest:
            yield f"data: {fact.split} had the digest {digests.get(fact.split)}, now {fact.digest}"
    for before, now in zip(original.of(events.Source)[:1], again.of(events.Source)[:1], strict=False):
        if before.commit != now.commit:
            yield f"source: commit was {before.commit}, now {now.commit}"
        for name, was, here in provenance_differences.files(before, now):
            if name.startswith(_PACKAGE):
                detail = _line_that_differs(original, was, again, here) if was and here else ""
                yield f"source: {name} {provenance_differences.change(was, here)}{detail}"
    for before, now in zip(original.of(events.Environment)[:1], again.of(events.Environment)[:1], strict=False):
        for difference in provenance_differences.between(before, now):
            yield f"environment: {difference}"


def _line_that_differs(original: reader.RunRecord, before: events.Blob, again: reader.RunRecord, now: events.Blob) -> str:
    was, here = (run.bytes_of(blob).decode(errors="replace").splitlines() for run, blob in ((original, before), (again, now)))
    changed = [line for line in difflib.unified_diff(was, here, n=0, lineterm="")
               if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    example = next((line for line in changed if line[:1] == "+"), changed[0] if changed else "")
    return f", {len(changed)} lines of difference, such as: {example[:100]}"
