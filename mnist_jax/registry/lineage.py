"""The lineage of a model: the chain from its digest back to run, config, data, source and environment.

The chain is not trusted: `problems` computes every digest again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.data import splits
from mnist_jax.record import arrays, blobs, checkpoint, files, reader, run_file
from mnist_jax.registry import model_file


def chain(directory: Path | str) -> dict[str, Any]:
    """Return the chain of a run's last model, as JSON.

    Raises:
      UserError: there is no run, or it has no model.
      RecordError: its record is damaged.
    """
    directory = Path(directory)
    record = reader.read(directory)
    models = record.of(events.Model)
    if not models:
        raise errors.UserError(f"{directory}: expected a run with a model, found none (its status is {record.status}); finish "
                               f"the run first")
    model: events.Model = models[-1]
    source = record.of(events.Source)[-1:]
    environment = record.of(events.Environment)[-1:]
    return {
        "model": {"name": model.name, "sha256": model.blob.sha256, "size": model.blob.size,
                  "parameters_sha256": model.metadata.get("parameters_sha256"), "parents": list(model.parents)},
        "run": {"id": record.run.id, "name": record.run.name, "directory": str(directory.resolve()),
                "status": record.status, "created": record.run.created, "command": list(record.run.command),
                "events": run_file.read(directory)["events"]},
        "parent": parent(record),
        "step": model.step,
        "config": json.loads(json.dumps(record.run.config)),
        "datasets": {fact.split: {"name": fact.name, "version": fact.version, "digest": fact.digest,
                                  "examples": fact.examples, "origin": fact.origin} for fact in record.of(events.Dataset)},
        "source": [{"commit": fact.commit, "remote": fact.remote, "dirty": fact.dirty,
                    "patch_sha256": fact.patch.sha256 if fact.patch else None, "files": len(fact.files)} for fact in source],
        "environment": dict(environment[0].facts) if environment else {},
        "metrics": record.last(),
    }


def parent(record: reader.RunRecord) -> dict[str, Any] | None:
    """Return what a run records of the run that it starts from: run, directory, step, model_sha256."""
    texts = [text.text for text in record.of(events.Text) if text.name == "parent"]
    if not texts:
        return None
    try:
        origin = json.loads(texts[0])
        return {name: origin[name] for name in ("run", "directory", "step", "model_sha256")} | origin
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # a text of the user's own that has this name


def problems(directory: Path | str, descendants: tuple[Path, ...] = ()) -> list[str]:
    """Return a line for each file and event of a run, and of its parents, that does not match its digest.

    Args:
      descendants: the directories from which the search came here.
    """
    directory = Path(directory)
    lines: list[str] = []
    for path in sorted((directory / "blobs").glob("[0-9a-f]*")):
        try:
            if files.digest(path) != path.name:
                lines.append(f"{path}: damaged: its bytes do not match the digest that is its name")
        except OSError as error:
            lines.append(f"{path}: damaged: {error.strerror}")
    for path in checkpoint.paths(directory):
        lines += _errors(lambda path=path: checkpoint.read(path))
    lines += _errors(lambda: run_file.read(directory))
    lines += _errors(lambda: list(reader.Follower(directory).new()))
    if not lines:
        lines += _errors(lambda: reader.read(directory)) or _links(reader.read(directory), descendants)
    return lines


def data_problems(directory: Path | str) -> list[str]:
    """Return a line for each split whose data does not match the recorded digest, or cannot be loaded."""
    record = reader.read(directory)
    dataset = record.config.get("dataset")
    facts = record.of(events.Dataset)
    if not facts:
        return []
    if not isinstance(dataset, Mapping):
        return ["the data could not be checked: the config of the run does not name it"]
    try:
        data = splits.load_data(dataset["name"], dataset["data_dir"], dataset["validation_examples"], dataset["split_seed"])
    except (errors.UserError, KeyError, TypeError) as error:
        return [f"the data could not be checked: {error}"]
    digests = {name: split.digest for name, split in data.items()}
    return [f"data {fact.split}: expected the digest {fact.digest}, found {digests.get(fact.split)}"
            for fact in facts if digests.get(fact.split) != fact.digest]


def _links(record: reader.RunRecord, descendants: tuple[Path, ...]) -> list[str]:
    """Return a line for every reference from one event to another that does not match."""
    lines: list[str] = []
    for entry in record.entries:
        for blob in events.blobs(entry.event):
            lines += _errors(lambda blob=blob: blobs.read(record.directory, blob))
    digests = {fact.digest for fact in record.of(events.Dataset)}
    for model in record.of(events.Model):
        where = f"{record.directory}: model {model.name}"
        try:
            model_contents = model_file.unpack(record.bytes_of(model.blob))
        except (ValueError, errors.RecordError) as error:
            lines.append(f"{where}: {error}")
            continue
        if arrays.digest(model_contents.parameters) != model.metadata.get("parameters_sha256"):
            lines.append(f"{where}: its parameters do not match the digest that the run recorded")
        if (model_contents.facts.get("run"), model_contents.facts.get("step")) != (record.run.id, model.step):
            lines.append(f"{where}: expected run {record.run.id}, step {model.step} in its model.json, found run "
                         f"{model_contents.facts.get('run')}, step {model_contents.facts.get('step')}")
        if missing := set(model.datasets) - digests:
            lines.append(f"{where}: trained on data {', '.join(sorted(missing))}, which the run did not record")
    origin = parent(record)
    if origin:
        parent_directory = Path(str(origin["directory"]))
        descendants = (*descendants, record.directory.resolve())
        if parent_directory.resolve() in descendants:
            lines.append(f"{record.directory}: expected its parent {origin['run']} in {parent_directory}, found a run that "
                         f"comes from it")
        elif not (parent_directory / "run.json").exists():
            lines.append(f"{record.directory}: expected its parent {origin['run']} in {parent_directory}, found no run there")
        else:
            lines += problems(parent_directory, descendants)
    return lines


def _errors(check: Any) -> list[str]:
    """Return the error of a check as a line, or nothing."""
    try:
        check()
    except (errors.RecordError, errors.UserError, OSError) as error:
        return [str(error)]
    return []
