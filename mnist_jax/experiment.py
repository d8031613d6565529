"""The only imperative loop: settings in, a recorded run out.

Nothing here waits for a tracker before the run is over; the record is the truth, and only it may stop the run.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mnist_jax import (
    data,
    errors,
    events,
    export_model,
    images,
    model_file,
    predict,
    progress,
    provenance,
    receipts,
    record,
    settings,
    tracked,
    tracking,
    train,
)

_CHUNK_S = 1.0  # between two looks at the world: progress, signals
_FIRST_CHUNK = 16  # updates; how fast the machine is, is not known yet


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to."""

    directory: Path
    outcome: str
    metrics: Mapping[str, float]  # last value of each
    seconds: float
    deliveries: tuple[receipts.Replica, ...]


def run(config: settings.Settings | Mapping[str, Any], *, tracker: tracking.Choice = "local", tracker_mode: str = "auto",
        workdir: str | Path | None = None, watch: bool = True, script: Sequence[str | Path] = (),
        command: Sequence[str] = (), started: float | None = None) -> Result:
    """Train, evaluate and record one experiment, and deliver it to trackers.

    Args:
      config: checked settings, or a ConfigDict with every key.
      tracker: comma-separated names, or third parties' objects; "local" is the record alone.
      tracker_mode: "offline", "online", or "auto": online where the tracker's credentials are in the environment.
      workdir: the run's directory; by default runs/<time>-<name>.
      watch: show a progress bar where there is a terminal.
      script: files to keep as source beside this package: the script and the config file.
      command: the command line that started the run.
      started: unix time at which the program started, for system/seconds_to_first_step.

    Raises:
      UserError: a setting, the data, the tracker or the directory is not as expected.
      RecordError: the record cannot be written.
    """
    started = started or time.time()
    experiment = settings.check(config) if isinstance(config, settings.Settings) else settings.from_config(config)
    provenance.refuse_secrets(dict(settings.flatten(dataclasses.asdict(experiment))))
    tracking.destinations(tracker, tracker_mode)  # a mistake in them should not wait for the data
    if workdir and (Path(workdir) / "run.json").exists():
        return _found(Path(workdir), experiment)
    splits = data.load(experiment.dataset)
    settings.check_examples(experiment, len(splits.train))
    program = train.program(experiment, len(splits.train), jax.default_backend())
    with contextlib.ExitStack() as stack:
        if jax.process_index() > 0:  # process 0 owns the record and the trackers; this one leaves no trace
            tracker, watch, workdir = "local", False, stack.enter_context(tempfile.TemporaryDirectory())
        run = tracked.track(experiment.name, dataclasses.asdict(experiment), tracker=tracker, tracker_mode=tracker_mode,
                            workdir=workdir, tags=(experiment.model.name, experiment.dataset.name),
                            steps_per_epoch=program.steps_per_epoch, command=command, script=script, created=started)
        with run:
            _record_data(run, splits, experiment)
            run.outcome = _train(run, experiment, program, splits, watch, started)
        metrics = record.read(run.directory).last()
    return Result(run.directory, run.outcome, metrics, time.time() - started, tuple(run.deliveries))


def keep_compiled(folder: Path) -> None:
    """Keep compiled programs on disk for the next start. For programs, not libraries: it sets jax's configuration."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _found(directory: Path, experiment: settings.Settings) -> Result:
    """Return what the finished run in a directory came to, if it is this experiment's."""
    recorded = record.read(directory)
    mine = dict(settings.flatten(dataclasses.asdict(experiment)))
    theirs = dict(settings.flatten(recorded.run.config))
    differing = [f"{key} ({theirs.get(key)!r} there, {mine.get(key)!r} here)" for key in sorted({*mine, *theirs})
                 if theirs.get(key) != mine.get(key)]
    if differing:
        raise errors.UserError(f"{directory}: expected the run of this config, found one with other settings: "
                               f"{', '.join(differing)}; choose another --workdir")
    if recorded.outcome != "finished":
        raise errors.UserError(f"{directory}: expected a finished run or an empty directory, found a run that is "
                               f"{recorded.outcome}; choose another --workdir")
    seconds = recorded.entries[-1].time - recorded.run.created
    return Result(directory, recorded.outcome, recorded.last(), seconds, tuple(receipts.replicas(directory)))


def _record_data(run: tracked.Tracked, splits: data.Splits, experiment: settings.Settings) -> None:
    """Record what the data is and, if the settings ask for it, the data itself."""
    name, facts = experiment.dataset.name, []
    for part in ("train", "validation", "test"):
        split: data.Split = getattr(splits, part)
        if len(split):
            facts.append(events.Dataset(name, part, splits.version, split.digest, len(split), split.images.shape[1:],
                                        splits.origin, split.class_counts()))
    run.append(*facts)
    if experiment.dataset.keep:
        arrays = {f"{fact.split}_{column}": getattr(getattr(splits, fact.split), column)
                  for fact in facts for column in ("images", "labels")}
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        run.artifact(name, stream.getvalue(), "dataset", {f"{fact.split}_digest": fact.digest for fact in facts})


def _train(run: tracked.Tracked, experiment: settings.Settings, program: train.Program, splits: data.Splits, watch: bool,
           started: float) -> str:
    """Train to the end and record everything on the way; return the outcome."""
    show = progress.bar(program.steps, program.steps_per_epoch) if watch else None
    seed = jax.device_put(np.uint32(experiment.seed))
    hyper = train.hyper(experiment.optimizer)
    on_device = {name: jax.device_put(train.Data(split.images, split.labels))
                 for name in ("train", "validation", "test") if len(split := getattr(splits, name))}
    state = train.initial_state(program, hyper, seed)
    chunk = _FIRST_CHUNK
    compiled: Any = None
    for epoch in range(experiment.epochs):
        order = train.permutation(len(splits.train), seed, jax.device_put(np.int32(epoch)))
        metrics = jax.device_put(np.zeros((program.steps_per_epoch, 2), np.float32))
        if compiled is None:  # ahead of time, so that no epoch's speed counts it
            compiling = time.perf_counter()
            compiled = train.train_epoch.lower(program, hyper, state, metrics, seed, on_device["train"], order,
                                               jax.device_put(np.int32(0))).compile()
            compile_seconds = time.perf_counter() - compiling
            jax.block_until_ready((order, metrics, on_device))
        first = epoch * program.steps_per_epoch
        done, seconds, marks = 0, 0.0, [(first, time.time())]
        while done < program.steps_per_epoch:
            updates = min(chunk, program.steps_per_epoch - done)
            began = time.perf_counter()
            state, metrics, latest = compiled(hyper, state, metrics, seed, on_device["train"], order,
                                              jax.device_put(np.int32(updates)))
            jax.block_until_ready(latest)
            taken = time.perf_counter() - began
            if epoch == done == 0:
                _record_start(run, started, compile_seconds)
            done, seconds = done + updates, seconds + taken
            marks.append((first + done, time.time()))
            rate = updates / taken
            chunk = max(1, int(rate * _CHUNK_S))
            if show:
                loss, accuracy = jax.device_get(latest)
                show(first + done, float(loss), float(accuracy), rate * program.batch_size)
        evaluation = train.evaluate(program, state.parameters, on_device["validation"]) if "validation" in on_device else None
        fetched = jax.device_get((metrics, evaluation and (evaluation.loss, evaluation.accuracy)))
        _record_epoch(run, fetched, marks, program.steps_per_epoch * program.batch_size / seconds)
        if not np.isfinite(fetched[0][:, 0]).all():
            return "diverged"
    test = jax.device_get(train.evaluate(program, state.parameters, on_device["test"]))
    _record_end(run, experiment, program, splits, state, test)
    return "finished"


def _record_start(run: tracked.Tracked, started: float, compile_seconds: float) -> None:
    now = time.time()
    run.append(_metrics(1, now, {"system/seconds_to_first_step": now - started,
                                 "system/compile_seconds": compile_seconds}))


def _record_epoch(run: tracked.Tracked, fetched: Any, marks: list[tuple[int, float]], images_per_second: float) -> None:
    per_step, validation = fetched
    steps = np.arange(marks[0][0] + 1, marks[-1][0] + 1)
    mark_steps, mark_times = zip(*marks, strict=True)
    times = np.interp(steps, mark_steps, mark_times)  # one program ran between two marks
    loss, accuracy = per_step.astype(np.float64).T
    last, now = int(steps[-1]), float(times[-1])
    epoch = {train.EPOCH_LOSS: float(loss.mean()), train.EPOCH_ACCURACY: float(accuracy.mean())}
    if validation is not None:
        epoch |= {train.VALIDATION_LOSS: float(validation[0]), train.VALIDATION_ACCURACY: float(validation[1])}
    run.append(events.Metrics(steps, {train.TRAIN_LOSS: loss, train.TRAIN_ACCURACY: accuracy}, times),
               _metrics(last, now, epoch),
               _metrics(last, now, {"system/images_per_second": images_per_second}))


def _record_end(run: tracked.Tracked, experiment: settings.Settings, program: train.Program, splits: data.Splits,
                state: train.State, test: train.Evaluation) -> None:
    """Record the test result, the pictures, the predictions and the model."""
    step, now = program.steps, time.time()
    scores = {train.TEST_LOSS: float(test.loss), train.TEST_ACCURACY: float(test.accuracy)}
    run.append(_metrics(step, now, scores))
    parameters = export_model.flat_parameters(state.parameters)
    probabilities = predict.softmax(np.asarray(test.logits))
    predicted = probabilities.argmax(1)
    matrix = np.zeros((10, 10), np.int64)
    np.add.at(matrix, (splits.test.labels, predicted), 1)
    first_layer = next(parameters[path] for path in ("conv1/kernel", "dense1/kernel") if path in parameters)
    pictures = {
        "samples": (images.samples(splits.train.images, splits.train.labels), "the first training images of each class"),
        "confusion_matrix": (images.confusion_matrix(matrix), "test set: rows the true class, columns the predicted one"),
        "mistakes": (images.mistakes(splits.test.images, splits.test.labels, probabilities),
                     "test set: the most confident mistakes"),
        "filters": (images.filters(first_layer), "weights of the first layer"),
        "learning_curves": (images.curves(record.read(run.directory).series()), "losses and accuracies over steps"),
    }
    facts: list[events.Event] = [events.Image(name, step, run.blob(png, f"{name}.png"), caption)
                                 for name, (png, caption) in pictures.items()]
    table = run.blob(_predictions(splits.test.labels, predicted, probabilities), "test_predictions.csv")
    facts.append(events.Artifact("test_predictions", table, "table", {"rows": len(splits.test)}))
    digests = tuple(split.digest for split in (splits.train, splits.validation, splits.test) if len(split))
    origin = {"name": experiment.name, "run": run.run.id, "step": step, "model": experiment.model.name,
              "dataset": experiment.dataset.name, "datasets": list(digests), "scores": scores}
    blob = run.blob(export_model.model_bytes(experiment, state.parameters, origin), f"{experiment.name}.model.zip")
    facts.append(events.Model(experiment.name, run.run.id, step, blob, digests, (), scores,
                              {"parameters_sha256": model_file.digest(parameters), "jax": jax.__version__}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    facts.append(_metrics(step, time.time(), {"system/peak_memory_bytes": peak,
                                              "system/tracking_seconds": run.tracking_seconds}))
    run.append(*facts)


def _predictions(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["example", "label", "predicted", "probability"])
    for example, (label, guess) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
        writer.writerow([example, label, guess, f"{probabilities[example, guess]:.6f}"])
    return text.getvalue().encode()


def _metrics(step: int, now: float, values: Mapping[str, float]) -> events.Metrics:
    return events.Metrics(np.array([step]), {name: np.array([value]) for name, value in values.items()}, np.array([now]))
