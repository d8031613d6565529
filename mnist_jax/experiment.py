"""Settings in, a recorded run out: begun, gone on with, or found finished.

Nothing here waits for a tracker before the run is over; the record is the truth, and only it may stop the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mnist_jax import (
    checkpoint,
    devices,
    errors,
    events,
    interruption,
    lineage,
    nested,
    profile,
    receipts,
    record,
    settings,
    tracked,
    tracking,
    train,
    trainer,
)

ENDED = ("finished", "diverged")  # the outcomes of a run that does not go on
_AGAIN = "reproduction"  # tag of a run that repeats its parent from the beginning
# What a child may not change, since the state of its parent would not fit or would mean something else.
_KEPT = ("model.", "dataset.", "batch_size", "optimizer.name")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to."""

    directory: Path
    outcome: str
    metrics: Mapping[str, float]  # last value of each
    seconds: float
    deliveries: tuple[receipts.Replica, ...]


class _Parent(NamedTuple):
    id: str
    fact: events.Text  # what the child records of it
    saved: checkpoint.Checkpoint


def run(config: settings.Settings | Mapping[str, Any], *, tracker: tracking.Choice = "local", tracker_mode: str = "auto",
        workdir: str | Path | None = None, parent: str | Path | None = None, reproduces: str | None = None,
        stop_after: int | None = None, watch: bool = True, script: Sequence[str | Path] = (), command: Sequence[str] = (),
        profile_to: str | Path | None = None, started: float | None = None) -> Result:
    """Train, evaluate and record one experiment, and deliver it to trackers.

    The same `workdir` again goes on with a run that was killed, interrupted or out of disk, to the same bits as if it never
    had been; a finished one is returned as it is.

    Args:
      config: checked settings, or a ConfigDict with every key.
      tracker: comma-separated names, or third parties' objects; "local" is the record alone.
      tracker_mode: "offline", "online", or "auto": online where the tracker's credentials are in the environment.
      workdir: the run's directory; by default `runs/<time>-<name>`.
      parent: directory of a run to go on from, as a new run: more epochs, another learning rate.
      reproduces: id of a run that this one repeats from the beginning; recorded as its parent.
      stop_after: interrupt the run after so many updates.
      watch: show a progress bar where there is a terminal.
      script: files to keep as source beside this package: the script and the config file.
      command: the command line that started the run.
      profile_to: a folder for jax's trace of the training and a table of the start-up, which is printed, too.
      started: unix time at which the program started, for system/seconds_to_first_step.

    Raises:
      UserError: a setting, the data, the tracker or the directory is not as expected.
      RecordError: the record cannot be written, is damaged, or says something else than this run does.
      KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; what was reached is recorded, and a checkpoint saved.
    """
    started = started or time.time()
    startup = profile.Startup(started)
    startup.mark("python, flags, imports")
    experiment = settings.check(config) if isinstance(config, settings.Settings) else settings.from_config(config)
    trainer.refuse_mistakes(experiment, tracker, tracker_mode)
    before, first = None, devices.is_first()
    if first and workdir and (Path(workdir) / "run.json").exists():
        before = found(Path(workdir), experiment, None if reproduces else parent)
    if devices.any_of(before is not None and before.outcome in ENDED):
        if before:
            print(f"{workdir}: this run was {before.outcome} before; nothing is trained", file=sys.stderr)
        return _result(before) if before else Result(Path(workdir or ""), "finished", {}, 0.0, ())
    startup.mark("devices")
    prepared = trainer.prepare(experiment, [before] if before else [])
    startup.mark("data")
    origin = _parent(Path(parent), experiment, prepared.program) if (
        first and parent and not (before and lineage.parent(before))) else None
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(interruption.Signals())
        runs: list[tracked.Tracked] = []
        stack.callback(trainer.say_interrupted, signals, runs)
        if not first:  # this one leaves no trace
            tracker, watch, workdir = "local", False, stack.enter_context(tempfile.TemporaryDirectory())
        runs.append(run := stack.enter_context(tracked.track(
            experiment.name, dataclasses.asdict(experiment), tracker=tracker, tracker_mode=tracker_mode, workdir=workdir,
            tags=(experiment.model.name, experiment.dataset.name, *([_AGAIN] if reproduces else [])),
            parent=reproduces or (origin.id if origin else None), resume=before is not None,
            steps_per_epoch=prepared.program.steps_per_epoch, command=command, script=script, created=started)))
        startup.mark("record, and start of deliveries")
        if origin:  # the state first: what is recorded is there
            checkpoint.copy(origin.saved, run.directory)
            run.append(origin.fact)
        with profile.traced(profile_to):
            trainer.train_recorded(runs, [experiment], prepared, signals, stop_after=stop_after, watch=watch, started=started)
        run.close()
        recorded = record.read(run.directory)
    signals.exit()
    if profile_to:
        table = startup.table(recorded)
        Path(profile_to, "startup.txt").write_text(f"{table}\n")
        print(table)
    return Result(run.directory, run.outcome, recorded.last(), time.time() - started, tuple(run.deliveries))


def _result(recorded: record.Recorded) -> Result:
    """Return what a run has come to before."""
    return Result(recorded.directory, recorded.outcome, recorded.last(), recorded.entries[-1].time - recorded.run.created,
                  tuple(receipts.replicas(recorded.directory)))


def keep_compiled(folder: Path) -> None:
    """Keep compiled programs on disk for the next start. For programs, not libraries: it sets jax's configuration."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def found(directory: Path, experiment: settings.Settings, parent: str | Path | None) -> record.Recorded:
    """Return the run in a directory, if it is this experiment's."""
    recorded = record.read(directory)
    if differing := _differing(recorded, experiment):
        raise errors.UserError(f"{directory}: expected the run of this config, found one with other settings: "
                               f"{', '.join(differing)}; choose another workdir")
    if not parent and recorded.run.parent and _AGAIN not in recorded.run.tags and not lineage.parent(recorded):
        raise errors.UserError(f"{directory}: expected the state of its parent, found a child that was stopped before it had "
                               f"one; name the parent again with --parent")
    if parent and recorded.run.parent != record.read(parent).run.id:
        raise errors.UserError(f"{directory}: expected a child of {parent}, found a run with "
                               f"{'another parent' if recorded.run.parent else 'no parent'}; choose another workdir")
    return recorded


def _differing(recorded: record.Recorded, experiment: settings.Settings, keys: tuple[str, ...] = ("",)) -> list[str]:
    """Return what differs between the config of a run and these settings, among the keys that begin so."""
    mine = dict(nested.flatten(dataclasses.asdict(experiment)))
    theirs = dict(nested.flatten(recorded.run.config))
    return [f"{key} ({theirs.get(key)!r} there, {mine.get(key)!r} here)" for key in sorted({*mine, *theirs})
            if theirs.get(key) != mine.get(key) and key.startswith(keys)]


def _parent(directory: Path, experiment: settings.Settings, program: train.Program) -> _Parent:
    """Return what a child of a run goes on from."""
    recorded = record.read(directory)
    if differing := _differing(recorded, experiment, _KEPT):
        raise errors.UserError(f"--parent={directory}: expected a run with the same model, data and batch size, found "
                               f"{', '.join(differing)}; train without a parent")
    saved, damaged = checkpoint.newest(directory)
    if saved is None:
        raise errors.UserError(f"--parent={directory}: expected a run with a checkpoint, found "
                               f"{f'only damaged ones: {damaged[0]}' if damaged else 'none'}")
    if saved.step >= program.steps:
        raise errors.UserError(f"--parent={directory}: expected epochs to go on with, found {experiment.epochs}, and the "
                               f"parent has done {saved.step // program.steps_per_epoch}; raise --config.epochs")
    models = recorded.of(events.Model)
    fact = {"run": recorded.run.id, "directory": str(directory.resolve()), "step": saved.step,
            "model_sha256": models[-1].blob.sha256 if models else None}
    return _Parent(recorded.run.id, events.Text("parent", saved.step, json.dumps(fact)), saved)
