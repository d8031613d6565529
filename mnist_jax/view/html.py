"""Small elements of HTML, with all text escaped."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


def text(value: object) -> str:
    """Return a value as HTML text."""
    return html.escape(str(value))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], numbers: bool = False) -> str:
    """Return a table; the first cell of each row heads it. Cells are escaped."""
    kind = ' class="numbers"' if numbers else ""
    headings = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    lines = "".join(f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in rest)}</tr>'
                    for first, *rest in rows)
    return (f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table{kind}>'
            f"<caption>{text(caption)}</caption><thead><tr>{headings}</tr></thead><tbody>{lines}</tbody></table></div>")


def picture(png: bytes, caption: str) -> str:
    """Return a PNG inside the page, with a caption."""
    source = base64.b64encode(png).decode()
    return (f'<figure><img src="data:image/png;base64,{source}" alt="{text(caption)}">'
            f"<figcaption>{text(caption)}</figcaption></figure>")


def details(title: str, *contents: str, is_open: bool = False) -> str:
    """Return an element that folds out."""
    return f"<details{' open' if is_open else ''}><summary>{text(title)}</summary>{''.join(contents)}</details>"


def section(name: str, title: str, *contents: str) -> str:
    """Return a section with a heading, or "" if it is empty."""
    return f'<section id="{text(name)}"><h2>{text(title)}</h2>{"".join(contents)}</section>' if any(contents) else ""


def data(name: str, value: Any) -> str:
    """Return JSON for the page's script; no text in it can end the element."""
    encoded = json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return f'<script type="application/json" id="{text(name)}">{encoded}</script>'
