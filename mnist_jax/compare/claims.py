"""Holds each statement of the thesis's Table 1 against the evidence, and its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mnist_jax.compare import facts, thesis
from mnist_jax.compare.criteria import KEPT, PARTLY, Evidence, EvidenceLine, automatically, calls_of, cell

HOLDS, IN_PART, NO_LONGER, NOT_SHOWN = "holds", "holds in part", "no longer holds", "not shown"
_THINGS = ("datasets", "models", "images")


class Claim(NamedTuple):
    """A statement, what the evidence says of it, and why."""

    statement: thesis.Statement
    finding: str  # one of HOLDS, IN_PART, NO_LONGER, NOT_SHOWN
    why: EvidenceLine


def judge(statement: thesis.Statement, found: Evidence) -> Claim:
    """Return what the evidence says of a statement."""
    if not found.version:
        return Claim(statement, NOT_SHOWN, EvidenceLine("the client is not installed"))
    if not (found.probe("bare", "online").items and found.probe("called", "online").items):
        return Claim(statement, NOT_SHOWN, EvidenceLine("the probes left no evidence"))
    finding, why = _JUDGES[statement.name.partition(" ")[2]](statement, found)
    return Claim(statement, finding, why)


def verdict(found: Sequence[Evidence]) -> list[EvidenceLine]:
    """Return what today's evidence says in place of the thesis's verdict: counts, and nothing that they do not say."""
    lines = []
    for one in found:
        if one.version:
            served = [name for name in thesis.CRITERIA if automatically(one, name, "online")]
            quotes = tuple(automatically(one, name, "online")[0].quotes[0] for name in served)
            lines.append(EvidenceLine(f"{thesis.TITLES[one.tracker]} captures something of {len(served)} of the {len(thesis.CRITERIA)} "
                              f"criteria by itself: {', '.join(served) or 'none'}.", quotes[:1]))
    for one in found:
        if one.version:
            _, paths = facts.folders(one)
            lines.append(EvidenceLine(f"{thesis.TITLES[one.tracker]}: {paths.text}.", paths.quotes))
    return lines


def _automatic(statement: thesis.Statement, found: Evidence) -> tuple[str, EvidenceLine]:
    """Judge what is said of metrics, parameters and source code, of a training by JAX and one by scikit-learn."""
    names = ("metrics", "hyperparameters", "source code")
    captured = {name: automatically(found, name, "online") for name in names}
    some = [name for name in names if captured[name]]
    none = [name for name in names if not captured[name]]
    said_manual = statement.tracker == "neptune"
    right = none if said_manual else some
    text = "; ".join([f"{name} by itself ({', '.join(line.text for line in captured[name][:4])})" for name in some]
                     + [f"no {name} by itself (a loop in JAX, a fit in scikit-learn)" for name in none])
    finding = HOLDS if len(right) == len(names) else IN_PART if right else NO_LONGER
    return finding, EvidenceLine(text, tuple(captured[name][0].quotes[0] for name in some))


def _reach(statement: thesis.Statement, found: Evidence) -> tuple[str, EvidenceLine]:
    calls = [call for call in found.probe("again", "online").calls if call.taken and call.criterion in (*_THINGS, "artifacts")]
    across = [call for call in calls if call.reach == "project"]
    offline = [call for call in found.probe("called", "offline").calls
               if call.words.startswith("log_artifact") and not call.taken]
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


def _datasets(statement: thesis.Statement, found: Evidence) -> tuple[str, EvidenceLine]:
    kept = [(words, answer) for words, answers in cell(found, "datasets").calls.items() for mode, answer in answers.items()
            if mode == "online" and answer.status in (KEPT, PARTLY)]
    partly = [(words, mode, answer) for words, answers in cell(found, "datasets").calls.items()
              for mode, answer in answers.items() if answer.status == PARTLY]
    text = ", ".join(words for words, _ in kept) + " kept online"
    text += f"; {partly[0][0]} is kept {partly[0][2].note}, {partly[0][1]}" if partly else ""
    quotes = tuple(answer.quote for _, answer in kept) + tuple(answer.quote for *_, answer in partly[:1])
    return (HOLDS if kept else NO_LONGER), EvidenceLine(text if kept else "no call that kept one", quotes)


def _registry(statement: thesis.Statement, found: Evidence) -> tuple[str, EvidenceLine]:
    models = [line for line in facts.registry(found) if line.text.startswith("model ")]
    captured = [answer for call, answer in calls_of(found) if call.criterion == "models" and answer.status == KEPT]
    quotes = tuple(line.quotes[0] for line in models) + tuple(answer.quote for answer in captured[:1])
    text = ("a registered model has a version" if models else "no model got a version") + (
        ", models are kept" if captured else ", no model is kept")
    right = bool(captured) and bool(models) == (statement.tracker == "comet")
    return (HOLDS if right else NO_LONGER), EvidenceLine(text, quotes)


def _folders(statement: thesis.Statement, found: Evidence) -> tuple[str, EvidenceLine]:
    there, elsewhere = facts.placed(found)
    own, paths = facts.folders(found)
    by_the_user = len(there) > len(elsewhere)
    finding = HOLDS if by_the_user == (statement.tracker == "neptune") else NO_LONGER
    return finding, EvidenceLine(f"{paths.text}; {own.text}", paths.quotes + own.quotes)


_JUDGES: dict[str, Callable[[thesis.Statement, Evidence], tuple[str, EvidenceLine]]] = {
    "automatic": _automatic, "reach": _reach, "datasets": _datasets, "registry": _registry, "folders": _folders}
