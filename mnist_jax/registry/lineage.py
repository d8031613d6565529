"""Where a model came from: the chain from its digest back to run, config, data, source and environment, and its check.

Nothing is trusted because it is written down: `problems` computes every digest again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.data import splits
from mnist_jax.record import arrays, blobs, checkpoint, reader, run_file
from mnist_jax.registry import model_file


def chain(directory: Path | str) -> dict[str, Any]:
    """Return the chain of a run's last model, as JSON.

    Raises:
      UserError: there is no run, or it has no model.
      RecordError: its record is damaged.
    """
    directory = Path(directory)
    recorded = reader.read(directory)
    trained = recorded.of(events.Model)
    if not trained:
        raise errors.UserError(f"{directory}: expected a run with a model, found one that is {recorded.status} without")
    model: events.Model = trained[-1]
    source = recorded.of(events.Source)[-1:]
    environment = recorded.of(events.Environment)[-1:]
    return {
        "model": {"name": model.name, "sha256": model.blob.sha256, "size": model.blob.size,
                  "parameters_sha256": model.metadata.get("parameters_sha256"), "parents": list(model.parents)},
        "run": {"id": recorded.run.id, "name": recorded.run.name, "directory": str(directory.resolve()),
                "status": recorded.status, "created": recorded.run.created, "command": list(recorded.run.command),
                "events": run_file.read(directory)["events"]},
        "parent": parent(recorded),
        "step": model.step,
        "config": json.loads(json.dumps(recorded.run.config)),
        "datasets": {fact.split: {"name": fact.name, "version": fact.version, "digest": fact.digest,
                                  "examples": fact.examples, "origin": fact.origin} for fact in recorded.of(events.Dataset)},
        "source": [{"commit": fact.commit, "remote": fact.remote, "dirty": fact.dirty,
                    "patch_sha256": fact.patch.sha256 if fact.patch else None, "files": len(fact.files)} for fact in source],
        "environment": dict(environment[0].facts) if environment else {},
        "metrics": recorded.last(),
    }


def parent(recorded: reader.RunRecord) -> dict[str, Any] | None:
    """Return what a run has recorded of the run that it goes on from: run, directory, step, model_sha256."""
    texts = [text.text for text in recorded.of(events.Text) if text.name == "parent"]
    return json.loads(texts[0]) if texts else None


def problems(directory: Path | str) -> list[str]:
    """Return a line for everything in a run's directory, and in its parents', that does not match its digest."""
    directory = Path(directory)
    found: list[str] = []
    for path in sorted((directory / "blobs").glob("[0-9a-f]*")):
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            found.append(f"{path}: damaged: its bytes do not match the digest that is its name")
    for path in checkpoint.paths(directory):
        found += _tried(lambda path=path: checkpoint.read(path))
    found += _tried(lambda: run_file.read(directory))
    found += _tried(lambda: list(reader.Follower(directory).new()))
    if not found:
        found += _tried(lambda: reader.read(directory)) or _links(reader.read(directory))
    return found


def data_problems(directory: Path | str) -> list[str]:
    """Return a line for each split whose data does not have the digest that a run recorded, or cannot be had."""
    record = reader.read(directory)
    dataset = record.config.get("dataset")
    recorded = record.of(events.Dataset)
    if not recorded or not isinstance(dataset, Mapping):
        return []
    try:
        loaded = dict(splits.load_data(dataset["name"], dataset["data_dir"], dataset["validation_examples"],
                                       dataset["split_seed"]).items())
    except (errors.UserError, KeyError, TypeError) as error:
        return [f"the data could not be checked: {error}"]
    digests = {name: split.digest for name, split in loaded.items()}
    return [f"data {fact.split}: expected the digest {fact.digest}, found {digests.get(fact.split)}"
            for fact in recorded if digests.get(fact.split) != fact.digest]


def _links(recorded: reader.RunRecord) -> list[str]:
    """Return a line for every reference from one fact to another that does not hold."""
    found: list[str] = []
    for entry in recorded.entries:
        for blob in events.blobs(entry.event):
            found += _tried(lambda blob=blob: blobs.read(recorded.directory, blob))
    digests = {fact.digest for fact in recorded.of(events.Dataset)}
    for model in recorded.of(events.Model):
        where = f"{recorded.directory}: model {model.name}"
        try:
            inside = model_file.unpack(recorded.bytes_of(model.blob))
        except (ValueError, errors.RecordError) as error:
            found.append(f"{where}: {error}")
            continue
        if arrays.digest(inside.parameters) != model.metadata.get("parameters_sha256"):
            found.append(f"{where}: its parameters do not match the digest that the run recorded")
        if (inside.facts.get("run"), inside.facts.get("step")) != (recorded.run.id, model.step):
            found.append(f"{where}: it says that it is of run {inside.facts.get('run')}, step {inside.facts.get('step')}")
        if missing := set(model.datasets) - digests:
            found.append(f"{where}: trained on data {', '.join(sorted(missing))}, which the run did not record")
    origin = parent(recorded)
    if origin:
        place = Path(origin["directory"])
        if not (place / "run.json").exists():
            found.append(f"{recorded.directory}: its parent {origin['run']} is no longer in {place}")
        else:
            found += problems(place)
    return found


def _tried(check: Any) -> list[str]:
    try:
        check()
    except (errors.RecordError, errors.UserError, OSError) as error:
        return [str(error)]
    return []
