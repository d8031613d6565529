"""Folds the evidence into a cell for each criterion and tracker: kept by itself, kept by a call, refused; and its reach."""

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
# The criterion that a thing serves which a client kept of its own accord; the first that fits its kind and name.
_OF_NEPTUNE = (("", "source_code/", "source code"), ("", "monitoring/|sys/hostname", "environment"),
               ("", "sys/", "user interface"))
_OF_COMET = (("git_metadata|git-patch|source_code|file_name", "", "source code"),
             ("system_details|system_info|installed_packages|os_packages|gpu_static_info|cloud_details|standard_output", "",
              "environment"),
             ("metric", r"sys\.|process duration", "environment"), ("metric", "", "metrics"),
             ("parameter", "", "hyperparameters"), ("graph|model-element", "", "models"), ("visualization|image", "", "images"),
             ("other", "dataset_info", "datasets"), ("asset|artifact", "", "artifacts"), ("", "", "user interface"))
WAYS = {"run": "by the run's id", "project": "by its own name"}  # how another run gets at something
_AUTOMATIC = {"neptune": _OF_NEPTUNE, "comet": _OF_COMET}
_ONE_THING = ("system_details", "git_metadata", "installed_packages", "standard_output")  # a server has many names in it
_OF_EACH_CALL = ("curr_step", "hasNestedParams")  # the client's own words beside what was called


class EvidenceLine(NamedTuple):
    """Something said, and what shows it."""

    text: str
    quotes: tuple[evidence.Quote, ...] = ()


class CriterionAnswer(NamedTuple):
    """What became of a call in one mode."""

    status: str  # one of KEPT, PARTLY, LOST, REFUSED, ANSWERED
    note: str
    quote: evidence.Quote


class Cell(NamedTuple):
    """One criterion of one tracker."""

    automatic: dict[str, tuple[EvidenceLine, ...]]  # by mode: what is kept without a call
    calls: dict[str, dict[str, CriterionAnswer]]  # by the call's words, then by mode
    reach: tuple[EvidenceLine, ...]  # how another run gets at it, where that was tried


    def kept(self) -> str:
        """Return how many of the calls that leave something left it whole, by mode."""
        counts = []
        for mode in MODES:
            statuses = [answers[mode].status for answers in self.calls.values() if mode in answers]
            leaving = [status for status in statuses if status != ANSWERED]
            if leaving:
                counts.append(f"{mode} {leaving.count(KEPT)}/{len(leaving)}")
        return ", ".join(counts)

    def ways(self) -> str:
        """Return by what another run gets at it."""
        return ", ".join(dict.fromkeys(way for line in self.reach for way in WAYS.values() if way in line.text))


class Evidence(NamedTuple):
    """What was probed of one tracker."""

    tracker: str
    version: str  # empty: the client is not installed
    probes: dict[tuple[str, str], evidence.ProbeResult]  # by name and mode

    def probe(self, name: str, mode: str) -> evidence.ProbeResult:
        return self.probes[name, mode]


def read(folder: Path, tracker: str) -> Evidence:
    """Return what was probed of a tracker. Raises UserError where nothing was."""
    version = evidence.version(folder, tracker)
    probes = {(name, mode): evidence.read(folder, tracker, name, mode)
              for mode, names in PROBES.items() for name in names}
    return Evidence(tracker, version, probes)


def cell(found: Evidence, criterion: str) -> Cell:
    """Return the cell of a criterion."""
    automatic = {mode: automatically(found, criterion, mode) for mode in MODES}
    calls: dict[str, dict[str, CriterionAnswer]] = {}
    for mode in MODES:
        probe = found.probe("called", mode)
        for call in probe.calls:
            if call.criterion == criterion:
                calls.setdefault(call.words, {})[mode] = _answer(probe, call)
    return Cell(automatic, calls, tuple(_reach(found, criterion)))


def automatically(found: Evidence, criterion: str, mode: str) -> tuple[EvidenceLine, ...]:
    """Return what the client kept of its own accord that serves a criterion."""
    kept: dict[str, evidence.Quote] = {}
    for item in found.probe("bare", mode).items:
        if _serves(found.tracker, item) == criterion:
            kept.setdefault(named(found.tracker, item), item.quote)
    return tuple(EvidenceLine(name, (quote,)) for name, quote in kept.items())


def named(tracker: str, item: evidence.Item) -> str:
    """Return what a thing is called that a client kept of its own accord, without what changes from run to run."""
    if tracker == "neptune":
        return re.sub(r"^monitoring/[0-9a-f]+/", "monitoring/", item.name)
    if item.kind in _ONE_THING:
        return item.kind
    if item.name.startswith("/"):
        return f"{item.kind} {Path(item.name).name}"
    return item.kind if item.kind == item.name else f"{item.kind} {item.name}"


def place(tracker: str, item: evidence.Item) -> str:
    """Return where a thing lies: Neptune's top folder, Comet's kind."""
    return item.name.partition("/")[0] if tracker == "neptune" else item.kind


def calls_of(found: Evidence) -> Sequence[tuple[evidence.ProbeCall, CriterionAnswer]]:
    """Return every call that was made online, with what became of it."""
    probe = found.probe("called", "online")
    return [(call, _answer(probe, call)) for call in probe.calls]


def _serves(tracker: str, item: evidence.Item) -> str:
    if tracker == "comet" and item.kind == "parameter" and item.name in _OF_EACH_CALL:
        return ""
    for kinds, names, criterion in _AUTOMATIC[tracker]:
        if (not kinds or re.fullmatch(kinds, item.kind)) and re.match(names, item.name):
            return criterion
    return item.name.partition("/")[0]


def _answer(probe: evidence.ProbeResult, call: evidence.ProbeCall) -> CriterionAnswer:
    if not call.taken:
        return CriterionAnswer(REFUSED, call.answer, call.quote)
    if not call.leaves:
        if call.answer in ("", "None") and call.reach == "":
            return CriterionAnswer(ANSWERED, "with nothing", call.quote)
        return CriterionAnswer(ANSWERED, "" if call.answer == "None" else textwrap.shorten(call.answer, 90), call.quote)
    found = probe.kept(call.leaves)
    if not found:
        return CriterionAnswer(LOST, "", call.quote)
    item = found[0]
    where = f"as {item.kind} {item.name}" if item.kind != item.name else f"as {item.kind}"
    return CriterionAnswer(PARTLY if item.note else KEPT, f"{where}: {item.note}" if item.note else where, item.quote)


def _reach(found: Evidence, criterion: str) -> list[EvidenceLine]:
    lines = []
    for call in found.probe("again", "online").calls:
        if call.criterion == criterion:
            text = f"got {WAYS[call.reach]}" if call.taken else f"not got: {call.answer}"
            lines.append(EvidenceLine(f"{call.words}: {text}", (call.quote,)))
    return lines
