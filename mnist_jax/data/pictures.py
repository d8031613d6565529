"""Converts a picture of a digit to the format of MNIST: 28x28, light on black, 20 pixels high, centred by its mass.

The last steps are those of the data set (LeCun et al. 1998; yann.lecun.org/exdb/mnist). A 28x28 picture is only inverted,
if it is dark on light. Pillow reads the files.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from mnist_jax import errors

_SIDE, _BOX = 28, 20  # pixels
_FAINT = 0.25  # of the strongest stroke; a weaker pixel is paper
_MOST_PIXELS = 100_000_000


def read(path: Path | str) -> np.ndarray:
    """Return uint8[28, 28, 1] of a picture file: grey or colour, dark on light or light on dark, any size.

    Raises:
      UserError: the file is not a picture, or the picture is blank.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise ValueError(f"{picture.width}x{picture.height} pixels")
                upright = ImageOps.exif_transpose(picture)
                grey = _grey(upright)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise errors.UserError(f"{path}: expected a picture such as PNG or JPEG, found: {problem}") from error
    if np.ptp(grey) < 8:
        raise errors.UserError(f"{path}: expected a picture of a digit, found a blank one")
    return prepare(grey)[..., None]


def prepare(grey: np.ndarray) -> np.ndarray:
    """Return uint8[28, 28] of float[H, W] from 0 to 255."""
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    paper = float(np.median(border))
    if paper > (float(grey.min()) + float(grey.max())) / 2:
        grey, paper = 255 - grey, 255 - paper
    if grey.shape == (_SIDE, _SIDE):
        return np.round(grey).astype(np.uint8)
    ink = np.clip(grey - paper, 0, None)
    ink = np.clip(ink / max(float(np.quantile(ink, 0.995)), ink.max() / 2), 0, 1)
    ink[ink < _FAINT] = 0
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    return _centre(_fit(cut))


def _grey(picture: object) -> np.ndarray:
    """Return float64[H, W]; behind transparent pixels lies white or black, whichever contrasts with the rest."""
    from PIL import Image

    assert isinstance(picture, Image.Image)
    if picture.mode in ("I", "I;16", "F"):
        values = np.asarray(picture, np.float64)
        return (values - values.min()) * (255 / max(float(np.ptp(values)), 1))
    layers = np.asarray(picture.convert("RGBA"), np.float64)
    grey, opaque = layers[..., :3] @ [0.299, 0.587, 0.114], layers[..., 3] / 255
    behind = 255.0 if (grey * opaque).sum() < 127 * opaque.sum() else 0.0
    return grey * opaque + behind * (1 - opaque)


def _fit(ink: np.ndarray) -> np.ndarray:
    """Scale so that the longer side has 20 pixels."""
    from PIL import Image

    scale = _BOX / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape]
    picture = Image.fromarray((ink * 255).astype(np.uint8)).resize((size[1], size[0]), Image.Resampling.BOX
                                                                   if scale < 1 else Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float64)
    return pixels * (255 / max(pixels.max(), 1))


def _centre(ink: np.ndarray) -> np.ndarray:
    """Put the centre of mass in the middle of 28x28, as far as the box stays inside."""
    result = np.zeros((_SIDE, _SIDE), np.uint8)
    corner = []
    for axis, side in enumerate(ink.shape):
        mass = ink.sum(1 - axis)
        centre = float((mass * (np.arange(side) + 0.5)).sum() / mass.sum())
        corner.append(min(max(round(_SIDE / 2 - centre), 0), _SIDE - side))
    top, left = corner
    result[top:top + ink.shape[0], left:left + ink.shape[1]] = np.round(ink)
    return result
