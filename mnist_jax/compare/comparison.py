"""The comparison as a value: a pure function of the evidence, and of a run's receipts where a run is given."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from mnist_jax import errors
from mnist_jax.compare import claims as compare_claims
from mnist_jax.compare import criteria, evidence, sandbox, thesis
from mnist_jax.compare import facts as compare_facts
from mnist_jax.compare.criteria import EvidenceLine
from mnist_jax.record import reader
from mnist_jax.tracking import receipts


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """What each tracker holds of one run, by its receipts."""

    name: str
    directory: str
    events: dict[str, int]  # recorded, by kind
    replicas: dict[str, dict[str, str]]  # by label, then by kind: "3 sent, 1 sampled"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The two trackers on the nine criteria; a tracker that is not installed has no version and empty cells."""

    versions: dict[str, str]
    python: str
    cells: dict[str, dict[str, criteria.Cell]]  # by criterion, then by tracker
    facts: dict[str, dict[str, list[EvidenceLine]]]  # by title, then by tracker
    claims: list[compare_claims.Claim]
    verdict: list[EvidenceLine]
    problems: list[str]  # of probes that did not end as they should: what rests on them is not shown
    run: ComparedRun | None


def compare_trackers(kept: Path | str | None = None, run: Path | str | None = None) -> Comparison:
    """Compare the two trackers by what their clients do on this machine.

    Args:
      kept: the folder of the evidence: read where it holds some, written by the probes where it holds none. By default
        the clients are probed and the evidence is read and dropped. A probe takes about a minute on two cores.
      run: a run's directory, whose receipts are added.

    Raises:
      UserError: no client is installed, the evidence is not whole, or `run` holds no run.
    """
    chosen = _of_run(Path(run)) if run is not None else None  # before the minute that the probes take
    with tempfile.TemporaryDirectory(prefix="mnist-jax-evidence-") as dropped:
        folder = Path(dropped) if kept is None else Path(kept)
        if folder.exists() and not folder.is_dir():
            raise errors.UserError(f"{folder}: expected a folder for the evidence, found a file; choose another --evidence")
        if not any((folder / tracker / "client.json").exists() for tracker in thesis.TRACKERS):
            if folder.is_dir() and any(folder.iterdir()):
                raise errors.UserError(f"{folder}: expected a new or empty folder, or one with evidence, found other contents; "
                                       f"choose another --evidence")
            sandbox.probe(folder)
        return fold(folder, chosen)


def fold(folder: Path, run: ComparedRun | None = None) -> Comparison:
    """Return what some evidence shows. Raises UserError where it is not whole, or no client was installed."""
    found = [criteria.read(folder, tracker) for tracker in thesis.TRACKERS]
    if not any(one.version for one in found):
        raise errors.UserError("compare: expected neptune or comet-ml to be installed, found neither; run: "
                               "pip install 'mnist-jax[neptune,comet]'")
    by_tracker = {one.tracker: one for one in found}
    present = [one for one in found if one.version]
    return Comparison(
        {one.tracker: one.version for one in found}, evidence.python(folder),
        {name: {one.tracker: criteria.cell(one, name) for one in present} for name in thesis.CRITERIA},
        {title: {one.tracker: call(one) for one in present} for title, call in compare_facts.FACTS.items()},
        [compare_claims.judge(statement, by_tracker[statement.tracker]) for statement in thesis.TABLE], compare_claims.verdict(found),
        [f"{one.tracker} {name}-{mode} {probe.problem}" for one in present for (name, mode), probe in one.probes.items()
         if probe.problem], run)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return what `compare --json` prints: every statement with the places and words that show it."""
    return _plain(comparison)


def _of_run(directory: Path) -> ComparedRun:
    recorded = reader.read(directory)
    kinds = Counter(type(entry.event).__name__ for entry in recorded.entries)
    held = {}
    for replica in receipts.sync_statuses(directory):
        states: dict[str, Counter[str]] = {}
        for line in receipts.lines(directory, replica.label):
            if line.get("opening") == "anew" or "forgotten" in line:
                states.clear()
            elif "sequence" in line:
                states.setdefault(str(line["kind"]), Counter())[str(line["state"])] += 1
        held[replica.label] = {kind: ", ".join(f"{times} {state}" for state, times in counts.items())
                               for kind, counts in states.items()}
    return ComparedRun(recorded.run.name or recorded.run.id, str(directory), dict(kinds), held)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _plain(held) for name, held in zip(value._fields, value, strict=True)}
    if isinstance(value, dict):
        return {str(name): _plain(held) for name, held in value.items()}
    return [_plain(held) for held in value] if isinstance(value, list | tuple) else value
