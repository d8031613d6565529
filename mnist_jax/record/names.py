"""Names that people give, as names of folders: no name leaves its folder, whatever it is."""

from __future__ import annotations

import re

_CHARACTERS = 80


def folder_name(name: str) -> str:
    """Return a folder's name for a run's: letters, digits, and . _ - = + inside, at most 80 characters, never empty."""
    plain = re.sub(r"[^\w.=+-]+", "-", name, flags=re.ASCII).strip("-.")
    return plain[:_CHARACTERS].rstrip("-.") or "run"
