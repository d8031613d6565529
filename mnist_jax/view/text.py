"""Shows a run and its results as one JSON object and as text, and registered models and sweeps as text."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import events, secrets
from mnist_jax.record import nested, reader
from mnist_jax.registry import store
from mnist_jax.tracking import receipts


def summary(directory: Path, salvage: bool = False) -> dict[str, Any]:
    """Return what `show --json` prints.

    Args:
      salvage: read a damaged run up to the damage.

    Raises:
      UserError: there is no run in the directory.
      RecordError: its record is damaged.
    """
    record = reader.read(directory, salvage)
    models = record.of(events.Model)
    environment = next(iter(record.of(events.Environment)), None)
    source = next(iter(record.of(events.Source)), None)
    metrics = record.last()
    return {
        "id": record.run.id, "name": record.run.name, "directory": str(directory), "status": record.status,
        "created": record.run.created, "parent": record.run.parent, "command": list(record.run.command),
        "config": dict(record.run.config), "steps": record.steps,
        "parameters_sha256": models[-1].metadata.get("parameters_sha256") if models else None,
        "model_sha256": models[-1].blob.sha256 if models else None,
        "datasets": {event.split: {"name": event.name, "version": event.version, "digest": event.digest,
                                   "examples": event.examples, "origin": event.origin}
                     for event in record.of(events.Dataset)},
        "source": {"commit": source.commit, "dirty": source.dirty} if source else None,
        "environment": dict(environment.facts) if environment else {},
        "metrics": metrics,
        "events": len(record.entries),
        "sync": {status.label: status.summary(len(record.entries)) for status in receipts.sync_statuses(directory)},
    }


def json_text(value: Any) -> str:
    """Return strict JSON: numbers that are not finite are the words "NaN", "Infinity" and "-Infinity", as in a record."""
    return json.dumps(_strict(value), indent=1, allow_nan=False, default=str)


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return events.float_word(value)
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, list | tuple) else value


def text(facts: dict[str, Any]) -> str:
    """Return the same as text for a person."""
    source = facts["source"] or {}
    rows = [
        ("run", f"{facts['name']}  {facts['id']}"),
        ("status", f"{facts['status']}, {facts['steps']} steps, {facts['events']} events"),
        ("created", _time(facts["created"])),
        ("parent", facts["parent"] or "none"),
        ("command", " ".join(facts["command"])),
        ("source", f"{source.get('commit') or 'no repository'}{', with uncommitted changes' if source.get('dirty') else ''}"),
        ("device", f"{facts['environment'].get('device')}, {facts['environment'].get('threads')} threads, "
                   f"jax {facts['environment'].get('packages/jax')}"),
        ("parameters", facts["parameters_sha256"] or "none yet"),
    ]
    rows += [(f"data {split}", f"{data['name']} {data['version']}, {data['examples']} examples, {data['digest'][:16]}")
             for split, data in facts["datasets"].items()]
    rows += [(name, f"{value:.6g}") for name, value in sorted(facts["metrics"].items())]
    rows += [(f"sync {label}", sync_line(state)) for label, state in facts["sync"].items()]
    return _page(rows)


def sync_line(state: dict[str, Any]) -> str:
    """Return the summary of a sync status as one line."""
    counts = ", ".join(f"{state[name]} {name}" for name in ("sent", "converted", "sampled", "unsupported", "failed", "pending")
                       if state[name])
    problem = f" ({state['error']})" if state["error"] else ""
    return f"{state['state']}{problem}: {counts or 'nothing yet'}; {_short_path(state['where'])}"


def version_facts(version: store.Version) -> dict[str, Any]:
    """Return what `registry show --json` prints."""
    return {"name": version.name, "version": version.version, "registered": version.registered,
            "aliases": list(version.aliases), "notes": list(version.notes), "path": str(version.path),
            **version.chain}


def versions_table(versions: Sequence[store.Version]) -> str:
    """Return one line per version: name, version, aliases, score, time, run, notes."""
    rows = [(each.name, f"version {each.version}", ", ".join(each.aliases), _accuracy(each.chain["metrics"]),
             _time(each.registered), f"run {each.chain['run']['id'][:12]}", each.sha256[:12], "; ".join(each.notes))
            for each in versions]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return "\n".join(secrets.printable("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
                     for row in rows) or "nothing is registered yet"


def chain_page(version: store.Version) -> str:
    """Return the chain of a version as text: model, run, step, config, data, source, environment, metrics."""
    facts = version.chain
    model, run, parent = facts["model"], facts["run"], facts["parent"]
    rows = [("model", f"{version.name} version {version.version}{_in_brackets(version.aliases)}, registered "
                      f"{_time(version.registered)}"),
            ("file", f"{version.path}, {model['size']:,} bytes"), ("sha256", model["sha256"]),
            ("parameters", str(model["parameters_sha256"])), *(("note", text) for text in version.notes),
            ("run", f"{run['name']}  {run['id']}"), ("directory", run["directory"]), ("command", " ".join(run["command"])),
            ("sealed", f"{run['events']['count']} events, {run['events']['sha256']}" if run["events"] else run["status"])]
    if parent:
        rows.append(("starts from", f"run {parent['run']}, step {parent['step']}, model {parent['model_sha256']}"))
    rows.append(("step", str(facts["step"])))
    rows += [(f"config {name}", str(value)) for name, value in nested.flatten(facts["config"])]
    rows += [(f"data {split}", f"{data['name']} {data['version']}, {data['examples']} examples, {data['digest']}")
             for split, data in facts["datasets"].items()]
    rows += [("source", f"commit {source['commit'] or 'none'}, patch {source['patch_sha256'] or 'none'}, "
                        f"{source['files']} files") for source in facts["source"]]
    rows += [(f"environment {name}", str(value)) for name, value in facts["environment"].items()]
    rows += [(name, f"{value:.6g}") for name, value in sorted(facts["metrics"].items())]
    return _page(rows)


def result_table(directory: Path, status: str, metrics: Mapping[str, float], seconds: float, events_recorded: int,
                 sync: Sequence[receipts.SyncStatus]) -> str:
    """Return the short table at the end of a run; its last line is the run's directory."""
    rows = [("status", status)]
    if "test/accuracy" in metrics:
        rows.append(("test accuracy", f"{metrics['test/accuracy']:.2%}"))
    rows.append(("time", f"{seconds:.1f} s"))
    if "system/images_per_second" in metrics:
        rows.append(("speed", f"{metrics['system/images_per_second']:,.0f} images/s"))
    rows += [(each.label, sync_line(each.summary(events_recorded))) for each in sync]
    return f"{_page(rows)}\n{_short_path(directory)}"


def sweep_table(directory: Path, seconds: float) -> str:
    """Return the table at the end of a sweep: one line per point of its search, best first; then its directory."""
    facts = json.loads((directory / "sweep.json").read_text())
    lines = [f"{facts['members']} members in {seconds:.1f} s, the best by {facts['chosen_by']}: {facts['best']['directory']}"]
    for row in facts["points"]:
        point = ", ".join(f"{name} {row[name]:g}" for name in ("learning_rate", "momentum", "weight_decay"))
        scores = [f"{name} {row[name]['mean']:.2%}{_interval(row[name]['interval'])}"
                  for name in ("validation/accuracy", "test/accuracy") if name in row]
        lines.append(f"{point}: {', '.join(scores) or 'no result'} ({row['members']} seeds)")
    return "\n".join([*lines, str(directory)])


def _short_path(path: str | Path) -> str:
    """Return a path as a person would type it here; an address as it is."""
    try:
        return str(Path(path).relative_to(Path.cwd())) if str(path).startswith("/") else str(path)
    except (ValueError, FileNotFoundError):  # elsewhere; or the working directory is gone
        return str(path)


def _interval(half: float | None) -> str:
    return "" if half is None else f" ± {half:.2%}"


def _page(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{secrets.printable(name):<{width}}  {secrets.printable(value)}" for name, value in rows)


def _time(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix))


def _accuracy(metrics: Mapping[str, float]) -> str:
    return f"{metrics['test/accuracy']:.2%}" if "test/accuracy" in metrics else ""


def _in_brackets(words: Sequence[str]) -> str:
    return f" ({', '.join(words)})" if words else ""
