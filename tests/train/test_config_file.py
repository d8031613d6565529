"""The config files are valid, and what is no config file is named."""


import pytest

from mnist_jax import errors
from mnist_jax.record import nested
from mnist_jax.train import config as configs
from mnist_jax.train import config_file

KEYS = ["name", "seed", "epochs", "batch_size", "precision", "model.name", "model.features", "model.hidden",
        "model.features_dropout", "model.hidden_dropout", "optimizer.name", "optimizer.learning_rate", "optimizer.schedule",
        "optimizer.momentum", "optimizer.weight_decay", "label_smoothing", "augmentation.shift", "augmentation.rotation",
        "augmentation.scale", "augmentation.elastic", "dataset.name", "dataset.data_dir", "dataset.validation_examples",
        "dataset.split_seed", "dataset.keep", "checkpoint.every_s", "checkpoint.keep"]


@pytest.mark.parametrize("path", ["configs/cnn.py", "configs/cnn.py:digits", "configs/mlp.py", "configs/mlp.py:kmnist",
                                  "configs/cnn.py:fast", "configs/cnn.py:best", "configs/mlp.py:fast", "configs/mlp.py:best"])
def test_the_config_files_are_valid_and_show_every_setting(path):
    loaded = config_file.load_config(path)
    checked = configs.from_config(loaded)
    assert dict(nested.flatten(loaded.to_dict())).keys() == {
        key for key in KEYS if "mlp" not in path or "features" not in key}
    assert checked.dataset.name in path or checked.dataset.name == "mnist"


@pytest.mark.parametrize("path", ["configs/none.py", "README.md", "configs", "tests/train/test_config.py"])
def test_what_is_no_config_file_is_named(path):
    with pytest.raises(errors.UserError, match="expected"):
        config_file.load_config(path)


def test_an_existing_file_is_taken_before_a_packaged_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("cnn.py:digits", "configs/cnn.py:digits"):
        assert config_file.load_config(path).dataset.name == "digits"
        file = tmp_path / path.partition(":")[0]
        file.parent.mkdir(exist_ok=True)
        file.write_text("def get_config(arg):\n    return arg")
        assert config_file.load_config(path) == "digits" and config_file.resolve(str(file)) == str(file)
    with pytest.raises(errors.UserError, match=r"did you mean 'cnn.py'"):
        config_file.load_config("cnnn.py")
    with pytest.raises(errors.UserError, match="expected a Python file"):
        config_file.load_config(tmp_path / "elsewhere" / "mlp.py")
