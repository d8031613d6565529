"""The comparison on a terminal: the short form; the whole, with its evidence, is the page's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mnist_jax.compare import criteria, thesis
from mnist_jax.compare.comparison import Comparison

_NAMED = 6  # of what is kept by itself


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield the comparison line by line."""
    for tracker, version in comparison.versions.items():
        absent = f"is not installed: nothing is said of it; pip install {thesis.PACKAGES[tracker]}"
        yield f"{thesis.TITLES[tracker]} {version or absent}"
    yield f"{thesis.ABOUT} {thesis.LEGEND}"
    for criterion, cells in comparison.cells.items():
        yield ""
        yield criterion
        for tracker, cell in cells.items():
            yield from (f"  {thesis.TITLES[tracker]:8} {part}" for part in parts(cell))
    for title, told in comparison.facts.items():
        yield ""
        yield title
        yield from (f"  {thesis.TITLES[tracker]:8} {line.text}" for tracker, found in told.items() for line in found)
    yield ""
    yield "Table 1 of the thesis, held against this"
    for statement, finding, why in comparison.claims:
        yield f"  {thesis.TITLES[statement.tracker]:8} {statement.text}"
        yield f"           {finding}: {why.text}"
    yield ""
    yield f"The thesis's verdict: {thesis.VERDICT}"
    yield from (f"Today: {line.text}" for line in comparison.verdict)
    if comparison.run:
        yield ""
        yield f"{comparison.run.name}: what each tracker holds of its events, by receipts"
        for label, held in comparison.run.replicas.items() or [("no tracker", {})]:
            yield f"  {label}"
            yield from (f"    {kind:16}{held.get(kind, 'pending')} of {count}" for kind, count in comparison.run.events.items())


def parts(cell: criteria.Cell) -> Iterator[str]:
    """Yield what a cell says, in short."""
    names = list(dict.fromkeys(line.text for mode in criteria.MODES for line in cell.automatic[mode]))
    yield f"by itself: {few(names) or 'nothing'}"
    yield f"by a call, kept whole: {cell.kept() or 'none tried'}"
    if cell.reach:
        yield f"from another run: {cell.ways() or 'not got'}"


def few(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
