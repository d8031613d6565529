"""Checks each statement of the thesis's Table 1, and its verdict, against the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mnist_jax.compare import facts, thesis
from mnist_jax.compare.criteria import KEPT, PARTLY, Evidence, EvidenceLine, automatically, calls_of, cell

HOLDS, IN_PART, NO_LONGER, NOT_SHOWN = "holds", "holds in part", "no longer holds", "not shown"
_THINGS = ("datasets", "models", "images")


class Claim(NamedTuple):
    """A statement of the thesis, the finding of the evidence, and its reason."""

    statement: thesis.Statement
    finding: str  # one of HOLDS, IN_PART, NO_LONGER, NOT_SHOWN
    why: EvidenceLine


def judge(statement: thesis.Statement, results: Evidence) -> Claim:
    """Check a statement against the evidence."""
    if not results.version:
        return Claim(statement, NOT_SHOWN, EvidenceLine("the client is not installed"))
    if not (results.probe("bare", "online").items and results.probe("called", "online").items):
        return Claim(statement, NOT_SHOWN, EvidenceLine("the probes left no evidence"))
    finding, why = _JUDGES[statement.name.partition(" ")[2]](statement, results)
    return Claim(statement, finding, why)


def verdict(all_results: Sequence[Evidence]) -> list[EvidenceLine]:
    """Return today's evidence in place of the thesis's verdict: counts, and nothing else."""
    lines = []
    for one in all_results:
        if one.version:
            criteria_names = [name for name in thesis.CRITERIA if automatically(one, name, "online")]
            quotes = tuple(automatically(one, name, "online")[0].quotes[0] for name in criteria_names)
            lines.append(EvidenceLine(f"{thesis.TITLES[one.tracker]} captures something of {len(criteria_names)} of the "
                                      f"{len(thesis.CRITERIA)} criteria by itself: {', '.join(criteria_names) or 'none'}.",
                                      quotes[:1]))
    for one in all_results:
        if one.version:
            _, paths = facts.folders(one)
            lines.append(EvidenceLine(f"{thesis.TITLES[one.tracker]}: {paths.text}.", paths.quotes))
    return lines


def _automatic(statement: thesis.Statement, results: Evidence) -> tuple[str, EvidenceLine]:
    """Check the capture of metrics, parameters and source code, of a training in JAX and one in scikit-learn."""
    names = ("metrics", "hyperparameters", "source code")
    automatic = {name: automatically(results, name, "online") for name in names}
    some = [name for name in names if automatic[name]]
    none = [name for name in names if not automatic[name]]
    says_manual = statement.tracker == "neptune"
    right = none if says_manual else some
    text = "; ".join([f"{name} by itself ({', '.join(line.text for line in automatic[name][:4])})" for name in some]
                     + [f"no {name} by itself (a loop in JAX, a fit in scikit-learn)" for name in none])
    finding = HOLDS if len(right) == len(names) else IN_PART if right else NO_LONGER
    return finding, EvidenceLine(text, tuple(automatic[name][0].quotes[0] for name in some))


def _reach(statement: thesis.Statement, results: Evidence) -> tuple[str, EvidenceLine]:
    calls = [call for call in results.probe("again", "online").calls
             if call.accepted and call.criterion in (*_THINGS, "artifacts")]
    across = [call for call in calls if call.reach == "project"]
    offline = [call for call in results.probe("called", "offline").calls
               if call.words.startswith("log_artifact") and not call.accepted]
    if not calls:
        return NOT_SHOWN, EvidenceLine("no other run tried")
    if statement.tracker == "neptune":
        quotes = tuple(call.quote for call in (across or calls)[:2])
        return ((NO_LONGER, EvidenceLine("another run gets them by their own names", quotes)) if across else
                (HOLDS, EvidenceLine("another run gets them only by the id of the run that logged them", quotes)))
    quotes = tuple(call.quote for call in across[:2] + offline[:1])
    if not across:
        return NO_LONGER, EvidenceLine("no other run gets them by their own names", quotes)
    return (IN_PART if offline else HOLDS), EvidenceLine("another experiment gets artifacts by their own names"
                                                 + ("; offline the client refuses artifacts" if offline else ""), quotes)


def _datasets(statement: thesis.Statement, results: Evidence) -> tuple[str, EvidenceLine]:
    complete = [(words, answer) for words, answers in cell(results, "datasets").calls.items()
                for mode, answer in answers.items() if mode == "online" and answer.status in (KEPT, PARTLY)]
    partial = [(words, mode, answer) for words, answers in cell(results, "datasets").calls.items()
              for mode, answer in answers.items() if answer.status == PARTLY]
    text = ", ".join(words for words, _ in complete) + " kept online"
    text += f"; {partial[0][0]} is kept {partial[0][2].note}, {partial[0][1]}" if partial else ""
    quotes = tuple(answer.quote for _, answer in complete) + tuple(answer.quote for *_, answer in partial[:1])
    return (HOLDS if complete else NO_LONGER), EvidenceLine(text if complete else "no call that kept one", quotes)


def _registry(statement: thesis.Statement, results: Evidence) -> tuple[str, EvidenceLine]:
    models = [line for line in facts.registry(results) if line.text.startswith("model ")]
    stored = [answer for call, answer in calls_of(results) if call.criterion == "models" and answer.status == KEPT]
    quotes = tuple(line.quotes[0] for line in models) + tuple(answer.quote for answer in stored[:1])
    text = ("a registered model has a version" if models else "no model got a version") + (
        ", models are kept" if stored else ", no model is kept")
    right = bool(stored) and bool(models) == (statement.tracker == "comet")
    return (HOLDS if right else NO_LONGER), EvidenceLine(text, quotes)


def _folders(statement: thesis.Statement, results: Evidence) -> tuple[str, EvidenceLine]:
    at_path, elsewhere = facts.by_place(results)
    own, paths = facts.folders(results)
    by_the_user = len(at_path) > len(elsewhere)
    finding = HOLDS if by_the_user == (statement.tracker == "neptune") else NO_LONGER
    return finding, EvidenceLine(f"{paths.text}; {own.text}", paths.quotes + own.quotes)


_JUDGES: dict[str, Callable[[thesis.Statement, Evidence], tuple[str, EvidenceLine]]] = {
    "automatic": _automatic, "reach": _reach, "datasets": _datasets, "registry": _registry, "folders": _folders}
