"""Every value of a config is checked once, and a mistake says what was expected and found."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax import errors
from mnist_jax.train import config as configs
from mnist_jax.train import config_file

KEYS = ["name", "seed", "epochs", "batch_size", "precision", "model.name", "model.features", "model.hidden",
        "model.features_dropout", "model.hidden_dropout", "optimizer.name", "optimizer.learning_rate", "optimizer.schedule",
        "optimizer.momentum", "optimizer.weight_decay", "label_smoothing", "augmentation.shift", "augmentation.rotation",
        "augmentation.scale", "augmentation.elastic", "dataset.name", "dataset.data_dir", "dataset.validation_examples",
        "dataset.split_seed", "dataset.keep", "checkpoint.every_s", "checkpoint.keep"]


def config(**changes) -> dict:
    """Return the CNN's config as a plain dictionary, with dotted changes."""
    values = config_file.load_config("configs/cnn.py").to_dict()
    for path, value in changes.items():
        *groups, key = path.split(".")
        node = values
        for group in groups:
            node = node[group]
        node[key] = value
    return values


@pytest.mark.parametrize(("path", "value", "message"), [
    ("epoch", 3, "did you mean 'epochs'"), ("optimizer.learning_rat", 1, "did you mean 'learning_rate'"),
    ("model.hiden", 3, "did you mean 'hidden'"), ("dataset.data", "", "data_dir"),
    ("epochs", "3", "an integer"), ("epochs", 3.0, "an integer"), ("epochs", True, "an integer"), ("epochs", 0, "from 1"),
    ("seed", -1, "from 0"), ("seed", 2**32, "2\\*\\*32"), ("name", "a/b", "slashes"), ("name", "a\nb", "printable"),
    ("name", "", "printable"), ("name", 3, "text"), ("batch_size", 0, "1 or more"), ("precision", "float16", "bfloat16"),
    ("model.name", "cnm", "did you mean 'cnn'"), ("model", 3, "one of"), ("model.features", 32, "a list of integers"),
    ("model.features", (32, 6.5), r"features\[1\]"), ("model.features", (8, 8, 8), "one or two"),
    ("model.features", (), "widths"),
    ("model.hidden", 0, "widths"), ("model.hidden_dropout", 1.0, "below 1"), ("model.hidden_dropout", -0.1, "at least 0"),
    ("optimizer", 0.1, "a group"), ("optimizer.name", "adam", "did you mean 'adamw'"),
    ("optimizer.learning_rate", float("nan"), "finite"), ("optimizer.learning_rate", 0.0, "above 0"),
    ("optimizer.learning_rate", "fast", "finite number"), ("optimizer.schedule", "cosine", "one_cycle"),
    ("optimizer.weight_decay", -1.0, "from 0"), ("optimizer.learning_rate", 1e300, "1e-30 to 1e30"),
    ("dataset.name", "minst", "did you mean 'mnist'"),
    ("label_smoothing", 1.0, "below 1"), ("augmentation.shift", -1.0, "from 0 to 28"), ("augmentation.scale", 1.0, "0.9"),
    ("augmentation.rotation", 181.0, "degrees"), ("augmentation", 1.0, "a group"),
    ("dataset.validation_examples", -1, "0 or more"), ("dataset.split_seed", -1, "from 0"), ("dataset.data_dir", None, "text")])
def test_a_wrong_value_is_named_in_one_line(path, value, message):
    with pytest.raises(errors.UserError, match=message) as caught:
        configs.from_config(config(**{path: value}))
    assert "\n" not in str(caught.value) and "expected" in str(caught.value) and "found" in str(caught.value)
    assert f"config.{path}" in str(caught.value) or path == "model"


@pytest.mark.parametrize("path", KEYS)
def test_a_missing_key_is_named(path):
    values = config()
    *groups, key = path.split(".")
    node = values
    for group in groups:
        node = node[group]
    del node[key]
    with pytest.raises(errors.UserError, match=f"config.{path}"):
        configs.from_config(values)


def test_a_batch_larger_than_the_data_is_named():
    with pytest.raises(errors.UserError, match="at most the 100 training examples of mnist, found 128"):
        configs.check_examples(configs.from_config(config()), 100)


def test_settings_built_directly_are_checked_too():
    import dataclasses
    with pytest.raises(errors.UserError, match="epochs"):
        configs.check(dataclasses.replace(configs.from_config(config()), epochs=0))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING: st.SearchStrategy[Any] = SCALARS | st.lists(st.integers()) | st.just({})


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=3))
def test_any_values_give_settings_or_one_line(changes):
    order = sorted(changes, key=lambda path: path.count("."))
    try:
        configs.from_config(config(**{path: changes[path] for path in order}))
    except errors.UserError as error:
        assert "\n" not in str(error)
