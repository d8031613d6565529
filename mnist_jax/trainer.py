"""Runs of one program, one or many: their data and program prepared, the runs trained and evaluated, all of it recorded."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from mnist_jax import (
    arrays,
    checkpoint,
    data,
    errors,
    evaluation,
    events,
    interruption,
    lineage,
    loop,
    nested,
    progress,
    provenance,
    record,
    settings,
    tracked,
    tracking,
    train,
)


class Prepared(NamedTuple):
    """What runs of one program share."""

    splits: data.Splits
    facts: list[events.Dataset]  # of the splits that have examples
    program: train.Program


def train_recorded(runs: Sequence[tracked.Tracked], experiments: Sequence[settings.Settings], prepared: Prepared,
                   signals: interruption.Signals, *, watch: bool, started: float, stop_after: int | None = None) -> None:
    """Train runs of one program from where all of them stand, record what comes of it, and set their outcomes."""
    program, splits = prepared.program, prepared.splits
    for run, each in zip(runs, experiments, strict=True):
        run.append(*prepared.facts)
        if each.dataset.keep:
            _keep_data(run, each.dataset.name, prepared)
    reached = [_reached(record.read(run.directory)) for run in runs]
    common, damaged = checkpoint.common([run.directory for run in runs], reached)
    saved: Sequence[checkpoint.Checkpoint | None] = common or [None] * len(runs)
    for line in damaged:
        print(f"warning: {line}; going on from the one before", file=sys.stderr)
    task = loop.task(program, {fact.split: getattr(splits, fact.split) for fact in prepared.facts})
    begun, steps = zip(*(loop.begin(program, *each) for each in zip(experiments, saved, strict=True)), strict=True)
    if steps[0]:
        print(f"going on from step {steps[0]:,} of {program.steps:,}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals.deferred())
        places = [loop.Place(run, stack.enter_context(checkpoint.saving(run.directory, run.run.id, each.checkpoint.keep)))
                  for run, each in zip(runs, experiments, strict=True)]
        ended = loop.train_on(places, task, list(begun), every_s=experiments[0].checkpoint.every_s, first_step=steps[0],
                              last_step=min(stop_after or program.steps, program.steps), signals=signals, started=started,
                              show=progress.bar(program.steps, program.steps_per_epoch) if watch else None)
    for run, each, member in zip(runs, experiments, ended, strict=True):
        if run.outcome == "finished":
            evaluation.record_all(run, each, task, splits, member.state)


def refuse_mistakes(experiment: settings.Settings, tracker: tracking.Choice, tracker_mode: str) -> None:
    """Raise UserError for what should not wait for the data: a credential in the config, a tracker that is none."""
    provenance.refuse_secrets(dict(nested.flatten(dataclasses.asdict(experiment))))
    tracking.destinations(tracker, tracker_mode)


def prepare(experiment: settings.Settings, before: Sequence[record.Recorded]) -> Prepared:
    """Return the data and the program of an experiment.

    Raises:
      UserError: the data cannot be had, is too little, or is other than runs began with that are to go on.
    """
    splits = data.load(experiment.dataset)
    settings.check_examples(experiment, len(splits.train))
    facts = [events.Dataset(experiment.dataset.name, part, splits.version, split.digest, len(split), split.images.shape[1:],
                            splits.origin, split.class_counts())
             for part in ("train", "validation", "test") if len(split := getattr(splits, part))]
    for recorded in before:
        _refuse_other_data(recorded, facts)
    return Prepared(splits, facts, train.program(experiment, len(splits.train), jax.default_backend()))


def say_interrupted(signals: interruption.Signals, runs: Sequence[tracked.Tracked], directory: Path | None = None) -> None:
    """Tell a person how to go on with runs, or with the directory that holds them, if a signal stopped them."""
    if signals.received and any(run.outcome == "interrupted" for run in runs):
        print(f"interrupted; the same command with --workdir={directory or runs[0].directory} goes on", file=sys.stderr)


def _refuse_other_data(before: record.Recorded, facts: Sequence[events.Dataset]) -> None:
    recorded = {fact.split: fact.digest for fact in before.of(events.Dataset)}
    differing = [f"{fact.split} ({recorded[fact.split]} there, {fact.digest} here)" for fact in facts
                 if recorded.get(fact.split, fact.digest) != fact.digest]
    if differing:
        raise errors.UserError(f"{before.directory}: expected the data that this run began with, found other data: "
                               f"{', '.join(differing)}; restore it or choose another workdir")


def _reached(recorded: record.Recorded) -> int:
    """Return the step up to which a record holds every update, by its parent's record or by its own."""
    origin = lineage.parent(recorded)
    return max([origin["step"] if origin else 0, *recorded.series().get(train.TRAIN_LOSS, ([], []))[0]])


def _keep_data(run: tracked.Tracked, name: str, prepared: Prepared) -> None:
    """Record the data itself."""
    columns = {f"{fact.split}_{column}": getattr(getattr(prepared.splits, fact.split), column)
               for fact in prepared.facts for column in ("images", "labels")}
    packed = arrays.pack(columns, {}, zipfile.ZIP_DEFLATED)
    run.artifact(name, packed, "dataset", {f"{fact.split}_digest": fact.digest for fact in prepared.facts})
