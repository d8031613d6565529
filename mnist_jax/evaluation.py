"""What a trained state comes to on the test set: scores, pictures, predictions and the model, all recorded."""

from __future__ import annotations

import csv
import io
import resource
import sys
import time

import jax
import numpy as np

from mnist_jax import (
    arrays,
    data,
    events,
    export_model,
    images,
    lineage,
    loop,
    predict,
    pytree,
    record,
    settings,
    tracked,
    train,
)


def record_all(run: tracked.Tracked, experiment: settings.Settings, task: loop.Task, splits: data.Splits,
               state: train.State) -> None:
    """Evaluate on the test set, and record the results and the model."""
    test = jax.device_get(train.evaluate(task.program, state.parameters, task.data["test"]))
    step, now = task.program.steps, time.time()
    scores = {train.TEST_LOSS: float(test.loss), train.TEST_ACCURACY: float(test.accuracy)}
    run.append(loop.one(step, now, scores))
    parameters = pytree.flatten(state.parameters)
    probabilities = predict.softmax(np.asarray(test.logits))
    predicted = probabilities.argmax(1)
    matrix = np.zeros((10, 10), np.int64)
    np.add.at(matrix, (splits.test.labels, predicted), 1)
    first_layer = next(parameters[path] for path in ("conv1/kernel", "dense1/kernel") if path in parameters)
    recorded = record.read(run.directory)
    goes_on_from = lineage.parent(recorded)
    parents = (goes_on_from["model_sha256"],) if goes_on_from and goes_on_from["model_sha256"] else ()
    pictures = {
        "samples": (images.samples(splits.train.images, splits.train.labels), "the first training images of each class"),
        "confusion_matrix": (images.confusion_matrix(matrix), "test set: rows the true class, columns the predicted one"),
        "mistakes": (images.mistakes(splits.test.images, splits.test.labels, probabilities),
                     "test set: the most confident mistakes"),
        "filters": (images.filters(first_layer), "weights of the first layer"),
        "learning_curves": (images.curves(recorded.series()), "losses and accuracies over steps"),
    }
    facts: list[events.Event] = [events.Image(name, step, run.blob(png, f"{name}.png"), caption)
                                 for name, (png, caption) in pictures.items()]
    table = run.blob(_predictions(splits.test.labels, predicted, probabilities), "test_predictions.csv")
    facts.append(events.Artifact("test_predictions", table, "table", {"rows": len(splits.test)}))
    digests = tuple(split.digest for split in (splits.train, splits.validation, splits.test) if len(split))
    origin = {"name": experiment.name, "run": run.run.id, "step": step, "model": experiment.model.name,
              "dataset": experiment.dataset.name, "datasets": list(digests), "scores": scores}
    blob = run.blob(export_model.model_bytes(experiment, state.parameters, origin), f"{experiment.name}.model.zip")
    facts.append(events.Model(experiment.name, run.run.id, step, blob, digests, parents, scores,
                              {"parameters_sha256": arrays.digest(parameters), "jax": jax.__version__}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    facts.append(loop.one(step, time.time(), {"system/peak_memory_bytes": peak,
                                              "system/tracking_seconds": run.tracking_seconds}))
    run.append(*facts)


def _predictions(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["example", "label", "predicted", "probability"])
    for example, (label, guess) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
        writer.writerow([example, label, guess, f"{probabilities[example, guess]:.6f}"])
    return text.getvalue().encode()
