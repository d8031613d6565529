"""The comparison as a value: a pure function of the evidence, and of a run's receipts where a run is given."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from mnist_jax import errors
from mnist_jax.compare import claims as thesis_claims
from mnist_jax.compare import criteria, evidence, sandbox, thesis
from mnist_jax.compare import facts as tracker_facts
from mnist_jax.compare.criteria import EvidenceLine
from mnist_jax.record import reader
from mnist_jax.tracking import receipts


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """The receipts of one run by tracker and kind of event."""

    name: str
    directory: str
    events: dict[str, int]  # recorded, by kind
    replicas: dict[str, dict[str, str]]  # by label, then by kind: "3 sent, 1 sampled"


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """The two trackers on the nine criteria; a tracker that is not installed has no version and empty cells."""

    versions: dict[str, str]
    python: str
    cells: dict[str, dict[str, criteria.Cell]]  # by criterion, then by tracker
    facts: dict[str, dict[str, list[EvidenceLine]]]  # by title, then by tracker
    claims: list[thesis_claims.Claim]
    verdict: list[EvidenceLine]
    problems: list[str]  # of probes that failed: results that depend on them are not shown
    run: ComparedRun | None

    def __repr__(self) -> str:
        clients = " and ".join(f"{tracker} {version}" for tracker, version in self.versions.items())
        return f"<Comparison of {clients} on {len(self.cells)} criteria, {len(self.problems)} problems>"


def compare_trackers(folder: Path | str | None = None, run: Path | str | None = None) -> Comparison:
    """Compare the two trackers by what their clients do on this machine.

    Args:
      folder: the evidence: read if it holds some, else written by the probes, which take about a minute on two cores. By
        default a temporary folder.
      run: a run's directory, whose receipts are added.

    Raises:
      UserError: no client is installed, the evidence is incomplete, or `run` holds no run.
    """
    compared_run = _of_run(Path(run)) if run is not None else None  # before the minute of the probes
    with tempfile.TemporaryDirectory(prefix="mnist-jax-evidence-") as temporary:
        folder = Path(temporary if folder is None else folder)
        if folder.exists() and not folder.is_dir():
            raise errors.UserError(f"{folder}: expected a folder for the evidence, found a file; choose another --evidence")
        if not any((folder / tracker / "client.json").exists() for tracker in thesis.TRACKERS):
            if folder.is_dir() and any(folder.iterdir()):
                raise errors.UserError(f"{folder}: expected a new or empty folder, or one with evidence, found other contents; "
                                       f"choose another --evidence")
            sandbox.probe(folder)
        return fold(folder, compared_run)


def fold(folder: Path, run: ComparedRun | None = None) -> Comparison:
    """Return the comparison of some evidence. Raises UserError where it is incomplete, or no client was installed."""
    results = [criteria.read(folder, tracker) for tracker in thesis.TRACKERS]
    if not any(one.version for one in results):
        raise errors.UserError("compare: expected neptune or comet-ml to be installed, found neither; run: "
                               "pip install 'mnist-jax[neptune,comet]'")
    by_tracker = {one.tracker: one for one in results}
    present = [one for one in results if one.version]
    return Comparison(
        {one.tracker: one.version for one in results}, evidence.python(folder),
        {name: {one.tracker: criteria.cell(one, name) for one in present} for name in thesis.CRITERIA},
        {title: {one.tracker: call(one) for one in present} for title, call in tracker_facts.FACTS.items()},
        [thesis_claims.judge(statement, by_tracker[statement.tracker]) for statement in thesis.TABLE],
        thesis_claims.verdict(results),
        [f"{one.tracker} {name}-{mode} {probe.problem}" for one in present for (name, mode), probe in one.probes.items()
         if probe.problem], run)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return what `compare-trackers --json` prints: every statement with its quotes of the evidence."""
    return _plain(comparison)


def _of_run(directory: Path) -> ComparedRun:
    record = reader.read(directory)
    kinds = Counter(type(entry.event).__name__ for entry in record.entries)
    replicas = {}
    for status in receipts.sync_statuses(directory):
        states: dict[str, Counter[str]] = {}
        for line in () if status.damaged else receipts.lines(directory, status.label):
            if line.get("opening") == "new" or "replica_lost" in line:
                states.clear()
            elif "event" in line:
                states.setdefault(str(line["kind"]), Counter())[str(line["state"])] += 1
        replicas[status.label] = {kind: ", ".join(f"{times} {state}" for state, times in counts.items())
                               for kind, counts in states.items()}
    return ComparedRun(record.run.name or record.run.id, str(directory), dict(kinds), replicas)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _plain(item) for name, item in zip(value._fields, value, strict=True)}
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
