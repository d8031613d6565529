"""A config is one thing, whatever it is written as, and what a record cannot hold is an error that names the key."""

import argparse
import dataclasses
import datetime
import enum
import json
from pathlib import Path

import ml_collections
import numpy as np
import pytest

from mnist_jax import errors
from mnist_jax.record import names, nested


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    betas: tuple[float, float] = (0.9, 0.99)


def recursive() -> dict:
    config: dict = {"a": {}}
    config["a"]["b"] = config
    return config


@pytest.mark.parametrize(("config", "expected"), [
    (None, {}), ({"a": 1}, {"a": 1}), (argparse.Namespace(a=1), {"a": 1}),
    (Optimizer(), {"name": "adam", "betas": [0.9, 0.99]}),
    ({"opt": Optimizer()}, {"opt": {"name": "adam", "betas": [0.9, 0.99]}}),
    (ml_collections.ConfigDict({"a": {"b": (1, 2)}}), {"a": {"b": [1, 2]}}),
    (ml_collections.FrozenConfigDict({"a": {"b": 1}}), {"a": {"b": 1}}),
    ({"path": Path("a/b")}, {"path": "a/b"}),
    ({"n": np.float32(0.5), "m": np.int64(3), "b": np.bool_(True)}, {"n": 0.5, "m": 3, "b": True}),
    ({"when": datetime.date(2026, 1, 2)}, {"when": "2026-01-02"}), ({"color": Color.RED}, {"color": "RED"}),
    ({"set": {3, 1, 2}}, {"set": [1, 2, 3]}), ({"array": np.array([[1, 2]])}, {"array": [[1, 2]]}), ({1: "a"}, {"1": "a"}),
    ({"opt": {}}, {"opt": {}}), ({"layers": [{"width": 3}]}, {"layers": [{"width": 3}]})],
    ids=lambda each: type(each).__name__)
def test_a_config_becomes_nested_json(config, expected):
    assert nested.normalized(config) == expected
    json.dumps(nested.normalized(config), allow_nan=False)


@pytest.mark.parametrize(("config", "message"), [
    ({"model": {"layer": object()}}, r"config\.model\.layer: expected a value"),
    ({"f": print}, r"config\.f: expected a value"),
    ({1: "a", "1": "b"}, r"config\.1: expected each key once"),
    ({"a.b": 1, "a": {"b": 2}}, r"config\.a\.b: expected each dotted path"),
    ([1, 2], "config: expected a mapping"),
    (recursive(), "a group that contains itself"), ({(1, 2): 3}, r"expected a key that is text"),
    ({"z": 1 + 2j}, r"config\.z: expected a value")], ids=lambda each: type(each).__name__)
def test_what_a_record_cannot_hold_is_an_error_that_names_the_key(config, message):
    with pytest.raises(errors.UserError, match=message):
        nested.normalized(config)


def test_an_empty_group_is_a_setting_of_its_own():
    assert dict(nested.flatten({"a": {"b": 1}, "opt": {}})) == {"a.b": 1, "opt": {}}


@pytest.mark.parametrize(("name", "folder"), [
    ("cnn-digits", "cnn-digits"), ("exp/lr=0.1", "exp-lr=0.1"), ("x/../../../y", "x-..-..-..-y"), ("..", "run"), ("", "run"),
    (".hidden", "hidden"), ("a\nb\0c", "a-b-c"), ("é" * 300, "run"), ("x" * 300, "x" * 80), ("/etc/passwd", "etc-passwd")])
def test_a_name_never_leaves_its_folder(name, folder):
    assert names.folder_name(name) == folder
    assert (Path("runs") / names.folder_name(name)).resolve().parent == Path("runs").resolve()
