"""Folds the evidence into a cell for each criterion and tracker: captured automatically, stored by a call, and its reach."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mnist_jax.compare import evidence

PROBES = {"offline": ("bare", "called", "points", "killed"), "online": ("bare", "called", "points", "again")}
MODES = tuple(PROBES)
KEPT, PARTLY, LOST, REFUSED, ANSWERED = "kept", "kept in part", "taken, nothing of it found", "refused", "answered"
# The criterion of an item that a client captures automatically: the first whose kind and name match.
_OF_NEPTUNE = (("", "source_code/", "source code"), ("", "monitoring/|sys/hostname", "environment"),
               ("", "sys/", "user interface"))
_OF_COMET = (("git_metadata|git-patch|source_code|file_name", "", "source code"),
             ("system_details|system_info|installed_packages|os_packages|gpu_static_info|cloud_details|standard_output", "",
              "environment"),
             ("metric", r"sys\.|process duration", "environment"), ("metric", "", "metrics"),
             ("parameter", "", "hyperparameters"), ("graph|model-element", "", "models"), ("visualization|image", "", "images"),
             ("other", "dataset_info", "datasets"), ("asset|artifact", "", "artifacts"), ("", "", "user interface"))
WAYS = {"run": "by the run's id", "project": "by its own name"}  # how another run can read an item
_AUTOMATIC = {"neptune": _OF_NEPTUNE, "comet": _OF_COMET}
_ONE_THING = ("system_details", "git_metadata", "installed_packages", "standard_output")  # a server lists many names in it
_OF_EACH_CALL = ("curr_step", "hasNestedParams")  # the client adds them to every call


class EvidenceLine(NamedTuple):
    """A statement, with quotes of the evidence."""

    text: str
    quotes: tuple[evidence.Quote, ...] = ()


class CriterionAnswer(NamedTuple):
    """The result of a call in one mode."""

    status: str  # one of KEPT, PARTLY, LOST, REFUSED, ANSWERED
    note: str
    quote: evidence.Quote


class Cell(NamedTuple):
    """One criterion of one tracker."""

    automatic: dict[str, tuple[EvidenceLine, ...]]  # by mode: captured without a call
    calls: dict[str, dict[str, CriterionAnswer]]  # by the call's words, then by mode
    reach: tuple[EvidenceLine, ...]  # how another run reads it, where that was tried


    def counts(self) -> str:
        """Return how many of the calls that should store something stored all of it, by mode."""
        counts = []
        for mode in MODES:
            statuses = [answers[mode].status for answers in self.calls.values() if mode in answers]
            leaving = [status for status in statuses if status != ANSWERED]
            if leaving:
                counts.append(f"{mode} {leaving.count(KEPT)}/{len(leaving)}")
        return ", ".join(counts)

    def ways(self) -> str:
        """Return how another run reads it."""
        return ", ".join(dict.fromkeys(way for line in self.reach for way in WAYS.values() if way in line.text))


class Evidence(NamedTuple):
    """The results of the probes of one tracker."""

    tracker: str
    version: str  # empty: the client is not installed
    probes: dict[tuple[str, str], evidence.ProbeResult]  # by name and mode

    def probe(self, name: str, mode: str) -> evidence.ProbeResult:
        return self.probes[name, mode]


def read(folder: Path, tracker: str) -> Evidence:
    """Return the results of the probes of a tracker. Raises UserError where there are none."""
    version = evidence.version(folder, tracker)
    probes = {(name, mode): evidence.read(folder, tracker, name, mode)
              for mode, names in PROBES.items() for name in names}
    return Evidence(tracker, version, probes)


def cell(results: Evidence, criterion: str) -> Cell:
    """Return the cell of a criterion."""
    automatic = {mode: automatically(results, criterion, mode) for mode in MODES}
    calls: dict[str, dict[str, CriterionAnswer]] = {}
    for mode in MODES:
        probe = results.probe("called", mode)
        for call in probe.calls:
            if call.criterion == criterion:
                calls.setdefault(call.words, {})[mode] = _answer(probe, call)
    return Cell(automatic, calls, tuple(_reach(results, criterion)))


def automatically(results: Evidence, criterion: str, mode: str) -> tuple[EvidenceLine, ...]:
    """Return what the client captured automatically for a criterion."""
    quotes: dict[str, evidence.Quote] = {}
    for item in results.probe("bare", mode).items:
        if _criterion_of(results.tracker, item) == criterion:
            quotes.setdefault(stable_name(results.tracker, item), item.quote)
    return tuple(EvidenceLine(name, (quote,)) for name, quote in quotes.items())


def stable_name(tracker: str, item: evidence.Item) -> str:
    """Return the name of an item that a client captured automatically, without what changes from run to run."""
    if tracker == "neptune":
        return re.sub(r"^monitoring/[0-9a-f]+/", "monitoring/", item.name)
    if item.kind in _ONE_THING:
        return item.kind
    if item.name.startswith("/"):
        return f"{item.kind} {Path(item.name).name}"
    return item.kind if item.kind == item.name else f"{item.kind} {item.name}"


def place(tracker: str, item: evidence.Item) -> str:
    """Return the place of an item: Neptune's top folder, Comet's kind."""
    return item.name.partition("/")[0] if tracker == "neptune" else item.kind


def calls_of(results: Evidence) -> Sequence[tuple[evidence.ProbeCall, CriterionAnswer]]:
    """Return every call that was made online, with its result."""
    probe = results.probe("called", "online")
    return [(call, _answer(probe, call)) for call in probe.calls]


def _criterion_of(tracker: str, item: evidence.Item) -> str:
    if tracker == "comet" and item.kind == "parameter" and item.name in _OF_EACH_CALL:
        return ""
    for kinds, names, criterion in _AUTOMATIC[tracker]:
        if (not kinds or re.fullmatch(kinds, item.kind)) and re.match(names, item.name):
            return criterion
    return item.name.partition("/")[0]


def _answer(probe: evidence.ProbeResult, call: evidence.ProbeCall) -> CriterionAnswer:
    if not call.accepted:
        return CriterionAnswer(REFUSED, call.answer, call.quote)
    if not call.leaves:
        if call.answer in ("", "None") and call.reach == "":
            return CriterionAnswer(ANSWERED, "with nothing", call.quote)
        return CriterionAnswer(ANSWERED, "" if call.answer == "None" else textwrap.shorten(call.answer, 90), call.quote)
    items = probe.items_under(call.leaves)
    if not items:
        return CriterionAnswer(LOST, "", call.quote)
    item = items[0]
    where = f"as {item.kind} {item.name}" if item.kind != item.name else f"as {item.kind}"
    return CriterionAnswer(PARTLY if item.note else KEPT, f"{where}: {item.note}" if item.note else where, item.quote)


def _reach(results: Evidence, criterion: str) -> list[EvidenceLine]:
    lines = []
    for call in results.probe("again", "online").calls:
        if call.criterion == criterion:
            text = f"got {WAYS[call.reach]}" if call.accepted else f"not got: {call.answer}"
            lines.append(EvidenceLine(f"{call.words}: {text}", (call.quote,)))
    return lines
