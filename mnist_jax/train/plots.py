"""The pictures of a run as PNG bytes. Matplotlib is imported when the first one is drawn, and its state left alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

_GREY = dict(cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def samples(images: np.ndarray, labels: np.ndarray, columns: int = 10) -> bytes:
    """Draw a grid with one class a row: its first examples of uint8[N, 28, 28, 1]."""
    rows = [images[labels == label][:columns] for label in range(10)]
    grid = np.zeros((10 * 28, columns * 28), np.uint8)
    for row, examples in enumerate(rows):
        for column, image in enumerate(examples):
            grid[row * 28:(row + 1) * 28, column * 28:(column + 1) * 28] = image[..., 0]
    figure, axes = _figure(5, 5)
    axes.imshow(grid, **_GREY)
    axes.set_yticks(14 + 28 * np.arange(10), [str(label) for label in range(10)])
    axes.set_xticks([])
    axes.set_ylabel("class")
    return _png(figure)


def confusion_matrix(matrix: np.ndarray) -> bytes:
    """Draw int[10, 10], rows the true class, columns the predicted one; colour is the share of the true class."""
    figure, axes = _figure(6, 5.4)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, row in enumerate(matrix):
        for predicted, count in enumerate(row):
            if count:
                axes.text(predicted, true, str(count), ha="center", va="center", fontsize=8,
                          color="white" if shares[true, predicted] > 0.5 else "black")
    axes.set(xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
    figure.colorbar(picture, ax=axes, label="share of the true class", fraction=0.046)
    return _png(figure)


def mistakes(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, most: int = 24) -> bytes:
    """Draw the most confident mistakes, each with its true and predicted class and the probability given to it."""
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    confidence = probabilities[wrong, predicted[wrong]]
    examples = wrong[np.argsort(-confidence, kind="stable")][:most]
    columns = 8
    rows = max(1, -(-len(examples) // columns))
    figure, axes = _figure(9, 1.45 * rows + 0.2, rows, columns)
    for axis in axes.flat:
        axis.axis("off")
    for axis, example in zip(axes.flat, examples, strict=False):
        axis.imshow(images[example, ..., 0], **_GREY)
        share = probabilities[example, predicted[example]]
        axis.set_title(f"{labels[example]} as {predicted[example]}, {share:.0%}", fontsize=8)
    if not len(examples):
        axes.flat[0].set_title("no mistakes", fontsize=8)
    return _png(figure)


def filters(weights: np.ndarray) -> bytes:
    """Draw the first layer's weights: float[3, 3, 1, F] of a convolution, float[784, F] of a dense layer."""
    pictures = weights[:, :, 0].transpose(2, 0, 1) if weights.ndim == 4 else weights.T.reshape(-1, 28, 28)
    pictures = pictures[:64]
    columns = 8
    rows = -(-len(pictures) // columns)
    figure, axes = _figure(6, 0.75 * rows + 0.2, rows, columns)
    bound = np.abs(pictures).max() or 1.0
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture in zip(axes.flat, pictures, strict=False):
        axis.imshow(picture, cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
    return _png(figure)


def curves(series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Draw losses and accuracies over steps; the names say the split."""
    figure, axes = _figure(9, 3.6, 1, 2)
    for axis, quantity in zip(axes.flat, ("loss", "accuracy"), strict=True):
        for name, (steps, values) in series.items():
            if name.rpartition("/")[2].removeprefix("epoch_") == quantity:
                faint = name == f"train/{quantity}"
                axis.plot(steps, values, label=name, linewidth=0.6 if faint else 1.6, alpha=0.4 if faint else 1,
                          marker="o" if len(steps) == 1 else None)
        axis.set(xlabel="step", ylabel=quantity)
        if quantity == "loss":
            axis.set_yscale("log")
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    return _png(figure)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib import figure  # not pyplot: no global state, no backend is chosen for the user

    drawing = figure.Figure(figsize=(width, height), layout="constrained")
    return drawing, drawing.subplots(rows, columns, squeeze=rows * columns == 1)


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})
    return stream.getvalue()
