"""What the tests share: a world without credentials, a small learnable data set, and one finished run of it."""

import fcntl
import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from mnist_jax.compare import sandbox
from mnist_jax.train import config as configs
from mnist_jax.train import config_file, experiment
from tests.helpers import datasets, tracker_servers

# A shared machine may stall at any moment: a test is about what comes out, not about when.
hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared")

_CREDENTIALS = ("TFDS_DATA_DIR", "NEPTUNE_API_TOKEN", "NEPTUNE_PROJECT", "COMET_API_KEY", "COMET_URL_OVERRIDE",
                "COMET_WORKSPACE", "COMET_PROJECT_NAME")


@pytest.fixture(scope="session", autouse=True)
def world(tmp_path_factory: pytest.TempPathFactory):
    """Keep caches in a folder of the tests, one for all of their processes, and the machine's credentials out of them."""
    cache = shared(tmp_path_factory) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNIST_JAX_CACHE", str(cache))
        for name in _CREDENTIALS:
            patch.delenv(name, raising=False)
        for name, value in tracker_servers.QUICK.items():
            patch.setenv(name, value)
        experiment.keep_compiled(cache / "compiled")
        yield


def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all processes of one call of pytest share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(autouse=True)
def folder_of_the_test(world, tmp_path, monkeypatch, request):
    """Let nothing a test writes land in the repository."""
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 600 training and 200 test images as IDX files: a bright block at the place of the class, and noise."""
    folder = tmp_path_factory.mktemp("idx")
    generator = np.random.default_rng(0)
    for prefix, examples in (("train", 600), ("t10k", 200)):
        labels = generator.integers(0, 10, examples).astype(np.uint8)
        images = generator.integers(0, 60, (examples, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[2 + 8 * row:8 + 8 * row, 1 + 7 * column:6 + 7 * column] = 200
        datasets.write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        datasets.write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture(scope="session")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probe both clients once for all processes of the tests; return the folder of the evidence. Tests change copies of it."""
    folder = shared(tmp_path_factory)
    with (folder / "probing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "evidence").exists():
            sandbox.probe(folder / "evidence")
    return folder / "evidence"


@pytest.fixture(scope="session")
def tiny(world, idx_folder: Path) -> configs.ExperimentConfig:
    """Return settings that train in a second: a small CNN, two epochs of the synthetic data."""
    config = config_file.load_config(str(Path(__file__).parent.parent / "configs" / "cnn.py"))
    config.update_from_flattened_dict({
        "name": "tiny", "epochs": 2, "batch_size": 32, "model.features": (4, 8), "model.hidden": 32,
        "optimizer.learning_rate": 0.02, "dataset.data_dir": str(idx_folder), "dataset.validation_examples": 100})
    return configs.from_config(config)


@pytest.fixture(scope="session")
def finished_run(tiny: configs.ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the tiny settings once, with both real clients offline. Tests read this run and change nothing in it."""
    result = experiment.run(tiny, tracker="neptune,comet", workdir=tmp_path_factory.mktemp("finished") / "run", watch=False)
    return result.directory
