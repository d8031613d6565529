"""What a run is and reached, folded from its record: as one JSON object, and as a page of text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mnist_jax import events, receipts, record


def summary(directory: Path) -> dict[str, Any]:
    """Return what `show --json` prints.

    Raises:
      UserError: there is no run in the directory.
      RecordError: its record is damaged.
    """
    recorded = record.read(directory)
    trained = recorded.of(events.Model)
    environment = next(iter(recorded.of(events.Environment)), None)
    source = next(iter(recorded.of(events.Source)), None)
    metrics = recorded.last()
    return {
        "id": recorded.run.id, "name": recorded.run.name, "directory": str(directory), "outcome": recorded.outcome,
        "created": recorded.run.created, "parent": recorded.run.parent, "command": list(recorded.run.command),
        "config": dict(recorded.run.config),
        "steps": max((int(event.steps[-1]) for event in recorded.of(events.Metrics) if len(event.steps)), default=0),
        "parameters_sha256": trained[-1].metadata.get("parameters_sha256") if trained else None,
        "model_sha256": trained[-1].blob.sha256 if trained else None,
        "datasets": {event.split: {"name": event.name, "version": event.version, "digest": event.digest,
                                   "examples": event.examples, "origin": event.origin}
                     for event in recorded.of(events.Dataset)},
        "source": {"commit": source.commit, "dirty": source.dirty} if source else None,
        "environment": dict(environment.facts) if environment else {},
        "metrics": metrics,
        "events": len(recorded.entries),
        "deliveries": {replica.label: replica.summary(len(recorded.entries)) for replica in receipts.replicas(directory)},
    }


def text(facts: dict[str, Any]) -> str:
    """Return the same as a page for a person."""
    source = facts["source"] or {}
    rows = [
        ("run", f"{facts['name']}  {facts['id']}"),
        ("outcome", f"{facts['outcome']}, {facts['steps']} steps, {facts['events']} events"),
        ("created", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["created"]))),
        ("command", " ".join(facts["command"])),
        ("source", f"{source.get('commit') or 'no repository'}{', with uncommitted changes' if source.get('dirty') else ''}"),
        ("device", f"{facts['environment'].get('device')}, {facts['environment'].get('threads')} threads, "
                   f"jax {facts['environment'].get('packages/jax')}"),
        ("parameters", facts["parameters_sha256"] or "none yet"),
    ]
    rows += [(f"data {split}", f"{data['name']} {data['version']}, {data['examples']} examples, {data['digest'][:16]}")
             for split, data in facts["datasets"].items()]
    rows += [(name, f"{value:.6g}") for name, value in sorted(facts["metrics"].items())]
    rows += [(f"to {label}", delivered(state)) for label, state in facts["deliveries"].items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {printable(value)}" for name, value in rows)


def delivered(state: dict[str, Any]) -> str:
    """Return one line on a delivery from its summary."""
    counts = ", ".join(f"{state[name]} {name}" for name in ("sent", "translated", "thinned", "absent", "failed", "pending")
                       if state[name])
    problem = f" ({state['error']})" if state["error"] else ""
    return f"{state['state']}{problem}: {counts or 'nothing yet'}; {state['where']}"


def printable(value: str) -> str:
    """Return a text without control characters, which could steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in value)


def result_table(directory: Path, seconds: float) -> str:
    """Return the short table at the end of a run; its last line is the run's directory."""
    recorded = record.read(directory)
    last = recorded.last()
    rows = [("outcome", recorded.outcome)]
    if "test/accuracy" in last:
        rows.append(("test accuracy", f"{last['test/accuracy']:.2%}"))
    rows.append(("time", f"{seconds:.1f} s"))
    if "system/images_per_second" in last:
        rows.append(("speed", f"{last['system/images_per_second']:,.0f} images/s"))
    for replica in receipts.replicas(directory):
        rows.append((replica.label, delivered(replica.summary(len(recorded.entries)))))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {printable(value)}" for name, value in rows]
    return "\n".join([*lines, str(directory)])


def left_over(directory: Path) -> list[str]:
    """Return a line for each delivery that is not complete, with the command that sends the rest, or has refused events."""
    count, said = len(record.read(directory).entries), []
    for replica in receipts.replicas(directory):
        state = replica.summary(count)
        if state["failed"]:
            said.append(f"{replica.label}: {state['failed']} events refused; show {directory} --json says why")
        if state["state"] != "complete":
            command = receipts.command(directory, replica.label)
            said.append(f"{replica.label}: {state['pending']} events pending; send them with: {command}")
    return said


