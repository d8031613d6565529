"""Facts beside the criteria: registry and versions, folders, costs, kills, secrets, and network access of the clients."""

from __future__ import annotations

from collections.abc import Callable

from mnist_jax.compare import evidence, probing
from mnist_jax.compare.criteria import Evidence, EvidenceLine, place

_PLANTED = {"a password in the command line": probing.PLANTED_ARGUMENT,
            "a password in the git remote": probing.PLANTED_REMOTE}


def registry(results: Evidence) -> list[EvidenceLine]:
    """Return the items with a version: models in a registry, artifacts."""
    versioned = [item for item in results.probe("called", "online").items if item.kind in ("registry", "artifact")
                 and '"version"' in item.quote.text]
    words = {"registry": "model", "artifact": "artifact"}
    lines = [EvidenceLine(f"{words[item.kind]} {item.name.removeprefix('registered ')} has a version, online", (item.quote,))
             for item in versioned]
    refused = [call for call in results.probe("called", "offline").calls if not call.accepted
               and call.words.startswith(("init_model", "log_artifact", "register_model"))]
    lines += [EvidenceLine(f"{call.words} is refused offline", (call.quote,)) for call in refused]
    return lines or [EvidenceLine("nothing got a version")]


def folders(results: Evidence) -> list[EvidenceLine]:
    """Return the folders that the client creates, and whether items with a path of the user's are stored at that path."""
    own = {place(results.tracker, item): item.quote for item in reversed(results.probe("bare", "online").items)}
    lines = [EvidenceLine(f"made by the client: {', '.join(sorted(own)) or 'nothing'}", tuple(own.values())[:1])]
    there, elsewhere = by_place(results)
    text = f"{len(there)} of {len(there) + len(elsewhere)} items logged under a path of the user's are stored at that path"
    kinds = ", ".join(sorted({place(results.tracker, item) for item in elsewhere}))
    text += f"; the others under the kind of the method: {kinds}" if elsewhere else ""
    return [*lines, EvidenceLine(text, tuple(item.quote for item in [*there[:2], *elsewhere[:2]]))]


def by_place(results: Evidence) -> tuple[list[evidence.Item], list[evidence.Item]]:
    """Return the items logged under a path of the user's: those stored at that path, and those stored elsewhere."""
    probe = results.probe("called", "online")
    items = [under[0] for call in probe.calls if "/" in call.leaves and (under := probe.items_under(call.leaves))]
    there = [item for item in items if item.name.startswith(f"{place(results.tracker, item)}/")]
    return there, [item for item in items if item not in there]


def costs(results: Evidence) -> list[EvidenceLine]:
    """Return seconds of import, start, close, microseconds a point, and bytes on disk."""
    lines = []
    for mode in ("offline", "online"):
        seconds = results.probe("points", mode).costs
        units = {"import": (1, "s import"), "start": (1, "s start"), "point": (1e6, "µs a point"), "close": (1, "s close")}
        values = [f"{seconds[name][0] * scale:.3g} {unit}" for name, (scale, unit) in units.items() if name in seconds]
        if values:
            lines.append(EvidenceLine(f"{mode}: {', '.join(values)}", tuple(quote for _, quote in seconds.values())))
    folder = results.probe("points", "offline").folder / "files"
    files = [path for path in folder.rglob("*") if path.is_file()]
    if files:
        size = sum(path.stat().st_size for path in files)
        quote = evidence.Quote(f"{results.tracker}/points-offline/files", f"{len(files)} files, {size:,} bytes")
        text = f"{size / 1e3:,.0f} kB on disk for {probing.POINTS:,} points and automatic capture"
        lines.append(EvidenceLine(text, (quote,)))
    return lines


def killed(results: Evidence) -> list[EvidenceLine]:
    """Return how many points survive kill -9 right after the last."""
    probe = results.probe("killed", "offline")
    if "point" not in probe.costs:
        return []
    points = [item for item in probe.items if item.name == "metrics/loss"]
    quotes = tuple(item.quote for item in points[-1:]) or (probe.costs["point"][1],)
    return [EvidenceLine(f"{len(points):,} of {probing.POINTS:,} points survive kill -9 right after the last", quotes)]


def secrets(results: Evidence) -> list[EvidenceLine]:
    """Return which planted passwords the client stored."""
    lines = []
    for mode in ("offline", "online"):
        for what, secret in _PLANTED.items():
            for name, data in evidence.contents(results.probe("bare", mode).folder):
                if secret.encode() in data:
                    where = "on disk" if mode == "offline" else "on the server"
                    quote = evidence.Quote(f"{results.tracker}/bare-{mode}/{name}", _around(data, secret))
                    lines.append(EvidenceLine(f"{mode}: {what} is stored {where}", (quote,)))
                    break
    return lines or [EvidenceLine("neither planted password is stored")] if results.probe("bare", "offline").items else []


def outside(results: Evidence) -> list[EvidenceLine]:
    """Return the hosts that the client tried to reach beyond this machine."""
    reached = {quote.text: quote for probe in results.probes.values() for quote in probe.outside}
    if not reached and any(probe.problem for probe in results.probes.values()):
        return []  # a probe that failed may not have tried yet
    return [EvidenceLine(text, (quote,)) for text, quote in reached.items()] or [EvidenceLine("nothing beyond this machine")]


FACTS: dict[str, Callable[[Evidence], list[EvidenceLine]]] = {
    "Registry and versions": registry, "Folders": folders, "Costs": costs, "After kill -9": killed,
    "Planted passwords": secrets, "Network": outside}


def _around(data: bytes, secret: str) -> str:
    start = data.index(secret.encode())
    return data[max(0, start - 60):start + len(secret) + 20].decode(errors="replace")


