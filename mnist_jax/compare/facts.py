"""What lies across the criteria: registry and versions, folders, costs, kills, secrets, what the clients reach out for."""

from __future__ import annotations

from collections.abc import Callable

from mnist_jax.compare import evidence, probing
from mnist_jax.compare.criteria import Evidence, EvidenceLine, place

_PLANTED = {"a password in the command line": probing.PLANTED_ARGUMENT,
            "a password in the git remote": probing.PLANTED_REMOTE}


def registry(found: Evidence) -> list[EvidenceLine]:
    """Return what got a version: models in a registry, artifacts."""
    versioned = [item for item in found.probe("called", "online").items if item.kind in ("registry", "artifact")
                 and '"version"' in item.quote.text]
    words = {"registry": "model", "artifact": "artifact"}
    lines = [EvidenceLine(f"{words[item.kind]} {item.name.removeprefix('registered ')} has a version, online", (item.quote,))
             for item in versioned]
    refused = [call for call in found.probe("called", "offline").calls if not call.taken
               and call.words.startswith(("init_model", "log_artifact", "register_model"))]
    lines += [EvidenceLine(f"{call.words} is refused offline", (call.quote,)) for call in refused]
    return lines or [EvidenceLine("nothing got a version")]


def folders(found: Evidence) -> list[EvidenceLine]:
    """Return the places that the client makes by itself, and whether what has a path of the user's lies where it says."""
    own = {place(found.tracker, item): item.quote for item in reversed(found.probe("bare", "online").items)}
    lines = [EvidenceLine(f"made by the client: {', '.join(sorted(own)) or 'nothing'}", tuple(own.values())[:1])]
    there, elsewhere = placed(found)
    text = f"{len(there)} of {len(there) + len(elsewhere)} things logged under a path of the user's lie at that path"
    kinds = ", ".join(sorted({place(found.tracker, item) for item in elsewhere}))
    text += f"; the others under what the method stands for: {kinds}" if elsewhere else ""
    return [*lines, EvidenceLine(text, tuple(item.quote for item in [*there[:2], *elsewhere[:2]]))]


def placed(found: Evidence) -> tuple[list[evidence.Item], list[evidence.Item]]:
    """Return what was logged under a path of the user's: what lies at that path, and what lies elsewhere."""
    probe = found.probe("called", "online")
    items = [kept[0] for call in probe.calls if "/" in call.leaves and (kept := probe.kept(call.leaves))]
    there = [item for item in items if item.name.startswith(f"{place(found.tracker, item)}/")]
    return there, [item for item in items if item not in there]


def costs(found: Evidence) -> list[EvidenceLine]:
    """Return seconds of import, start, close, microseconds a point, and bytes on disk."""
    lines = []
    for mode in ("offline", "online"):
        seconds = found.probe("points", mode).costs
        units = {"import": (1, "s import"), "start": (1, "s start"), "point": (1e6, "µs a point"), "close": (1, "s close")}
        parts = [f"{seconds[name][0] * scale:.3g} {unit}" for name, (scale, unit) in units.items() if name in seconds]
        if parts:
            lines.append(EvidenceLine(f"{mode}: {', '.join(parts)}", tuple(quote for _, quote in seconds.values())))
    folder = found.probe("points", "offline").folder / "left"
    files = [path for path in folder.rglob("*") if path.is_file()]
    if files:
        size = sum(path.stat().st_size for path in files)
        lines.append(EvidenceLine(f"{size / 1e3:,.0f} kB on disk for {probing.POINTS:,} points and what is captured by itself",
                          (evidence.Quote(f"{found.tracker}/points-offline/left", f"{len(files)} files, {size:,} bytes"),)))
    return lines


def killed(found: Evidence) -> list[EvidenceLine]:
    """Return how many of the points survived kill -9 at once after the last."""
    probe = found.probe("killed", "offline")
    if "point" not in probe.costs:
        return []
    points = [item for item in probe.items if item.name == "metrics/loss"]
    quotes = tuple(item.quote for item in points[-1:]) or (probe.costs["point"][1],)
    return [EvidenceLine(f"{len(points):,} of {probing.POINTS:,} points are left by kill -9 at once after the last", quotes)]


def secrets(found: Evidence) -> list[EvidenceLine]:
    """Return which planted secrets the client wrote down."""
    lines = []
    for mode in ("offline", "online"):
        for what, secret in _PLANTED.items():
            for name, data in evidence.contents(found.probe("bare", mode).folder):
                if secret.encode() in data:
                    where = "on disk" if mode == "offline" else "on the server"
                    quote = evidence.Quote(f"{found.tracker}/bare-{mode}/{name}", _around(data, secret))
                    lines.append(EvidenceLine(f"{mode}: {what} is written down {where}", (quote,)))
                    break
    return lines or [EvidenceLine("neither planted password is written down")] if found.probe("bare", "offline").items else []


def outside(found: Evidence) -> list[EvidenceLine]:
    """Return what the client tried to reach beyond this machine."""
    reached = {quote.text: quote for probe in found.probes.values() for quote in probe.outside}
    if not reached and any(probe.problem for probe in found.probes.values()):
        return []  # what did not end may have tried
    return [EvidenceLine(text, (quote,)) for text, quote in reached.items()] or [EvidenceLine("nothing beyond this machine")]


FACTS: dict[str, Callable[[Evidence], list[EvidenceLine]]] = {
    "Registry and versions": registry, "Folders": folders, "Costs": costs, "After kill -9": killed,
    "Planted passwords": secrets, "Network": outside}


def _around(data: bytes, secret: str) -> str:
    start = data.index(secret.encode())
    return data[max(0, start - 60):start + len(secret) + 20].decode(errors="replace")


