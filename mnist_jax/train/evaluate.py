"""Evaluates a trained state on the test set, and records scores, pictures, predictions and the model."""

from __future__ import annotations

import csv
import io
import resource
import sys
import time

import jax
import numpy as np

from mnist_jax import events
from mnist_jax.data import splits
from mnist_jax.record import arrays, reader
from mnist_jax.registry import lineage, predict
from mnist_jax.tracking import run as tracking_run
from mnist_jax.train import config, export, plots, pytree, recorder, step


def record_all(run: tracking_run.Run, experiment: config.ExperimentConfig, data: splits.Splits, program: step.Program,
               state: step.State, test_data: step.Data) -> None:
    """Evaluate on the test set, and record the results and the model."""
    test = jax.device_get(step.compiled(program).evaluate(state.parameters, test_data))
    last_step, now = program.steps, time.time()
    scores = {recorder.TEST_LOSS: float(test.loss), recorder.TEST_ACCURACY: float(test.accuracy)}
    run.append(recorder.single_values(last_step, now, scores))
    parameters = pytree.flatten(state.parameters)
    probabilities = predict.softmax(np.asarray(test.logits))
    predicted = probabilities.argmax(1)
    matrix = np.zeros((10, 10), np.int64)
    np.add.at(matrix, (data.test.labels, predicted), 1)
    first_layer = next(parameters[path] for path in ("conv1/kernel", "dense1/kernel") if path in parameters)
    record = reader.read(run.directory)
    parent = lineage.parent(record)
    parents = (parent["model_sha256"],) if parent and parent["model_sha256"] else ()
    pictures = {
        "samples": (plots.samples(data.train.images, data.train.labels), "the first training images of each class"),
        "confusion_matrix": (plots.confusion_matrix(matrix), "test set: rows the true class, columns the predicted one"),
        "mistakes": (plots.mistakes(data.test.images, data.test.labels, probabilities),
                     "test set: the most confident mistakes"),
        "filters": (plots.filters(first_layer), "weights of the first layer"),
        "learning_curves": (plots.curves(record.series()), "losses and accuracies over steps"),
    }
    facts: list[events.Event] = [events.Image(name, last_step, run.blob(png, f"{name}.png"), caption)
                                 for name, (png, caption) in pictures.items()]
    table = run.blob(_predictions(data.test.labels, predicted, probabilities), "test_predictions.csv")
    facts.append(events.Artifact("test_predictions", table, "table", {"rows": len(data.test)}))
    digests = tuple(split.digest for _, split in data.items())
    origin = {"name": experiment.name, "run": run.info.id, "step": last_step, "model": experiment.model.name,
              "dataset": experiment.dataset.name, "datasets": list(digests), "scores": scores}
    blob = run.blob(export.model_bytes(experiment, state.parameters, origin), f"{experiment.name}.model.zip")
    facts.append(events.Model(experiment.name, run.info.id, last_step, blob, digests, parents, scores,
                              {"parameters_sha256": arrays.digest(parameters), "jax": jax.__version__}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    facts.append(recorder.single_values(last_step, time.time(), {"system/peak_memory_bytes": peak,
                                                       "system/tracking_seconds": run.tracking_seconds}))
    run.append(*facts)


def _predictions(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["example", "label", "predicted", "probability"])
    for example, (label, guess) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
        writer.writerow([example, label, guess, f"{probabilities[example, guess]:.6f}"])
    return text.getvalue().encode()
