"""The comparison as one HTML file that works offline; every statement links to quotes of the evidence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mnist_jax import errors
from mnist_jax.compare import criteria, evidence, thesis
from mnist_jax.compare.comparison import Comparison
from mnist_jax.compare.criteria import EvidenceLine
from mnist_jax.record import files
from mnist_jax.view import html, report

_STATIC = Path(__file__).parent / "static"
_GLANCE = ("by itself", "by a call", "elsewhere")
_SHOWN = 8  # automatic items of a cell, before the rest is folded


def write_comparison(comparison: Comparison, path: Path | str) -> Path:
    """Write the comparison as HTML and return the file's path. Raises UserError where it cannot be written."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, of(comparison).encode())
    except OSError as error:
        raise errors.UserError(f"{path}: expected a file that can be written, found: {error.strerror}; choose another "
                               f"--html") from error
    return path


def of(comparison: Comparison) -> str:
    """Return the page."""
    notes = _Notes()
    trackers = [tracker for tracker in thesis.TRACKERS if comparison.versions[tracker]]
    titles = [f"{thesis.TITLES[tracker]} {comparison.versions[tracker]}" for tracker in trackers]
    missing = [thesis.TITLES[tracker] for tracker in thesis.TRACKERS if tracker not in trackers]
    absent = "".join(f"<p><strong>{name} is not installed here: it is not compared.</strong></p>" for name in missing)
    absent += _list(f"<strong>{html.text(problem)}; results that depend on it are not shown.</strong>"
                    for problem in comparison.problems)
    cells = [(criterion, [_cell(by_tracker[tracker], notes) for tracker in trackers])
             for criterion, by_tracker in comparison.cells.items()]
    facts = [(title, [_line_list(by_tracker[tracker], notes) for tracker in trackers])
             for title, by_tracker in comparison.facts.items()]
    claims = [(thesis.TITLES[claim.statement.tracker], [html.text(claim.statement.text),
                                                        f"<strong>{claim.finding}</strong>: {_line(claim.why, notes)}"])
              for claim in comparison.claims]
    verdict = f"<p>The thesis's verdict: {html.text(thesis.VERDICT)}</p>" + _line_list(comparison.verdict, notes)
    since = "<p>The services' own pages, and what they do with what they were sent.</p>" + _list(
        f'{html.text(thesis.TITLES[tracker])}: {html.text(text)} <a href="{html.text(source)}">Source</a>'
        for tracker, text, source in thesis.SINCE)
    title = "Neptune and Comet on nine criteria"
    body = "".join((
        html.section("verdict", "In short", absent, verdict, glance(comparison)),
        html.section("criteria", "The nine criteria", _table("What each keeps", ("criterion", *titles), cells)),
        html.section("facts", "Across the criteria", _table("Across the criteria", ("what", *titles), facts)),
        html.section("thesis", "Table 1 of the thesis, held against this",
                     _table("Statements of Table 1", ("of", "statement", "today"), claims)),
        html.section("since", "What no probe here can show", since),
        html.section("run", "What each tracker holds of a run", _run(comparison)),
        html.section("evidence", "Evidence", notes.as_list())))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{(report.STATIC / "report.css").read_text()}{(_STATIC / "comparison.css").read_text()}</style></head>
<body><a class="skip" href="#main">To the content</a>
<header><h1>{title}</h1><p>{html.text(", ".join(titles))}, Python {html.text(comparison.python)}; what the clients did on this
machine, each in a sandbox without a network: offline, and online against servers on this machine that take what a client sends.
Numbers in brackets lead to what shows it.</p><p>{html.text(thesis.ABOUT)}</p></header>
<main id="main">{body}</main></body></html>
"""


def glance(comparison: Comparison) -> str:
    """Return the comparison as one HTML table: a row a criterion."""
    trackers = [tracker for tracker in thesis.TRACKERS if comparison.versions[tracker]]
    return f"<p>{html.text(thesis.LEGEND)}</p>" + html.table(
        "At a glance: things kept by itself; calls whose data is kept whole; how another run gets at them",
        ("criterion", *(f"{thesis.TITLES[tracker]} {what}" for tracker in trackers for what in _GLANCE)),
        [(criterion, *(text for tracker in trackers for text in _glance(by_tracker[tracker])))
         for criterion, by_tracker in comparison.cells.items()])


class _Notes:
    """The quoted evidence, numbered in order of its first use."""

    def __init__(self) -> None:
        self._numbers: dict[evidence.Quote, int] = {}

    def link(self, quotes: Iterable[evidence.Quote]) -> str:
        numbers = [self._numbers.setdefault(quote, len(self._numbers) + 1) for quote in quotes]
        return "".join(f' <a class="note" href="#e{number}" aria-label="evidence {number}">[{number}]</a>'
                       for number in numbers)

    def as_list(self) -> str:
        items = "".join(f'<li id="e{number}"><span>{html.text(quote.place)}</span> <code>{html.text(quote.text)}</code></li>'
                        for quote, number in self._numbers.items())
        return f'<ol class="evidence">{items}</ol>' if items else ""


def _cell(cell: criteria.Cell, notes: _Notes) -> str:
    automatic: dict[str, tuple[EvidenceLine, list[str]]] = {}
    for mode in criteria.MODES:
        for line in cell.automatic[mode]:
            automatic.setdefault(line.text, (line, []))[1].append(mode)
    names = [_line(line, notes) + ("" if len(modes) == len(criteria.MODES) else f" ({modes[0]} only)")
             for line, modes in automatic.values()]
    automatic_html = ", ".join(names[:_SHOWN]) or "nothing"
    if names[_SHOWN:]:
        automatic_html += html.details(f"and {len(names) - _SHOWN} more", f"<p>{', '.join(names[_SHOWN:])}</p>")
    calls = _list(f"<code>{html.text(words)}</code><br>{_answers(answers, notes)}" for words, answers in cell.calls.items())
    reach = _line_list(cell.reach, notes)
    return (f'<h3>By itself</h3><div>{automatic_html}</div><h3>By a call</h3>{calls or "<p>none tried</p>"}'
            + (f"<h3>From another run</h3>{reach}" if reach else ""))


def _glance(cell: criteria.Cell) -> tuple[str, str, str]:
    names = {line.text for mode in criteria.MODES for line in cell.automatic[mode]}
    return f"{len(names)} things" if names else "nothing", cell.counts(), cell.ways()


def _answers(answers: dict[str, criteria.CriterionAnswer], notes: _Notes) -> str:
    lines = []
    for mode, answer in answers.items():
        kind = {criteria.KEPT: "good", criteria.ANSWERED: "good", criteria.PARTLY: "part"}.get(answer.status, "bad")
        note = f": {html.text(answer.note)}" if answer.note else ""
        lines.append(f'<span class="{kind}">{mode}: {answer.status}</span>{note}{notes.link([answer.quote])}')
    return "<br>".join(lines)


def _run(comparison: Comparison) -> str:
    run = comparison.run
    if run is None:
        return ""
    if not run.replicas:
        return f"<p>{html.text(run.name)} ({html.text(run.directory)}) has not been synced to a tracker.</p>"
    rows = [(kind, count, *(by_kind.get(kind, "pending") for by_kind in run.replicas.values()))
            for kind, count in run.events.items()]
    return html.table(f"{run.name}, {run.directory}: its events, by receipts", ("event", "recorded", *run.replicas), rows)


def _line(line: EvidenceLine, notes: _Notes) -> str:
    return html.text(line.text) + notes.link(line.quotes)


def _line_list(lines: Iterable[EvidenceLine], notes: _Notes) -> str:
    return _list(_line(line, notes) for line in lines)


def _list(items: Iterable[str]) -> str:
    contents = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{contents}</ul>" if contents else ""


def _table(caption: str, head: Iterable[str], rows: Iterable[tuple[str, list[str]]]) -> str:
    """Return a table with cells of HTML; on a narrow screen each row is a block, and each cell names its column."""
    titles = list(head)
    heads = "".join(f'<th scope="col">{html.text(title)}</th>' for title in titles)
    lines = "".join(f'<tr><th scope="row">{html.text(first)}</th>'
                    + "".join(f'<td data-of="{html.text(title)}">{cell}</td>'
                              for title, cell in zip(titles[1:], rest, strict=True))
                    + "</tr>" for first, rest in rows)
    return (f'<table class="stacked"><caption>{html.text(caption)}</caption><thead><tr>{heads}</tr></thead>'
            f"<tbody>{lines}</tbody></table>")
