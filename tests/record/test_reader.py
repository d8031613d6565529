"""A record reads back as it was written, while it grows too, and every byte that changed is found."""

import json
import shutil
from pathlib import Path

import pytest

from mnist_jax import errors, events
from mnist_jax.record import reader, run_file, writer
from tests.helpers import records


def test_what_was_appended_is_read_back_in_order(run):
    recorded = reader.read(run)
    assert [type(entry.event).__name__ for entry in recorded.entries] == ["Status", "Artifact", "Metrics", "Status"]
    assert [entry.sequence for entry in recorded.entries] == [0, 1, 2, 3]
    assert recorded.status == "finished" and recorded.run.tags == ("a",) and recorded.run.config == {"seed": 0}
    assert recorded.last() == {"train/loss": 0.5} and records.series_of(recorded) == {"train/loss": ([0, 1], [1.0, 0.5])}
    assert recorded.bytes_of(recorded.of(events.Artifact)[0].blob) == b"bytes"


def unsealed(run: Path) -> Path:
    """Return a copy of a run as if its writer had been killed: run.json does not know how many events there are."""
    fields = json.loads((run / "run.json").read_text())
    fields = {**fields, "status": "running", "events": None}
    fields.pop("sha256")
    fields["sha256"] = run_file.digest(fields)
    copy = run.with_name("unsealed")
    shutil.copytree(run, copy, dirs_exist_ok=True)
    (copy / "run.json").write_text(json.dumps(fields))
    return copy


def test_a_torn_last_line_is_dropped_at_every_cut(run):
    run = unsealed(run)
    whole = (run / "events.jsonl").read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(start, len(whole)):
        (run / "events.jsonl").write_bytes(whole[:cut])
        assert len(reader.read(run).entries) == 3


def test_every_changed_byte_of_the_events_is_found(run):
    path = run / "events.jsonl"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1:])
        with pytest.raises(errors.RecordError, match=r"events.jsonl"):
            reader.read(run)


def test_a_damaged_line_is_named(run):
    path = run / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"file", b"fire", 1) + lines[2] + lines[3])
    with pytest.raises(errors.RecordError, match="line 2"):
        reader.read(run)


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 2, 3], [0, 1, 1, 2, 3], [1, 2, 3], [0, 1, 2], []])
def test_lines_that_moved_or_went_are_found(run, order):
    path = run / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[index] for index in order))
    with pytest.raises(errors.RecordError, match="events.jsonl"):
        reader.read(run)


def test_a_directory_without_a_run_is_the_users_mistake(tmp_path):
    with pytest.raises(errors.UserError, match=r"run\.json"):
        reader.read(tmp_path)


def test_a_follower_sees_what_is_appended_since(tmp_path):
    with writer.create(tmp_path / "run", records.info()) as recorder:
        follower = reader.Follower(tmp_path / "run")
        assert list(follower.new()) == []
        for step in range(3):
            recorder.append(events.Status(step, "running"))
            assert [entry.event.step for entry in follower.new()] == [step]
        with (tmp_path / "run" / "events.jsonl").open("rb+") as file:  # a line that is only half there yet
            whole = file.read()
            file.truncate(len(whole) - 10)
        fresh = reader.Follower(tmp_path / "run")
        assert len(list(fresh.new())) == 2
        (tmp_path / "run" / "events.jsonl").write_bytes(whole)
        assert [entry.event.step for entry in fresh.new()] == [2]
