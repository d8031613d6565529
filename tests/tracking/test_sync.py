"""Deliveries: replicas are functions of the record, and nothing a tracker does reaches the run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import errors, events
from mnist_jax.record import reader, writer
from mnist_jax.tracking import attempt, protocol, receipts, replica, sync
from tests.helpers import read_back

NEPTUNE = protocol.Destination("neptune", "offline")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Write a short run that has ended."""
    identity = events.RunInfo(writer.new_id(), "short", 0.0, {}, ())
    with writer.create(tmp_path / "run", identity) as recorder:
        for step in range(1, 6):
            recorder.append(events.Metrics(np.array([step]), {"train/loss": np.array([1.0 / step])}, np.array([step * 1.0])))
        recorder.append(events.Status(5, "finished"))
        recorder.close("finished")
    return tmp_path / "run"


class Memory:
    """A tracker that keeps what it is given; told to, it misbehaves."""

    name = "memory"
    support = dict.fromkeys(events.KINDS.values(), protocol.Support("native", "kept"))

    def __init__(self, fails: str = ""):
        self.fails, self.kept, self.status = fails, [], None

    def _may(self, method: str) -> None:
        if self.fails == method:
            raise ValueError(f"no {method}\nsecond line")
        if self.fails == f"lost {method}":
            raise ConnectionError(f"no {method}\nsecond line")

    def open(self, run, path_of, *, earlier):
        self._may("open")
        self.earlier = earlier
        return "memory"

    def write(self, event):
        self._may("write")
        self.kept.append(event)
        return protocol.Receipt("sent")

    def flush(self, timeout_s):
        self._may("flush")
        return self.fails != "unsure flush"

    def close(self, status, timeout_s):
        self._may("close")
        self.status = status


@pytest.fixture
def memory(monkeypatch) -> Memory:
    tracker = Memory()
    module = type("module", (), {"create": staticmethod(lambda where, folder: tracker)})
    monkeypatch.setattr(protocol, "backend", lambda name: module)
    return tracker


def test_a_delivery_is_the_record_in_order(recorded, memory):
    status = replica.update(recorded, NEPTUNE)
    assert memory.kept == [entry.event for entry in reader.read(recorded).entries]
    assert memory.status == "finished" and status.state == "complete" and status.counts == {"sent": 6}


def test_a_complete_replica_is_left_alone(recorded, memory):
    replica.update(recorded, NEPTUNE)
    replica.update(recorded, NEPTUNE)
    assert len(memory.kept) == 6


@pytest.mark.parametrize("fault", ["open", "lost open", "lost write", "flush", "lost flush", "unsure flush", "close"])
def test_what_a_tracker_raises_ends_the_attempt_with_one_line(recorded, memory, fault):
    memory.fails = fault
    status = replica.update(recorded, NEPTUNE)
    assert status.state == "failed" and "\n" not in status.error
    assert (f"no {fault.rpartition(' ')[2]} second line" in status.error) or "did not confirm" in status.error
    assert status.confirmed == (6 if fault == "close" else 0)
    memory.fails, memory.kept = "", []
    assert replica.update(recorded, NEPTUNE).counts == {"sent": 6} and len(memory.kept) == 6


def test_a_refused_event_has_a_receipt_and_the_others_go_on(recorded, memory):
    memory.fails = "write"
    status = replica.update(recorded, NEPTUNE)
    assert status.state == "complete" and status.counts == {"failed": 6}
    assert "ValueError: no write second line" in status.notes[0]


def test_an_online_delivery_goes_on_from_its_cursor_and_is_told_what_was_confirmed(recorded, memory, monkeypatch):
    monkeypatch.setattr(attempt, "_BATCH", 2)
    server = protocol.Destination("neptune", "online", "host:1")
    facts = [entry.event for entry in reader.read(recorded).entries]
    memory.write = _writes(memory, 3)
    assert replica.update(recorded, server).confirmed == 2 and memory.earlier is None
    memory.write = _writes(memory, 100)
    status = replica.update(recorded, server)
    assert memory.earlier == facts[:2] and memory.kept == facts[:3] + facts[2:]  # the tracker asks its server about the third
    assert status.state == "complete" and status.counts == {"sent": 6}


def test_a_refused_event_is_not_told_as_confirmed_when_the_delivery_goes_on(recorded, memory, monkeypatch):
    monkeypatch.setattr(attempt, "_BATCH", 2)
    server = protocol.Destination("neptune", "online", "host:1")
    facts = [entry.event for entry in reader.read(recorded).entries]

    def write(event):
        if event == facts[0]:
            raise ValueError("never")
        if event == facts[4]:
            raise OSError("gone")
        return protocol.Receipt("sent")

    memory.write = write
    assert replica.update(recorded, server).confirmed == 4
    memory.write = lambda event: protocol.Receipt("sent")
    status = replica.update(recorded, server)
    assert memory.earlier == facts[1:4] and status.counts == {"failed": 1, "sent": 5}


def _writes(memory: Memory, most: int):
    def write(event):
        if len(memory.kept) >= most:
            raise OSError("gone")
        memory.kept.append(event)
        return protocol.Receipt("sent")

    return write


def test_an_incomplete_offline_replica_is_set_aside_and_rewritten_whole(recorded):
    """A delivery killed in the middle leaves a folder; the next one holds every point once."""
    code = ("import os, sys; from pathlib import Path; from mnist_jax import delivery, neptune_tracker, tracking\n"
            "write = neptune_tracker.NeptuneTracker.write\n"
            "count = iter(range(3))\n"
            "neptune_tracker.NeptuneTracker.write = lambda self, event: write(self, event) if next(count, None) is not None "
            "else os.kill(os.getpid(), 9)\n"
            "delivery.deliver(Path(sys.argv[1]), tracking.Destination('neptune', 'offline'))")
    killed = subprocess.run([sys.executable, "-c", code, str(recorded)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert receipts.sync_status(recorded, "neptune-offline").state == "open"
    assert replica.update(recorded, NEPTUNE).state == "complete"
    _, series = read_back.neptune(recorded / "sync" / "neptune-offline")
    assert series["train/loss"] == [(step, 1.0 / step) for step in range(1, 6)]
    assert (recorded / "sync" / "neptune-offline.incomplete-1").is_dir()


def test_two_deliveries_to_one_replica_are_refused(recorded, memory):
    (recorded / "sync").mkdir()
    held = receipts.locked(recorded / "sync" / "neptune-offline.jsonl")
    with held, pytest.raises(errors.UserError, match="another process delivers"):
        replica.update(recorded, NEPTUNE)


def test_a_child_ignores_the_terminals_signals_and_ends_with_the_run(tmp_path):
    identity = events.RunInfo(writer.new_id(), "short", 0.0, {}, ())
    with writer.create(tmp_path / "run", identity) as recorder:
        recorder.append(events.Status(0, "running"))
        child = sync.Process(tmp_path / "run", NEPTUNE)
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
    """The parent is killed: the record ends without an status, and so does the replica."""
    code = ("import os, sys; from pathlib import Path; from mnist_jax import background, events, record, tracking\n"
            "directory = Path(sys.argv[1])\n"
            "recorder = record.create(directory, events.Run(record.new_id(), 'killed', 0.0, {}, ()))\n"
            "recorder.append(events.Status(0, 'running'))\n"
            "child = background.Process(directory, tracking.Destination('neptune', 'offline'))\n"
            "os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")])
    deadline = time.monotonic() + 60
    while (state := receipts.sync_status(tmp_path / "run", "neptune-offline").state) != "complete" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert state == "complete" and reader.read(tmp_path / "run").status == "killed"
    fields, _ = read_back.neptune(tmp_path / "run" / "sync" / "neptune-offline")
    assert fields["run/final_status"] == "failed"


def test_a_child_without_progress_is_ended_within_the_bound(recorded, monkeypatch):
    monkeypatch.setattr(sync, "NO_PROGRESS_S", 0.5)
    child = sync.Process(recorded, NEPTUNE)
    os.killpg(child._process.pid, signal.SIGSTOP)
    started = time.monotonic()
    (status,) = sync.finish([child])
    assert time.monotonic() - started < 3 and status.state != "complete"


def test_the_end_of_a_run_is_seen_though_a_forked_process_keeps_the_pipe_open(tmp_path):
    code = ("import os, sys, time; from pathlib import Path; from mnist_jax import background, events, record, tracking\n"
            "directory = Path(sys.argv[1])\n"
            "with record.create(directory, events.Run(record.new_id(), 'forks', 0.0, {}, ())) as recorder:\n"
            "    recorder.append(events.Status(0, 'running'))\n"
            "    (process,) = background.start(directory, [tracking.Destination('neptune', 'offline')])\n"
            "    if os.fork() == 0:\n        time.sleep(20)\n        os._exit(0)\n"
            "    recorder.close('finished')\n"
            "started = time.monotonic()\n"
            "(status,) = background.finish([process])\n"
            "print(status.state, time.monotonic() - started < 8)\n"
            "sys.stdout.flush()\nos._exit(0)")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "complete True"
        process.kill()
