"""A sync ends with its run, outlives a killed one, and is ended where it makes no progress."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_jax import events
from mnist_jax.record import reader, writer
from mnist_jax.tracking import protocol, receipts, sync
from tests.helpers import offline_files, records

NEPTUNE = protocol.Destination("neptune", "offline")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return records.short_run(tmp_path / "run")


def test_a_child_ignores_the_terminals_signals_and_ends_with_the_run(tmp_path):
    identity = events.RunInfo(writer.new_id(), "short", 0.0, {}, ())
    with writer.create(tmp_path / "run", identity) as recorder:
        recorder.append(events.Status(0, "running"))
        child = sync.SyncProcess(tmp_path / "run", NEPTUNE)
        deadline = time.monotonic() + 60
        while receipts.sync_status(tmp_path / "run", "neptune-offline").confirmed < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(child._process.pid, signal.SIGINT)
        os.killpg(child._process.pid, signal.SIGTERM)
        recorder.append(events.Status(1, "finished"))
        recorder.close("finished")
    (status,) = sync.finish([child])
    assert status.state == "complete" and status.confirmed == 2


def test_a_child_outlives_its_parent_and_says_failed(tmp_path):
    """The parent is killed: the record ends without a status, and so does the replica."""
    code = ("import os, sys; from pathlib import Path; from mnist_jax import events\n"
            "from mnist_jax.record import writer; from mnist_jax.tracking import protocol, sync\n"
            "directory = Path(sys.argv[1])\n"
            "recorder = writer.create(directory, events.RunInfo(writer.new_id(), 'killed', 0.0, {}, ()))\n"
            "recorder.append(events.Status(0, 'running'))\n"
            "child = sync.SyncProcess(directory, protocol.Destination('neptune', 'offline'))\n"
            "os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")])
    deadline = time.monotonic() + 60
    while receipts.sync_status(tmp_path / "run", "neptune-offline").state != "complete" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert receipts.sync_status(tmp_path / "run", "neptune-offline").state == "complete"
    assert reader.read(tmp_path / "run").status == "killed"
    fields, _ = offline_files.neptune(tmp_path / "run" / "sync" / "neptune-offline")
    assert fields["run/final_status"] == "failed"


def test_a_child_without_progress_is_ended_within_the_bound(recorded, monkeypatch):
    monkeypatch.setattr(sync, "NO_PROGRESS_S", 0.5)
    child = sync.SyncProcess(recorded, NEPTUNE)
    os.killpg(child._process.pid, signal.SIGSTOP)
    started = time.monotonic()
    (status,) = sync.finish([child])
    assert time.monotonic() - started < 3 and status.state != "complete"


def test_the_end_of_a_run_is_seen_though_a_forked_process_keeps_the_pipe_open(tmp_path):
    code = ("import os, sys, time; from pathlib import Path; from mnist_jax import events\n"
            "from mnist_jax.record import writer; from mnist_jax.tracking import protocol, sync\n"
            "directory = Path(sys.argv[1])\n"
            "with writer.create(directory, events.RunInfo(writer.new_id(), 'forks', 0.0, {}, ())) as recorder:\n"
            "    recorder.append(events.Status(0, 'running'))\n"
            "    (process,) = sync.start(directory, [protocol.Destination('neptune', 'offline')])\n"
            "    if os.fork() == 0:\n        time.sleep(20)\n        os._exit(0)\n"
            "    recorder.close('finished')\n"
            "started = time.monotonic()\n"
            "(status,) = sync.finish([process])\n"
            "print(status.state, time.monotonic() - started < 8)\n"
            "sys.stdout.flush()\nos._exit(0)")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline().strip() == "complete True"
        process.kill()
