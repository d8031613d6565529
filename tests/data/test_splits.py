"""The same data has the same digest whichever files it came from, is decoded once, and damage is named."""

import shutil
from pathlib import Path

import pytest

from mnist_jax import errors
from mnist_jax.train import config_file
from tests.helpers import datasets

REAL = Path(__file__).parents[3] / "shared"


def test_one_changed_pixel_is_other_data(idx_folder, tmp_path, cache):
    before = datasets.digests(datasets.load(idx_folder))
    changed = shutil.copytree(idx_folder, tmp_path / "changed")
    content = bytearray((changed / "t10k-images-idx3-ubyte").read_bytes())
    content[-1] ^= 1
    (changed / "t10k-images-idx3-ubyte").write_bytes(content)
    after = datasets.digests(datasets.load(changed))
    assert after[:2] == before[:2] and after[2] != before[2]


def test_the_held_out_examples_depend_on_their_own_seed_alone(idx_folder, cache):
    loaded = datasets.load(idx_folder)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (500, 100, 200)
    rows = [row.tobytes() for part in (loaded.train, loaded.validation) for row in part.images]
    assert len(set(rows)) == 600
    assert datasets.digests(datasets.load(idx_folder)) == datasets.digests(loaded)
    assert datasets.digests(datasets.load(idx_folder, split_seed=1))[1] != datasets.digests(loaded)[1]
    assert len(datasets.load(idx_folder, validation_examples=0).train) == 600
    with pytest.raises(errors.UserError, match="fewer than the 600"):
        datasets.load(idx_folder, validation_examples=600)


if REAL.is_dir():  # real MNIST lies beside the checkout: then these run, too

    def test_real_mnist_is_the_same_from_tfds_and_from_idx(cache):
        prepared = datasets.load(REAL / "tensorflow_datasets", validation_examples=5_000)
        files = datasets.load(REAL / "mnist_idx", validation_examples=5_000)
        assert datasets.digests(prepared) == datasets.digests(files) and prepared.version == files.version == "3.0.1"
        assert (prepared.origin, files.origin) == ("tfds", "idx")
        assert (len(prepared.train), len(prepared.validation), len(prepared.test)) == (55_000, 5_000, 10_000)

    def test_real_mnist_is_learned(tmp_path, tiny):
        from mnist_jax.train import experiment
        config = config_file.load_config("configs/mlp.py")
        config.epochs = 1
        config.dataset.data_dir = str(REAL / "mnist_idx")
        result = experiment.run(config, workdir=tmp_path / "run", watch=False)
        assert result.metrics["test/accuracy"] > 0.96
