"""The comparison as text for a terminal; the evidence is in the page only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mnist_jax.compare import criteria, thesis
from mnist_jax.compare.comparison import Comparison

_NAMED = 6  # automatic items of a cell


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield the comparison line by line."""
    for tracker, version in comparison.versions.items():
        absent = f"is not installed, so it is not compared; run: pip install {thesis.PACKAGES[tracker]}"
        yield f"{thesis.TITLES[tracker]} {version or absent}"
    yield f"{thesis.ABOUT} {thesis.LEGEND}"
    for criterion, cells in comparison.cells.items():
        yield ""
        yield criterion
        for tracker, cell in cells.items():
            yield from (f"  {thesis.TITLES[tracker]:8} {line}" for line in cell_lines(cell))
    for title, by_tracker in comparison.facts.items():
        yield ""
        yield title
        yield from (f"  {thesis.TITLES[tracker]:8} {line.text}" for tracker, facts in by_tracker.items() for line in facts)
    yield ""
    yield "Table 1 of the thesis, compared with this"
    for statement, finding, why in comparison.claims:
        yield f"  {thesis.TITLES[statement.tracker]:8} {statement.text}"
        yield f"           {finding}: {why.text}"
    yield ""
    yield f"The thesis's verdict: {thesis.VERDICT}"
    yield from (f"Today: {line.text}" for line in comparison.verdict)
    if comparison.run:
        yield ""
        yield f"{comparison.run.name}: what each tracker holds of its events, by receipts"
        for label, by_kind in comparison.run.replicas.items() or [("no tracker", {})]:
            yield f"  {label}"
            yield from (f"    {kind:16}{by_kind.get(kind, 'pending')} of {count}"
                        for kind, count in comparison.run.events.items())


def cell_lines(cell: criteria.Cell) -> Iterator[str]:
    """Yield a cell in short."""
    names = list(dict.fromkeys(line.text for mode in criteria.MODES for line in cell.automatic[mode]))
    yield f"by itself: {few(names) or 'nothing'}"
    yield f"by a call, kept whole: {cell.counts() or 'none tried'}"
    if cell.reach:
        yield f"from another run: {cell.ways() or 'not got'}"


def few(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
