"""A model is asked with what people have: pictures of any kind, and a file that runs without this package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_jax import errors, events
from mnist_jax.cli import main
from mnist_jax.data import pictures, splits
from mnist_jax.record import blobs, reader
from mnist_jax.registry import model_file, predict, store
from mnist_jax.train import config_file, experiment


@pytest.fixture(scope="module")
def digits_run(world, tmp_path_factory) -> Path:
    """Train on the embedded digits for long enough to read a clear one."""
    config = config_file.load_config("configs/mlp.py:digits")
    config.epochs = 8
    return experiment.run(config, workdir=tmp_path_factory.mktemp("digits") / "run", watch=False).directory


@pytest.fixture(scope="module")
def digit(digits_run) -> tuple[np.ndarray, int]:
    """Return a test image that the model is sure of, and its class."""
    test = splits.load_data("digits").test
    sure = predict.load_model(digits_run).probabilities(test.images)
    chosen = int(np.argmax(np.where(sure.argmax(1) == test.labels, sure.max(1), 0)))
    return test.images[chosen, ..., 0], int(test.labels[chosen])


def larger(image: np.ndarray) -> Image.Image:
    """Return a picture of 280x400 pixels, the digit off its middle."""
    page = Image.new("L", (280, 400))
    page.paste(Image.fromarray(image).resize((196, 196), Image.Resampling.BICUBIC), (70, 20))
    return page


def inked(image: np.ndarray, ink: int) -> Image.Image:
    return Image.eval(larger(image), lambda value: 230 - value * ink // 255)


KINDS = {
    "as it is": lambda image: Image.fromarray(image),
    "inverted": lambda image: Image.fromarray(255 - image),
    "larger": larger,
    "larger, dark on light": lambda image: Image.eval(larger(image), lambda value: 255 - value),
    "colour": lambda image: Image.merge("RGB", [inked(image, ink) for ink in (30, 210, 200)]),
    "faint": lambda image: Image.eval(larger(image), lambda value: 140 - value // 5),
    "transparent": lambda image: Image.merge("RGBA", [*[Image.new("L", (280, 400), 0)] * 3, larger(image)]),
    "sixteen bits": lambda image: Image.fromarray(np.asarray(larger(image)).astype(np.uint16) * 200),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_any_kind_is_read(digits_run, digit, tmp_path, kind):
    image, label = digit
    KINDS[kind](image).save(tmp_path / "digit.png")
    (prediction,) = predict.predict_images(predict.load_model(digits_run), [tmp_path / "digit.png"])
    assert prediction.label == label and prediction.probabilities[label] > 0.5
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)


def test_a_picture_of_the_data_set_is_not_changed(digit):
    image, _ = digit
    assert (pictures.prepare(image.astype(float)) == image).all()


def test_the_answer_names_the_version_that_gave_it(digits_run, digit, tmp_path, capsys):
    image, label = digit
    Image.fromarray(image).save(tmp_path / "digit.png")
    root = tmp_path / "registry"
    store.register(root, "digits", digits_run)
    store.promote(root, "digits@1", "production")
    arguments = ["predict", "digits@production", str(tmp_path / "digit.png"), f"--registry={root}"]
    assert main.main(arguments) == 0
    line = capsys.readouterr().out
    assert f"digit.png: {label}  " in line and "(digits version 1)" in line
    assert main.main([*arguments, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)[0]["probabilities"]) == 10


@pytest.mark.parametrize(("content", "message"), [(b"no picture", "expected a picture"), (b"", "expected a picture"),
                                               (None, "No such file")])
def test_what_is_no_picture_is_reported(digits_run, tmp_path, capsys, content, message):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    assert main.main(["predict", str(digits_run), str(path)]) == 2
    assert message in capsys.readouterr().err


def test_a_name_that_is_no_model_is_reported(tmp_path):
    with pytest.raises(errors.UserError, match="model file, a run's directory, or NAME@VERSION"):
        predict.load_model("nothing", tmp_path)


BARE = ["jax", "jaxlib", "numpy", "numpy.libs", "scipy", "scipy.libs", "ml_dtypes", "opt_einsum", "flatbuffers"]


@pytest.fixture
def bare_folder(tmp_path) -> Path:
    """Return a folder with jax, what it needs, and flatbuffers: all that a program outside this package needs."""
    folder = tmp_path / "bare"
    folder.mkdir()
    installed = Path(np.__file__).parent.parent
    for name in BARE:
        if (installed / name).exists():
            (folder / name).symlink_to(installed / name)
    for path in installed.glob("jax*.dist-info"):
        (folder / path.name).symlink_to(path)
    return folder


def test_a_model_file_runs_without_this_package(digits_run, bare_folder, tmp_path):
    recorded = reader.read(digits_run)
    blob = recorded.of(events.Model)[0].blob
    images = np.random.default_rng(0).integers(0, 256, (33, 28, 28, 1), np.uint8)
    (tmp_path / "model.zip").write_bytes(blobs.read(digits_run, blob))
    np.save(tmp_path / "images.npy", images)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-S", "model.zip", "images.npy", "--logits=logits.npy"]
    result = subprocess.run(command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(bare_folder)}, capture_output=True,
                            text=True, check=True)
    ours = predict.load_model(digits_run).logits(images)
    assert np.load(tmp_path / "logits.npy").tobytes() == ours.tobytes(), "bit-identical at the same batch size"
    assert [int(line) for line in result.stdout.split()] == ours.argmax(1).tolist()
    model = predict.load_model(digits_run)
    rows = np.concatenate([model.logits(images[:7]), model.logits(images[7:])])
    np.testing.assert_allclose(rows, ours, atol=1e-5)


def test_an_older_jax_is_told_which_version_it_needs(digits_run, tmp_path):
    inside = model_file.unpack(blobs.read(digits_run, reader.read(digits_run).of(events.Model)[0].blob))
    newer = model_file.ModelFile({**inside.facts, "jax": "99.1"}, b"\xff" + inside.program[1:40], inside.parameters)
    (tmp_path / "model.zip").write_bytes(model_file.pack(newer))
    with pytest.raises(errors.UserError, match="pip install 'jax>=99.1'"):
        predict.load_model(tmp_path / "model.zip")
    np.save(tmp_path / "images.npy", np.zeros((1, 28, 28, 1), np.uint8))
    command = [sys.executable, "model.zip", "images.npy"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "pip install 'jax>=99.1'" in result.stderr
