"""The sections of a report: results of the runs, their differences, and the contents of each."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_jax import errors, events
from mnist_jax.provenance import differences
from mnist_jax.record import nested, reader
from mnist_jax.registry import lineage
from mnist_jax.tracking import receipts
from mnist_jax.view import html

_CLASSES = 10


def overview(runs: Sequence[reader.RunRecord], labels: Sequence[str]) -> str:
    """Return one row a run: status, steps, scores, time, device."""
    rows = []
    for run, label in zip(runs, labels, strict=True):
        last = run.last()
        environment = next(iter(run.of(events.Environment)), events.Environment({})).facts
        seconds = run.entries[-1].time - run.entries[0].time if run.entries else 0.0
        rows.append((label, run.status, f"{run.steps:,}", _percent(last, "test/accuracy"),
                     _percent(last, "validation/accuracy"), f"{last['test/loss']:.4f}" if "test/loss" in last else "",
                     f"{seconds:,.1f} s",
                     f"{last['system/images_per_second']:,.0f}" if "system/images_per_second" in last else "",
                     environment.get("device", ""), time.strftime("%Y-%m-%d %H:%M", time.localtime(run.run.created))))
    return html.table("What the runs reached", ("run", "status", "steps", "test accuracy", "validation accuracy", "test loss",
                                                "time", "images/s", "device", "created"), rows, numbers=True)


def hyperparameters(runs: Sequence[reader.RunRecord], labels: Sequence[str]) -> str:
    """Return the settings that differ between the runs, and, folded, those that are the same."""
    configs = [dict(nested.flatten(run.run.config)) for run in runs]
    names = sorted({name for config in configs for name in config})
    differing = [name for name in names if len({json.dumps(config.get(name), default=str) for config in configs}) > 1]
    rows = [(name, *(config.get(name, "") for config in configs)) for name in differing]
    same = html.table("The same in all runs" if len(runs) > 1 else "Settings", ("setting", "value"),
                      [(name, configs[0].get(name)) for name in names if name not in differing])
    table = html.table("Settings that differ", ("setting", *labels), rows) if rows else ""
    return table + html.details(f"{len(names) - len(differing)} settings{' are the same' if len(runs) > 1 else ''}", same)


def environments(runs: Sequence[reader.RunRecord], labels: Sequence[str]) -> str:
    """Return the differences of each run's environment and source from the first run's, and those of the first."""
    rows = []
    for kind in (events.Environment, events.Source):
        first = next(iter(runs[0].of(kind)), None)
        for run, label in zip(runs[1:], labels[1:], strict=True):
            for fact in run.of(kind)[:1]:
                rows += [(label, kind.__name__, line) for line in differences.between(first, fact)] if first else []
    table = html.table(f"Differences from {labels[0]}", ("run", "what", "difference"), rows) if rows else (
        "<p>Environment and source are the same in all runs.</p>" if len(runs) > 1 else "")
    facts = [(name, value) for fact in runs[0].of(events.Environment)[:1] for name, value in fact.facts.items()]
    sources = [(name, value) for fact in runs[0].of(events.Source)[:1]
               for name, value in (("commit", fact.commit or "no repository"), ("branch", fact.branch or ""),
                                   ("uncommitted changes", "yes" if fact.dirty else "no"), ("files", len(fact.files)))]
    return table + html.details(f"Environment and source of {labels[0]}",
                                   html.table("Environment", ("fact", "value"), facts),
                                   html.table("Source", ("fact", "value"), sources))


def one_run(run: reader.RunRecord, label: str, is_open: bool) -> str:
    """Return the contents of a run: classes, pictures, data, models, sync, texts."""
    contents = [f"<p>Command: <code>{html.text(' '.join(run.run.command))}</code></p>" if run.run.command else ""]
    if run.run.tags or run.run.description:
        contents.append(f"<p>{html.text(', '.join(run.run.tags))} {html.text(run.run.description)}</p>")
    contents += [_classes(run), _pictures(run), _data(run), _lineage(run), _sync(run), _texts(run)]
    return html.details(label, *contents, is_open=is_open)


def _classes(run: reader.RunRecord) -> str:
    """Return the confusion matrix and a row a class, from the recorded predictions."""
    tables = [artifact for artifact in run.of(events.Artifact) if artifact.name == "test_predictions"]
    if not tables:
        return ""
    rows = list(csv.DictReader(io.StringIO(run.bytes_of(tables[-1].blob).decode())))
    matrix = np.zeros((_CLASSES, _CLASSES), np.int64)
    np.add.at(matrix, ([int(row["label"]) for row in rows], [int(row["predicted"]) for row in rows]), 1)
    true, predicted, correct = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    scores = []
    for label in range(_CLASSES):
        precision, recall = correct[label] / max(predicted[label], 1), correct[label] / max(true[label], 1)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        scores.append((label, f"{true[label]:,}", f"{precision:.2%}", f"{recall:.2%}", f"{f1:.4f}"))
    heads = "".join(f'<th scope="col">{label}</th>' for label in range(_CLASSES))
    lines = []
    for label, counts in enumerate(matrix):
        cells = "".join(f'<td style="--share:{count / max(true[label], 1):.4f}">{count or ""}</td>' for count in counts)
        lines.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    confusion = (f'<div class="wide" tabindex="0" role="region" aria-label="Confusion matrix"><table class="confusion">'
                 f"<caption>Confusion matrix of the test set: rows the true class, columns the predicted one</caption>"
                 f"<thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>")
    return confusion + html.table("Each class of the test set", ("class", "examples", "precision", "recall", "F1"), scores,
                                  numbers=True)


def _pictures(run: reader.RunRecord) -> str:
    newest = {image.name: image for image in run.of(events.Image)}
    figures = [html.picture(_png(run, image), f"{image.name}: {image.caption}" if image.caption else image.name)
             for name, image in newest.items() if name not in ("learning_curves", "confusion_matrix")]  # the page has its own
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ""


def _png(run: reader.RunRecord, image: events.Image) -> bytes:
    png = run.bytes_of(image.blob)
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise errors.RecordError(f"{run.directory}: image {image.name!r}: expected a PNG file, found something else")
    return png


def _data(run: reader.RunRecord) -> str:
    rows = [(fact.split, f"{fact.name} {fact.version}", f"{fact.examples:,}", fact.origin, fact.digest[:16],
             " ".join(map(str, fact.class_counts))) for fact in run.of(events.Dataset)]
    return html.table("Data", ("split", "name", "examples", "from", "digest", "examples of each class"), rows) if rows else ""


def _lineage(run: reader.RunRecord) -> str:
    try:
        origin = lineage.parent(run)
    except (ValueError, TypeError):
        origin = None
    rows: list[tuple[Any, ...]] = [("run", run.run.id), ("parent", run.run.parent or "none")]
    if origin:
        rows.append(("starts from", f"step {origin['step']} of {origin['run']}"))
    for model in run.of(events.Model):
        rows += [("model", f"{model.name}, step {model.step:,}"), ("model digest", model.blob.sha256),
                 ("trained on", ", ".join(digest[:16] for digest in model.datasets))]
    return html.table("Lineage", ("what", "which"), rows)


def _sync(run: reader.RunRecord) -> str:
    rows = []
    for status in receipts.sync_statuses(run.directory):
        state = status.summary(len(run.entries))
        counts = (state[name] for name in ("sent", "converted", "sampled", "unsupported", "failed", "pending"))
        rows.append((status.label, state["state"], *counts, "; ".join(state["notes"]) or state["error"], state["where"]))
    return html.table("Sync, by receipts", ("tracker", "state", "sent", "converted", "sampled", "unsupported", "failed",
                                                  "pending", "notes", "where"), rows) if rows else ""


def _texts(run: reader.RunRecord) -> str:
    rows = [(fact.name, fact.step, fact.text[:2_000]) for fact in run.of(events.Text) if fact.name != "parent"]
    return html.table("Texts", ("name", "step", "text"), rows) if rows else ""


def _percent(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.2%}" if name in values else ""
