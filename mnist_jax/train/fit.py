"""Trains one or many runs of one program, from their checkpoints if they have some: chunk by chunk train, record, save if due,
stop if requested; then evaluate.
"""

from __future__ import annotations

import contextlib
import time
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mnist_jax import errors, events, secrets
from mnist_jax.data import splits
from mnist_jax.record import arrays, checkpoint, reader
from mnist_jax.tracking import run as tracking_run
from mnist_jax.train import config, devices, evaluate, identity, loop, progress, pytree, recorder, signals, step, vectorize


class PreparedData(NamedTuple):
    """The program that runs share, and its data on the host."""

    program: step.Program
    splits: splits.Splits
    facts: list[events.Dataset]  # of the splits that have examples


class MemberRun(NamedTuple):
    """One of the runs that train together."""

    run: tracking_run.Run
    experiment: config.ExperimentConfig
    recorded_step: int  # the record, with its parent's, holds every update up to this one
    start: str | None = None  # digest of the parent's checkpoint that it starts from


def prepare(experiment: config.ExperimentConfig, existing_runs: Sequence[reader.RunRecord]) -> PreparedData:
    """Return the data and the program of an experiment.

    Raises:
      UserError: the data cannot be loaded, is too small, or is not the data of the existing runs.
    """
    dataset = experiment.dataset
    data = splits.load_data(dataset.name, dataset.data_dir, dataset.validation_examples, dataset.split_seed)
    config.check_examples(experiment, len(data.train))
    facts = [events.Dataset(dataset.name, name, data.version, split.digest, len(split), split.images.shape[1:],
                            data.origin, split.class_counts()) for name, split in data.items()]
    for existing_run in existing_runs:
        _refuse_other_data(existing_run, facts)
    return PreparedData(step.program(experiment, len(data.train), jax.default_backend()), data, facts)


def fit(members: Sequence[MemberRun], prepared: PreparedData, stop_signals: signals.Signals, *, watch: bool, started: float,
        stop_after: int | None = None) -> None:
    """Train, evaluate and record runs, and set their statuses.

    Args:
      watch: show a progress bar where there is a terminal.
      started: unix time at which the program started.
      stop_after: interrupt after so many updates.
    """
    program, runs = prepared.program, [member.run for member in members]
    strategy = vectorize.strategy(len(runs), jax.default_backend())
    _record_data(members, prepared)
    data = {name: step.Data(*devices.everywhere(program.mesh, (split.images, split.labels)))
            for name, split in prepared.splits.items()}
    program_facts = identity.of(program, members[0].experiment, len(prepared.splits.train))
    origins = [checkpoint.Origin(run.info.id, program_facts, digests(prepared)) for run in runs]
    states, first_step = _restore(members, origins, program)
    states, reached = strategy.gather(program, states), first_step
    last_step, every_s = min(stop_after or program.steps, program.steps), members[0].experiment.checkpoint.every_s
    show = progress.bar(program.steps, program.steps_per_epoch) if watch else None
    record = recorder.Recorder(runs, program.steps_per_epoch, program.batch_size, first_step, started)
    interrupted = False
    with stop_signals.deferred(), _saving(members, origins) as save:
        saved = time.monotonic()
        for chunk in loop.chunks(program, strategy, states, data, first_step, last_step):
            states, reached = chunk.members, chunk.step
            record.add(chunk)
            if show:
                loss, accuracy = np.reshape(jax.device_get(chunk.means), (-1, 2)).mean(0)
                show(reached, float(loss), float(accuracy), chunk.updates / chunk.seconds * program.batch_size * len(runs))
            ends_epoch = reached % program.steps_per_epoch == 0
            interrupted = devices.any_of(bool(stop_signals.received))
            stop = interrupted or reached == last_step
            due = stop or time.monotonic() - saved >= every_s
            if due or ends_epoch:  # record before saving: a checkpoint may not be ahead of the record
                scores = strategy.evaluate(program, states, data["validation"]) if ends_epoch and "validation" in data else None
                record.record(reached, *jax.device_get((strategy.metrics(states), scores)))
            if due:
                save(reached, strategy.scatter(states))
                saved = time.monotonic()
            if stop or all(run.status == "diverged" for run in runs):
                break
    for member, state in zip(members, strategy.scatter(states), strict=True):
        if member.run.status != "diverged":
            member.run.status = "finished" if reached == program.steps and not interrupted else "interrupted"
        if member.run.status == "finished":
            evaluate.record_all(member.run, member.experiment, prepared.splits, program, state.state, data["test"])


def digests(prepared: PreparedData) -> dict[str, str]:
    """Return the digest of each split."""
    return {fact.split: fact.digest for fact in prepared.facts}


def _restore(members: Sequence[MemberRun], origins: Sequence[checkpoint.Origin],
             program: step.Program) -> tuple[list[loop.Member], int]:
    """Return the members at process 0's last common checkpoint, or at their start, and their completed updates.

    Raises:
      RecordError: a checkpoint is not of this program and data, or there is none of the parent's state.
    """
    checkpoints, skipped = checkpoint.common(
        [member.run.directory for member in members],
        [checkpoint.Expected(member.run.info.id, member.recorded_step, member.start) for member in members])
    for line in skipped:
        secrets.warn(f"warning: {line}; it is skipped, and the checkpoint before it is used")
    for saved, origin in zip(checkpoints, origins, strict=False):
        _refuse_other_origin(saved, origin)
    if not checkpoints and any(member.start for member in members):
        raise errors.RecordError(f"{members[0].run.directory}: expected a checkpoint to resume from, since the run starts from "
                                 f"the state of its parent, found none; train a new child with --parent and another --workdir")
    first_step = devices.from_primary(checkpoints[0].step if checkpoints else 0)
    if first_step and devices.is_primary():
        secrets.warn(f"resuming from step {first_step:,} of {program.steps:,}")
    to_restore: list[checkpoint.Checkpoint | None] = [*checkpoints] if checkpoints else [None] * len(members)
    states = [_member(program, member.experiment, first_step, each) for member, each in zip(members, to_restore, strict=True)]
    return states, first_step


def _refuse_other_origin(saved: checkpoint.Checkpoint, origin: checkpoint.Origin) -> None:
    """Raise RecordError for a checkpoint of other data or, but for a parent's, of another program; warn of another jax."""
    differing = [f"the data of {split} ({saved.origin.data.get(split)} there, {origin.data.get(split)} here)"
                 for split in sorted({*saved.origin.data, *origin.data})
                 if saved.origin.data.get(split) != origin.data.get(split)]
    if saved.origin.run == origin.run:
        program, platform = identity.differences(saved.origin.program, origin.program)
        differing += program
        if platform:
            secrets.warn(f"warning: {saved.path.name} was saved under another {', '.join(platform)}; the bits that follow may "
                         f"differ")
    if differing:
        raise errors.RecordError(f"{saved.path}: expected a checkpoint of this program and data, found another: "
                                 f"{', '.join(differing)}; restore what has changed, or train a child run: "
                                 f"--parent={saved.path.parents[1]} with another --workdir")


def _member(program: step.Program, experiment: config.ExperimentConfig, first_step: int,
            saved: checkpoint.Checkpoint | None) -> loop.Member:
    hyper, seed = devices.everywhere(program.mesh, (step.hyper(experiment.optimizer), np.uint32(experiment.seed)))
    init, metrics = step.compiled(program).init, loop.no_metrics(program)
    if first_step == 0:
        return loop.Member(hyper, seed, *devices.everywhere(program.mesh, (init(hyper, seed), metrics)))
    shapes = _checkpoint_tree(loop.Member(hyper, seed, jax.eval_shape(init, hyper, seed), metrics))
    try:
        state = (pytree.restore(shapes, saved.arrays) if saved
                 else jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes))
    except ValueError as error:
        assert saved
        raise errors.RecordError(f"{saved.path}: expected a checkpoint of this program, found another: {error}") from error
    return loop.Member(hyper, seed, **devices.everywhere(program.mesh, devices.from_primary(state)))


def _checkpoint_tree(member: loop.Member) -> dict[str, Any]:
    """Return the part of a member that a checkpoint holds; hyperparameters and seed come from its config."""
    return {"state": member.state, "metrics": member.metrics}


@contextlib.contextmanager
def _saving(members: Sequence[MemberRun], origins: Sequence[checkpoint.Origin]) -> Any:
    """Yield a function that saves the states of the members that have not diverged, without blocking training."""
    with contextlib.ExitStack() as stack:
        savers = [stack.enter_context(checkpoint.saving(member.run.directory, origin, member.experiment.checkpoint.keep))
                  for member, origin in zip(members, origins, strict=True)]

        def save(reached: int, states: Sequence[loop.Member]) -> None:
            for member, saver, state in zip(members, savers, states, strict=True):
                if member.run.status != "diverged":
                    member.run.flush()  # a checkpoint must never be ahead of the record
                    saver.save(reached, pytree.flatten(_checkpoint_tree(state)))

        yield save


def _record_data(members: Sequence[MemberRun], prepared: PreparedData) -> None:
    """Record the data sets of the runs, and the data itself with dataset.keep."""
    for member in members:
        member.run.append(*prepared.facts)
        if member.experiment.dataset.keep:
            columns = {f"{name}_{column}": getattr(split, column)
                       for name, split in prepared.splits.items() for column in ("images", "labels")}
            member.run.artifact(member.experiment.dataset.name, arrays.pack(columns, {}, zipfile.ZIP_DEFLATED), "dataset",
                                {f"{fact.split}_digest": fact.digest for fact in prepared.facts})


def _refuse_other_data(existing_run: reader.RunRecord, facts: Sequence[events.Dataset]) -> None:
    digests = {fact.split: fact.digest for fact in existing_run.of(events.Dataset)}
    differing = [f"{fact.split} ({digests[fact.split]} there, {fact.digest} here)" for fact in facts
                 if digests.get(fact.split, fact.digest) != fact.digest]
    if differing:
        raise errors.UserError(f"{existing_run.directory}: expected the data that this run started with, found other data: "
                               f"{', '.join(differing)}; restore it or choose another workdir")
