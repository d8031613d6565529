"""The record keeps what it was given, on disk when append returns, and names every byte that changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import errors, events
from mnist_jax.record import blobs, reader, run_file, writer


def identity() -> events.RunInfo:
    return events.RunInfo(writer.new_id(), "test", 1.5, {"seed": 0}, ("run.py",), tags=("a",))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with writer.create(tmp_path / "run", identity()) as recorder:
        blob = recorder.blob(b"bytes", "file.txt")
        recorder.append(events.Status(0, "running"), events.Artifact("file", blob, "text", {}))
        recorder.append(events.Metrics(np.arange(2), {"train/loss": np.array([1.0, 0.5])}, np.zeros(2)))
        recorder.append(events.Status(2, "finished"))
        recorder.close("finished")
    return tmp_path / "run"


def test_what_was_appended_is_read_back_in_order(run):
    recorded = reader.read(run)
    assert [type(entry.event).__name__ for entry in recorded.entries] == ["Status", "Artifact", "Metrics", "Status"]
    assert [entry.sequence for entry in recorded.entries] == [0, 1, 2, 3]
    assert recorded.status == "finished" and recorded.run.tags == ("a",) and recorded.run.config == {"seed": 0}
    assert recorded.last() == {"train/loss": 0.5} and recorded.series() == {"train/loss": ([0, 1], [1.0, 0.5])}
    assert recorded.bytes_of(recorded.of(events.Artifact)[0].blob) == b"bytes"


def test_an_append_is_on_disk_when_it_returns(tmp_path):
    code = ("import os, sys; from pathlib import Path; from mnist_jax import events, record\n"
            "recorder = record.create(Path(sys.argv[1]), events.Run(record.new_id(), 'x', 0.0, {}, ()))\n"
            "[recorder.append(events.Status(step, 'running')) for step in range(20)]\n"
            "os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    recorded = reader.read(tmp_path / "run")
    assert [event.step for event in recorded.of(events.Status)] == list(range(20)) and recorded.status == "killed"


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


def test_every_changed_byte_of_run_json_is_found_or_means_nothing(run):
    path = run / "run.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1:])
        try:
            fields = run_file.read(run)
        except errors.RecordError as error:
            assert "run.json" in str(error)
        else:
            assert fields == json.loads(whole)  # white space


def test_a_changed_blob_is_found(run):
    (blob,) = (run / "blobs").iterdir()
    blob.write_bytes(b"bytez")
    recorded = reader.read(run)
    with pytest.raises(errors.RecordError, match=r"file\.txt"):
        recorded.bytes_of(recorded.of(events.Artifact)[0].blob)


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path):
    """The limit on a file's size stands for the disk; after space is back the same record goes on."""
    code = ("import resource, signal, sys; from pathlib import Path; from mnist_jax import errors, events, record\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "recorder = record.create(Path(sys.argv[1]), events.Run(record.new_id(), 'x', 0.0, {}, ()))\n"
            "recorder.append(events.Status(0, 'running'))\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
            "try:\n    recorder.append(events.Text('long', 1, 'x' * 9000))\n"
            "except errors.RecordError as error:\n    print(error)\n"
            "assert len(record.read(Path(sys.argv[1])).entries) == 1\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
            "recorder.append(events.Text('long', 1, 'x' * 9000))\n"
            "recorder.close('finished')")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot record events 1-1" in done.stdout and "make room" in done.stdout
    assert [type(entry.event).__name__ for entry in reader.read(tmp_path / "run").entries] == ["Status", "Text"]


def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path):
    with writer.create(tmp_path / "run", identity()):
        (tmp_path / "run" / "run.json").rename(tmp_path / "kept")
        with pytest.raises((errors.UserError, errors.RecordError)):
            writer.create(tmp_path / "run", identity())
        (tmp_path / "kept").rename(tmp_path / "run" / "run.json")
        assert reader.read(tmp_path / "run").status == "running"
        with pytest.raises(errors.UserError, match="another process|found a run in it"):
            writer.create(tmp_path / "run", identity())


def test_a_directory_that_cannot_be_made_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match="writable"):
        writer.create(tmp_path / "file" / "run", identity())


def test_a_directory_without_a_run_is_the_users_mistake(tmp_path):
    with pytest.raises(errors.UserError, match=r"run\.json"):
        reader.read(tmp_path)


def test_a_follower_sees_what_is_appended_since(tmp_path):
    with writer.create(tmp_path / "run", identity()) as recorder:
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


def test_the_same_bytes_are_kept_once(run, tmp_path):
    with writer.create(tmp_path / "other", identity()) as recorder:
        assert recorder.blob(b"x", "a").sha256 == recorder.blob(b"x", "b").sha256
    assert len(os.listdir(tmp_path / "other" / "blobs")) == 1


def test_an_atomic_write_leaves_no_partial_file(tmp_path):
    blobs.write_atomically(tmp_path / "file", b"one")
    blobs.write_atomically(tmp_path / "file", b"two")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"two"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interruption_inside_an_append_leaves_all_of_it_or_none(tmp_path, monkeypatch, moment):
    with writer.create(tmp_path / "run", identity()) as recorder:
        recorder.append(events.Status(0, "running"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync" if moment == "after" else "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                recorder.append(events.Text("note", 1, "interrupted"))
        recorder.append(events.Status(1, "interrupted"))
        recorder.close("interrupted")
    kept = [entry.event for entry in reader.read(tmp_path / "run").entries]
    assert kept[0] == events.Status(0, "running") and kept[-1] == events.Status(1, "interrupted")
    assert len(kept) == (3 if moment == "after" else 2)


def test_threads_may_record_into_one_run(tmp_path):
    with writer.create(tmp_path / "run", identity()) as recorder:
        threads = [threading.Thread(target=lambda: [recorder.append(events.Status(step, "running")) for step in range(50)])
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(reader.read(tmp_path / "run").entries) == 200


def test_a_run_that_cannot_be_written_down_leaves_no_lock_behind(tmp_path):
    odd = events.RunInfo(writer.new_id(), "odd", 0.0, {"path": tmp_path}, ())
    with pytest.raises(TypeError):
        writer.create(tmp_path / "run", odd)
    writer.create(tmp_path / "run", identity()).close("finished")
