"""Every event survives JSON bit for bit, and what is no event is refused."""

import dataclasses
import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax import events

BLOB = events.Blob("ab" * 32, 7, "a.png")
ODD = np.array([1.5, math.nan, math.inf, -math.inf, -0.0, 5e-324])


def again(event: events.Event) -> events.AnyEvent:
    return events.from_json(type(event).__name__, json.loads(json.dumps(events.to_json(event), allow_nan=False)))


@pytest.mark.parametrize("event", [
    events.Environment({"python": "3.11", "cores": 2, "share": math.nan, "word": "NaN", "none": None, "flag": True}),
    events.Source("abc", None, None, True, BLOB, (BLOB, BLOB)),
    events.Source(None, None, None, False, None, ()),
    events.Dataset("mnist", "train", "3.0.1", "d" * 64, 55_000, (28, 28, 1), "tfds", tuple(range(10))),
    events.Hyperparameters({"a.b": 1, "list": [1, 2.5, "x"], "none": None, "deep": [[1], []]}),
    events.Image("näme", 2**40, BLOB, "caption\nof two lines"),
    events.Artifact("a" * 500, BLOB, "table", {"rows": 3}),
    events.Model("cnn", "1", 10, BLOB, ("d1", "d2"), (), {"test/accuracy": 0.99}, {"jax": "0.10"}),
    events.Text("empty", 0, ""),
    events.Text("long", 0, "é" * 5_000_000),
    events.Status(5, "finished"),
    events.Metrics(np.array([1, 2**40, -1, 3, 4, 2**62]), {"odd": ODD, "m" * 500: ODD[::-1]}, ODD),
], ids=lambda event: type(event).__name__)
def test_an_event_survives_json(event):
    back = again(event)
    if isinstance(event, events.Environment):
        assert repr(back.facts["share"]) == "nan" and back.facts["word"] == "NaN"
        event, back = (events.Environment({**one.facts, "share": 0}) for one in (event, back))
    assert back == event


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_widened_exactly(kind):
    narrow = np.array([0.1, 1e-3, 3.0]).astype(kind)
    back = again(events.Metrics(np.arange(3), {"x": narrow}, np.zeros(3)))
    assert np.array_equal(back.values["x"].astype(kind), narrow)


def test_equality_of_metrics_is_bit_for_bit():
    def one(value):
        return events.Metrics(np.array([1]), {"x": np.array([value])}, np.array([0.0]))
    assert one(math.nan) == one(math.nan) and one(0.0) != one(-0.0)


def test_a_series_has_a_value_for_every_step():
    with pytest.raises(ValueError, match="'x'"):
        events.Metrics(np.arange(3), {"x": np.zeros(2)}, np.zeros(3))


@pytest.mark.parametrize(("kind", "fields"), [
    ("Status", {"step": 1}), ("Status", None), ("Later", [1]),
    ("Metrics", {"steps": ["x"], "values": {}, "times": [0]}), ("Metrics", {"steps": [1], "values": 3, "times": [0]}),
    ("Image", {"name": "x", "step": 1, "blob": 3, "caption": ""}), ("Metrics", {"steps": [2**70], "values": {}, "times": [0]})])
def test_what_is_no_event_is_refused(kind, fields):
    with pytest.raises(ValueError):
        events.from_json(kind, fields)


def test_kinds_and_fields_of_a_later_version_are_read():
    later = events.from_json("Later", {"a": [1]})
    assert later == events.Unknown("Later", {"a": [1]}) and events.to_json(later) == {"a": [1]}
    assert events.kind_of(later) == "Later"
    assert events.from_json("Status", {"step": 1, "state": "x", "more": 1}) == events.Status(1, "x")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(st.sampled_from(sorted(events.KINDS)), JSON)
def test_hostile_json_raises_nothing_but_value_error(kind, value):
    names = [field.name for field in dataclasses.fields(events.KINDS[kind])]
    for fields in (value, dict.fromkeys(names, value)):
        try:
            events.from_json(kind, fields)
        except ValueError:
            pass


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()))
def test_any_facts_survive_json(facts):
    assert again(events.Environment(facts)) == events.Environment(facts)
