"""A record of everything that a tracker's format could lose: odd values, odd names, every kind of event, twice."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_jax import events
from mnist_jax.record import reader, writer
from tests.helpers import records


def write(directory: Path, status: str = "diverged") -> reader.RunRecord:
    command = ("python", "a b.py", "--x='y'")
    run = events.RunInfo(writer.new_id(), "Zahl ∞", 12.5, {"a": {"b": [1, None]}}, command, parent=writer.new_id(),
                         tags=("z", "ä"), description="two\nlines", steps_per_epoch=7)
    with writer.create(directory, run) as recorder:
        recorder.append(*facts(recorder))
        recorder.append(events.Status(5, status))
        recorder.close(status)
    return reader.read(directory)


def facts(recorder: writer.RunWriter) -> list[events.Event]:
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "png")
    image = recorder.blob(picture.getvalue(), "pic.png")
    data, code = recorder.blob(b"diff \xff", "p.diff"), recorder.blob(b"print(1)\n", "m/a.py")
    odd = np.array([1.5, math.nan, math.inf, -math.inf, -0.0, float(np.float32(0.1))])
    steps, many = np.array([1, 2, 3, 4, 5, 2**39]), np.arange(1, 252)
    values = {"none": None, "list": [1, [2, "x"]], "long": "x" * 20_000, "big": 2**70, "nan": math.nan, "null": "null",
              "quoted": '"x"', "digits": "32", "version": "2.0", "true": True, "whole": 1.0, "nested": {"k": math.inf},
              "lines": "é\u2028x\n", "NaN": "NaN", "brackets": "[1]",
              "with/slash": 1, "two..dots": 2, "plain.dot": 3}
    return [
        events.Status(0, "running"), events.Metrics(steps, {"odd/v": odd, "odd/w": odd[::-1]}, steps * 1.0),
        events.Hyperparameters(values),
        events.Text("short", 1, "ü\u2028\n"), events.Text("short", 2, "x"), events.Text("long", 2, "é" * 5000),
        events.Text("empty", 3, ""),
        events.Environment({"missing": None, "flag": True, "text": "null", "packages/x": "1.0"}),
        events.Source(None, None, "null", True, data, (code,)), events.Source("c", "b", None, False, None, ()),
        events.Dataset("n", "train", "v", "1234567890123456789012", 5, (), "o", ()),
        events.Image("i/j", 4, image, "caption"), events.Image("i/j", 5, image, ""),
        events.Artifact("a/b", image, "table", {"x": None, "y": math.inf, "z": "null", "n": 2}),
        events.Model("m", "v", 9, image, ("d1",), (), {"s": math.nan, "t": 1.0}, {"k": None}),
        events.Model("m", "v2", 10, data, (), ("p",), {}, {}),
        # Neptune cuts a series into pieces of 100; what is one event and what are two must still be told apart.
        events.Metrics(many, {"m": many * 0.5, "n": many * 1.0}, many * 2.0),
        events.Metrics(many + 251, {"m": many * 0.5}, many * 2.0), records.point(600, "m"),
        records.point(600, "k"),
        # A run that was interrupted and resumed says two things after the same step.
        events.Text("short", 2, "again"), events.Status(5, "interrupted"), events.Status(5, "running")]
