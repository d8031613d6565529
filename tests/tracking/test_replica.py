"""A replica is a function of the record, and what a tracker raises is a receipt or ends the attempt with one line."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_jax import errors, events
from mnist_jax.record import reader, writer
from mnist_jax.tracking import protocol, receipt_writer, receipts, replica
from tests.helpers import list_tracker, offline_files, records

NEPTUNE = protocol.Destination("neptune", "offline")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return records.short_run(tmp_path / "run")


@pytest.fixture
def memory(monkeypatch) -> list_tracker.ListTracker:
    """Return the tracker that every destination leads to."""
    tracker = list_tracker.ListTracker()
    module = type("module", (), {"create": staticmethod(lambda where, folder: tracker)})
    monkeypatch.setattr(protocol, "backend", lambda name: module)
    return tracker


def test_a_replica_is_the_record_in_order(recorded, memory):
    status = replica.update(recorded, NEPTUNE)
    assert memory.events == [entry.event for entry in reader.read(recorded).entries]
    assert memory.status == "finished" and status.state == "complete" and status.counts == {"sent": 6}


def test_a_complete_replica_is_left_alone(recorded, memory):
    replica.update(recorded, NEPTUNE)
    replica.update(recorded, NEPTUNE)
    assert len(memory.events) == 6


@pytest.mark.parametrize("fault", [
    "raise in open", "lose the server in open", "lose the server in write", "raise in flush", "lose the server in flush",
    "never confirm", "raise in close"])
def test_what_a_tracker_raises_ends_the_attempt_with_one_line(recorded, memory, fault):
    memory.fault = fault
    status = replica.update(recorded, NEPTUNE)
    assert status.state == "failed" and "\n" not in status.error
    assert (f"no {fault.rpartition(' ')[2]} second line" in status.error) or "did not confirm" in status.error
    assert status.confirmed == (6 if fault == "raise in close" else 0)
    memory.fault, memory.events = "", []
    assert replica.update(recorded, NEPTUNE).counts == {"sent": 6} and len(memory.events) == 6


def test_a_refused_event_has_a_receipt_and_the_others_are_sent(recorded, memory):
    memory.fault = "raise in write"
    status = replica.update(recorded, NEPTUNE)
    assert status.state == "complete" and status.counts == {"failed": 6}
    assert "ValueError: no write second line" in status.notes[0]


def test_an_online_sync_resumes_from_its_cursor_and_is_told_what_was_confirmed(recorded, memory, monkeypatch):
    monkeypatch.setattr(replica, "_BATCH", 2)
    server = protocol.Destination("neptune", "online", "host:1")
    facts = [entry.event for entry in reader.read(recorded).entries]
    memory.write = _writes(memory, 3)
    assert replica.update(recorded, server).confirmed == 2 and memory.earlier is None
    memory.write = _writes(memory, 100)
    status = replica.update(recorded, server)
    assert memory.earlier == facts[:2] and memory.events == facts[:3] + facts[2:]  # the tracker asks its server about the third
    assert status.state == "complete" and status.counts == {"sent": 6}


def test_a_refused_event_is_not_among_the_confirmed_when_the_sync_resumes(recorded, memory, monkeypatch):
    monkeypatch.setattr(replica, "_BATCH", 2)
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


@pytest.mark.parametrize("what", ["missing", "another byte", "link", "an address outside"])
def test_bytes_that_are_not_as_recorded_are_never_sent(tmp_path, memory, what):
    directory, secret = tmp_path / "run", tmp_path / "id_rsa"
    secret.write_bytes(b"secret")
    with writer.create(directory, records.info()) as recorder:
        blob = recorder.blob(b"bytes", "file.txt")
        if what == "an address outside":
            blob = dataclasses.replace(blob, sha256="../../id_rsa", size=6)
        recorder.append(events.Artifact("file", blob, "file", {}))
        recorder.close("finished")
    (path,) = (directory / "blobs").iterdir()
    match what:
        case "missing":
            path.unlink()
        case "another byte":
            path.write_bytes(b"bytez")
        case "link":
            path.unlink()
            path.symlink_to(secret)
    status = replica.update(directory, NEPTUNE)
    assert status.counts == {"failed": 1} and not memory.events and "file.txt" in status.notes[0]
    with pytest.raises(errors.RecordError):
        memory.path_of(blob)


def _writes(memory: list_tracker.ListTracker, most: int):
    def write(event):
        if len(memory.events) >= most:
            raise OSError("gone")
        memory.events.append(event)
        return protocol.Receipt("sent")

    return write


def test_an_incomplete_offline_replica_is_set_aside_and_rewritten_whole(recorded):
    """A sync killed in the middle leaves a folder; the next one holds every point once."""
    code = ("import os, sys; from pathlib import Path; from mnist_jax.tracking import protocol, replica\n"
            "from mnist_jax.tracking.neptune import tracker\n"
            "write = tracker.NeptuneTracker.write\n"
            "count = iter(range(3))\n"
            "tracker.NeptuneTracker.write = lambda self, event: write(self, event) if next(count, None) is not None "
            "else os.kill(os.getpid(), 9)\n"
            "replica.update(Path(sys.argv[1]), protocol.Destination('neptune', 'offline'))")
    killed = subprocess.run([sys.executable, "-c", code, str(recorded)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert receipts.sync_status(recorded, "neptune-offline").state == "open"
    assert replica.update(recorded, NEPTUNE).state == "complete"
    _, series = offline_files.neptune(recorded / "sync" / "neptune-offline")
    assert series["train/loss"] == [(step, 1.0 / step) for step in range(1, 6)]
    assert (recorded / "sync" / "neptune-offline.incomplete-1").is_dir()


def test_two_syncs_to_one_replica_are_refused(recorded, memory):
    with receipt_writer.locked(recorded, "neptune-offline"), pytest.raises(errors.UserError, match="another process syncs"):
        replica.update(recorded, NEPTUNE)
