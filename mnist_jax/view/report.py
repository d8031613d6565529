"""Writes a report of runs as one HTML file, with style, script, plot library and data inside. It makes no network requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from mnist_jax import errors
from mnist_jax.record import files, reader
from mnist_jax.view import curves, html, sections

STATIC = Path(__file__).parent / "static"  # style and script of the page


def write_report(directories: Sequence[Path | str], path: Path | str) -> Path:
    """Write a report of runs as one HTML file and return its path.

    Raises:
      UserError: a directory holds no run, the file cannot be written, or plotly is not installed.
      RecordError: a record is damaged.
    """
    path = Path(path)
    page = of([reader.read(directory) for directory in directories])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, page.encode())
    except OSError as error:
        raise errors.UserError(f"{path}: expected a file that can be written, found: {error.strerror}; choose another "
                               f"--html") from error
    return path


def of(runs: Sequence[reader.RunRecord]) -> str:
    """Return the page of some runs."""
    labels = distinct(runs)
    panels = curves.panels(runs, labels)
    plots = "".join(
        f'<figure class="plot"><figcaption id="title-{number}">{html.text(panel["title"])}</figcaption>'
        f'<div class="canvas" id="plot-{number}" role="group" aria-labelledby="title-{number}"></div></figure>'
        for number, panel in enumerate(panels))
    controls = ('<form class="controls" aria-label="Curves"><label>Smoothing <input id="smoothing" type="range" min="0" '
                'max="0.99" step="0.01" value="0"></label><label><input id="logarithmic" type="checkbox"> Logarithmic loss'
                '</label><label><input id="linked" type="checkbox" checked> Zoom all together</label></form>')
    title = labels[0] if len(runs) == 1 else f"{len(runs)} runs side by side"
    body = "".join((
        html.section("overview", "Overview", sections.overview(runs, labels)),
        html.section("settings", "Settings", sections.hyperparameters(runs, labels)),
        html.section("curves", "Curves", controls, plots, _last_values(runs, labels)) if panels else "",
        html.section("runs", "Each run", *(sections.one_run(run, label, len(runs) == 1)
                                           for run, label in zip(runs, labels, strict=True))),
        html.section("environment", "Environment and source", sections.environments(runs, labels))))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.text(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:; style-src 'unsafe-inline';
 script-src 'unsafe-inline'"><style>{(STATIC / "report.css").read_text()}</style></head>
<body><a class="skip" href="#main">To the content</a>
<header><h1>{html.text(title)}</h1><p>mnist_jax, {time.strftime("%Y-%m-%d %H:%M")}</p></header>
<main id="main">{body}</main>
{html.data("panels", panels)}<script>{_plot_library()}</script><script>{(STATIC / "report.js").read_text()}</script>
</body></html>
"""


def distinct(runs: Sequence[reader.RunRecord]) -> list[str]:
    """Return a label for each run: its name, with its directory's name where names repeat, with its id where those do."""
    names = [run.run.name or run.run.id for run in runs]
    for more in (lambda run: run.directory.name, lambda run: run.run.id[:8]):
        names = [f"{name} ({more(run)})" if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]
    return names


def _last_values(runs: Sequence[reader.RunRecord], labels: Sequence[str]) -> str:
    """Return the curves' last values as a table, for screen readers."""
    lasts = [run.last() for run in runs]
    names = sorted({name for last in lasts for name in last})
    rows = [(name, *(f"{last[name]:.6g}" if name in last else "" for last in lasts)) for name in names]
    return html.details("Last values of all series", html.table("Last values", ("series", *labels), rows, numbers=True))


def _plot_library() -> str:
    try:
        from plotly import offline
    except ImportError as error:
        raise errors.UserError("report: expected plotly, found none; run: pip install 'mnist-jax[report]'") from error
    return str(offline.get_plotlyjs()).replace("</script", "<\\/script")
