"""Trains a config as a recorded run, new or resumed. One run is a sweep of one: both call `train_runs`.

Nothing here waits for a tracker before the runs have ended; only the record may stop a run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mnist_jax import errors, events, secrets
from mnist_jax.record import checkpoint, nested, reader
from mnist_jax.registry import lineage
from mnist_jax.tracking import protocol, receipts
from mnist_jax.tracking import run as tracking_run
from mnist_jax.train import config as configs
from mnist_jax.train import devices, fit, profile, recorder, signals

ENDED = ("finished", "diverged")  # the statuses of a run that is not resumed
_REPRODUCTION = "reproduction"  # tag of a run that repeats its parent from the beginning
# Settings that a child must share with its parent, since the parent's state depends on them.
_FIXED_BY_PARENT = ("model.", "dataset.", "batch_size", "optimizer.name")


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """The result of a run."""

    directory: Path
    status: str
    metrics: Mapping[str, float]  # last value of each
    seconds: float
    events: int  # recorded
    sync: tuple[receipts.SyncStatus, ...]  # of each tracker

    def __repr__(self) -> str:
        return f"<Result in {str(self.directory)!r}: {self.status}, {self.events:,} events, {self.seconds:.1f} s>"


class ParentState(NamedTuple):
    """The state that a child starts from."""

    id: str
    fact: events.Text  # which the child records
    saved: checkpoint.Checkpoint


class Plan(NamedTuple):
    """A run to train, with its record if it exists."""

    experiment: configs.ExperimentConfig
    directory: Path | None  # None: a new one
    existing_run: reader.RunRecord | None = None
    parent: str | None = None  # its id
    parent_state: ParentState | None = None
    tags: tuple[str, ...] = ()
    run_id: str | None = None  # of a new run; None: any


def run(config: configs.ExperimentConfig | Mapping[str, Any], *, tracker: protocol.Choice = "local",
        tracker_mode: str = "auto", workdir: str | Path | None = None, parent: str | Path | None = None,
        reproduces: str | None = None, run_id: str | None = None, stop_after: int | None = None, watch: bool = True,
        script: Sequence[str | Path] = (), command: Sequence[str] = (), profile_to: str | Path | None = None,
        started: float | None = None) -> Result:
    """Train, evaluate and record one experiment, and sync it to trackers.

    With the `workdir` of an existing run, it resumes a run that was killed, interrupted or out of disk space, with the same
    bits as without the interruption; the result of a finished run is returned as it is.

    Args:
      config: an ExperimentConfig, or a ConfigDict with every key.
      tracker: comma-separated names, or third parties' objects; "local" is the record alone.
      tracker_mode: "offline", "online", or "auto": online where the tracker's credentials are in the environment.
      workdir: the run's directory; by default `runs/<time>-<name>`.
      parent: directory of a run whose newest checkpoint this one starts from, as a new run: more epochs, another learning rate.
      reproduces: id of a run that this one repeats from the beginning; recorded as its parent.
      run_id: the id of a new run (writer.new_id), where the caller must know it.
      stop_after: interrupt the run after so many updates.
      watch: show a progress bar where there is a terminal.
      script: files to record as source beside this package: the script and the config file.
      command: the command line that started the run.
      profile_to: a folder for jax's trace of the training and a table of the startup, which is also printed.
      started: unix time at which the program started, for system/seconds_to_first_step.

    Raises:
      UserError: a setting, the data, the tracker or the directory is not as expected.
      RecordError: the record cannot be written, is damaged, or differs from this run.
      KeyboardInterrupt, SystemExit: on SIGINT or SIGTERM, after the record and a checkpoint are written.
    """
    started = started or time.time()
    startup = profile.Startup(started)
    startup.mark("python, flags, imports")
    experiment = configs.as_experiment(config)
    refuse_mistakes(experiment, tracker, tracker_mode)
    primary = devices.is_primary()
    existing_run = devices.on_primary(lambda: find_existing(Path(workdir), experiment, None if reproduces else parent) if (
        workdir and (Path(workdir) / "run.json").exists()) else None)
    if devices.any_of(existing_run is not None and existing_run.status in ENDED):
        if existing_run:
            secrets.warn(f"{workdir}: this run is {existing_run.status} already; nothing is trained")
        return _result_of(existing_run) if existing_run else Result(Path(workdir or ""), "finished", {}, 0.0, 0, ())
    startup.mark("devices")
    prepared = fit.prepare(experiment, [existing_run] if existing_run else [])
    startup.mark("data")
    parent_state = devices.on_primary(lambda: _parent_state(Path(parent), experiment, prepared) if (
        parent and not (existing_run and lineage.parent(existing_run))) else None)
    tags = (experiment.model.name, experiment.dataset.name, *([_REPRODUCTION] if reproduces else []))
    with contextlib.ExitStack() as stack:
        if not primary:  # it records nothing
            tracker, watch, workdir = "local", False, stack.enter_context(tempfile.TemporaryDirectory())
        plan = Plan(experiment, Path(workdir) if workdir else None, existing_run,
                    reproduces or (parent_state.id if parent_state else None), parent_state, tags, run_id)
        (finished_run,) = train_runs([plan], prepared, tracker=tracker, tracker_mode=tracker_mode, watch=watch, script=script,
                                     command=command, stop_after=stop_after, startup=startup, profile_to=profile_to)
    if profile_to and primary:
        table = startup.table(finished_run.last)
        Path(profile_to, "startup.txt").write_text(f"{table}\n")
        print(secrets.printable_lines(table.split("\n")))
    return Result(finished_run.directory, finished_run.status, finished_run.last, time.time() - started,
                  finished_run.event_count, tuple(finished_run.sync))


def train_runs(plans: Sequence[Plan], prepared: fit.PreparedData, *, tracker: protocol.Choice, tracker_mode: str, watch: bool,
               startup: profile.Startup, script: Sequence[str | Path] = (), command: Sequence[str] = (),
               stop_after: int | None = None, profile_to: str | Path | None = None, workdir: Path | None = None,
               ) -> list[tracking_run.Run]:
    """Start or resume the record of each run, train all runs in one program, and close them.

    Args:
      workdir: the --workdir that resumes them, where it is not the run's own directory.
    """
    with contextlib.ExitStack() as stack:
        stop_signals = stack.enter_context(signals.Signals())
        members: list[fit.MemberRun] = []
        stack.callback(_print_how_to_resume, stop_signals, members, workdir)
        for plan in plans:
            member_run = stack.enter_context(tracking_run.track(
                plan.experiment.name, dataclasses.asdict(plan.experiment), tracker=tracker, tracker_mode=tracker_mode,
                workdir=plan.directory, tags=plan.tags, parent=plan.parent, existing_run=plan.existing_run,
                steps_per_epoch=prepared.program.steps_per_epoch, command=command, script=script, created=startup.started,
                run_id=plan.run_id))
            if plan.parent_state:  # the state first, since the event refers to it
                checkpoint.copy(plan.parent_state.saved, member_run.directory)
                member_run.append(plan.parent_state.fact)
            members.append(fit.MemberRun(member_run, plan.experiment, *_resumes_from(plan)))
        startup.mark("record, and start of trackers")
        with profile.trace(profile_to):
            fit.fit(members, prepared, stop_signals, stop_after=stop_after, watch=watch, started=startup.started)
        for member in members:
            member.run.close()
    stop_signals.exit()
    return [member.run for member in members]


def refuse_mistakes(experiment: configs.ExperimentConfig, tracker: protocol.Choice, tracker_mode: str) -> None:
    """Raise UserError for mistakes that need no data: a credential in the config, an unknown tracker."""
    secrets.refuse(dict(nested.flatten(dataclasses.asdict(experiment))))
    protocol.destinations(tracker, tracker_mode)


def find_existing(directory: Path, experiment: configs.ExperimentConfig, parent: str | Path | None) -> reader.RunRecord:
    """Return the run in a directory. Raises UserError where it is not of this experiment, or of this parent."""
    record = reader.read(directory)
    if differing := _differing(record, experiment):
        raise errors.UserError(f"{directory}: expected the run of this config, found one with other settings: "
                               f"{', '.join(differing)}; choose another workdir")
    if not parent and record.run.parent and _REPRODUCTION not in record.run.tags and not lineage.parent(record):
        raise errors.UserError(f"{directory}: expected a child with the state of its parent, found one that was stopped before "
                               f"it was copied; name the parent again with --parent")
    if parent and record.run.parent != reader.read(parent).run.id:
        raise errors.UserError(f"{directory}: expected a child of {parent}, found a run with "
                               f"{'another parent' if record.run.parent else 'no parent'}; choose another workdir")
    return record


def keep_compiled(folder: Path) -> None:
    """Cache compiled programs on disk. For programs, not for libraries: it changes jax's configuration."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _result_of(record: reader.RunRecord) -> Result:
    """Return the result of a run that has ended."""
    return Result(record.directory, record.status, record.last(), record.entries[-1].time - record.run.created,
                  len(record.entries), tuple(receipts.sync_statuses(record.directory)))


def _print_how_to_resume(stop_signals: signals.Signals, members: Sequence[fit.MemberRun], workdir: Path | None) -> None:
    if stop_signals.received and any(member.run.status == "interrupted" for member in members):
        secrets.warn(f"interrupted; the same command with --workdir={workdir or members[0].run.directory} resumes")


def _resumes_from(plan: Plan) -> tuple[int, str | None]:
    """Return the step up to which a run's record, or its parent's, holds every update; and the digest of the parent's state."""
    recorded = lineage.parent(plan.existing_run) if plan.existing_run else None
    parent = json.loads(plan.parent_state.fact.text) if plan.parent_state else recorded
    steps = [parent["step"] if parent else 0]
    if plan.existing_run:
        steps += plan.existing_run.series().get(recorder.TRAIN_LOSS, ([], []))[0]
    return max(steps), parent["checkpoint_sha256"] if parent else None


def _differing(record: reader.RunRecord, experiment: configs.ExperimentConfig, keys: tuple[str, ...] = ("",)) -> list[str]:
    """Return the differences between the config of a run and this one, among keys with these prefixes."""
    mine = dict(nested.flatten(dataclasses.asdict(experiment)))
    theirs = dict(nested.flatten(record.run.config))
    return [f"{key} ({theirs.get(key)!r} there, {mine.get(key)!r} here)" for key in sorted({*mine, *theirs})
            if theirs.get(key) != mine.get(key) and key.startswith(keys)]


def _parent_state(directory: Path, experiment: configs.ExperimentConfig, prepared: fit.PreparedData) -> ParentState:
    """Return the state that a child of a run starts from."""
    record = reader.read(directory)
    if differing := _differing(record, experiment, _FIXED_BY_PARENT):
        raise errors.UserError(f"--parent={directory}: expected a run with the same model, data and batch size, found "
                               f"{', '.join(differing)}; train without a parent")
    grandparent, program = lineage.parent(record), prepared.program
    saved, skipped = checkpoint.newest(directory, checkpoint.Expected(
        record.run.id, start=grandparent["checkpoint_sha256"] if grandparent else None))
    if saved is None:
        raise errors.UserError(f"--parent={directory}: expected a run with a checkpoint, found none"
                               f"{f' that can be used: {skipped[0]}' if skipped else ''}")
    for line in skipped:
        secrets.warn(f"warning: {line}; it is skipped, and the checkpoint before it is used")
    if saved.origin.data != fit.digests(prepared):
        raise errors.UserError(f"--parent={directory}: expected the data that the parent was trained with, found other data "
                               f"under {experiment.dataset.data_dir or experiment.dataset.name!r}; restore it or train without "
                               f"a parent")
    if saved.step >= program.steps:
        raise errors.UserError(f"--parent={directory}: expected more epochs than the parent's "
                               f"{saved.step // program.steps_per_epoch}, found {experiment.epochs}; raise --config.epochs")
    models = record.of(events.Model)
    fact = {"run": record.run.id, "directory": str(directory.resolve()), "step": saved.step,
            "checkpoint_sha256": saved.sha256, "model_sha256": models[-1].blob.sha256 if models else None}
    return ParentState(record.run.id, events.Text("parent", saved.step, json.dumps(fact)), saved)
