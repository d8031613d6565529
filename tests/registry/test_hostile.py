"""A run or a registry that an attacker made: one line for each problem, no hang, nothing large in memory."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from mnist_jax import errors, events
from mnist_jax.record import checkpoint, journal, writer
from mnist_jax.registry import lineage, model_file, predict, store
from tests.helpers import records


def test_files_that_are_none_are_a_line_each(tmp_path):
    directory = records.short_run(tmp_path / "run")
    (directory / "blobs").mkdir(exist_ok=True)
    (directory / "checkpoints").mkdir(exist_ok=True)
    os.mkfifo(directory / "blobs" / ("a" * 64))
    (directory / "blobs" / ("b" * 64)).mkdir()
    (directory / "blobs" / ("c" * 64)).symlink_to("/dev/zero")
    with (directory / "blobs" / ("d" * 64)).open("wb") as file:
        file.truncate(2**40)
    os.mkfifo(directory / "checkpoints" / f"{1:010}-{'a' * 64}.zip")
    (directory / "checkpoints" / f"{2:010}-{'a' * 64}.zip").symlink_to("/dev/zero")
    with (directory / "checkpoints" / f"{3:010}-{'a' * 64}.zip").open("wb") as file:
        file.truncate(2**40)
    lines = lineage.problems(directory)
    assert len(lines) == 7 and all("\n" not in line for line in lines), lines
    newest, damaged = checkpoint.newest(directory)
    assert newest is None and len(damaged) == 3


def test_a_run_that_is_its_own_parent_is_one_line(tmp_path):
    directory = tmp_path / "run"
    with writer.create(directory, records.info()) as recorder:
        fact = {"run": "x", "directory": str(directory), "step": 1, "model_sha256": "0" * 64}
        recorder.append(events.Text("parent", 0, json.dumps(fact)))
        recorder.close("finished")
    (line,) = lineage.problems(directory)
    assert "comes from it" in line


@pytest.mark.parametrize("text", ["hello", "[1]", "{}", "5", "[" * 100_000, '{"run": 1, "directory": 5}'])
def test_a_text_of_the_users_named_parent_is_no_parent(tmp_path, text):
    with writer.create(tmp_path / "run", records.info()) as recorder:
        recorder.append(events.Text("parent", 0, text))
        recorder.close("finished")
    assert lineage.problems(tmp_path / "run") == []


@pytest.mark.parametrize("line", [
    {}, {"action": "register"}, {"action": "roll_back", "alias": "x"},
    {"action": "register", "version": 1, "time": 1.0, "chain": {"model": {"sha256": "../../../x"}}},
    {"action": "register", "version": 1, "time": 1.0, "chain": {"model": {"sha256": "0" * 64}}},
    {"action": "register", "version": 1, "time": 1.0, "chain": {"model": []}},
    {"action": "promote", "alias": [1], "version": 1}])
def test_a_registry_with_lines_that_no_registration_writes_is_damaged(tmp_path, line):
    (tmp_path / "name").mkdir()
    opened = journal.Journal(tmp_path / "name" / "journal.jsonl")
    opened.append([line])
    opened.close()
    with pytest.raises(errors.RecordError, match="damaged"):
        store.find(tmp_path, "name")


@pytest.mark.parametrize("what", ["FIFO", "device", "sparse", "bomb", "no model", "facts"])
def test_a_file_that_is_no_model_is_a_users_mistake(tmp_path, what):
    path, stream = tmp_path / "model.zip", io.BytesIO()
    match what:
        case "FIFO":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "sparse":
            with path.open("wb") as file:
                file.truncate(2**40)
        case "bomb":
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("predict.stablehlo", "w") as file:
                for _ in range(300):
                    file.write(b"\0" * 2**20)
            path.write_bytes(stream.getvalue())
        case "no model":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a.txt", "x")
        case "facts":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("model.json", '["parameters_sha256"]')
                archive.writestr("predict.stablehlo", "x")
    with pytest.raises(errors.UserError, match="expected a model file") as caught:
        predict.load_model(path)
    assert "\n" not in str(caught.value)
    if path.is_file() and what != "sparse":
        with pytest.raises(ValueError):
            model_file.unpack(path.read_bytes())
