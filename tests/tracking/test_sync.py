"""A sync ends with its run, outlives a killed one, and is ended where it makes no progress."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_jax import events
from mnist_jax.cli import main
from mnist_jax.record import reader, writer
from mnist_jax.tracking import protocol, receipts, replica, sync
from tests.helpers import list_tracker, offline_files, records

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


_SLOW_CLIENT = """
import sys, time, types
def prepare():
    for number in range(8):
        time.sleep(0.4)
        if {gives_signs}:
            sys.modules[f"slow_client.part{{number}}"] = types.ModuleType("part")
def destination(mode):
    from mnist_jax.tracking import protocol
    return protocol.Destination("slow", "offline")
def create(destination, folder):
    from tests.helpers import list_tracker
    return list_tracker.ListTracker("slow")
"""


@pytest.mark.parametrize("gives_signs", [True, False])
def test_a_slow_import_of_a_client_is_progress_and_one_that_hangs_is_not(recorded, tmp_path, monkeypatch, gives_signs):
    """The import takes 3.2 s, the bound is 2 s."""
    (tmp_path / "slow_client.py").write_text(_SLOW_CLIENT.format(gives_signs=gives_signs))
    (tmp_path / "slow-1.dist-info").mkdir()
    (tmp_path / "slow-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1\n")
    (tmp_path / "slow-1.dist-info" / "entry_points.txt").write_text("[mnist_jax.trackers]\nslow = slow_client\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (status,) = sync.finish(sync.start(recorded, [protocol.Destination("slow", "offline")]), 2.0)
    assert status.state == ("complete" if gives_signs else "failed"), status.error


class _Job:
    """A sync that never ends, waiting for a CPU for a share of the time."""

    destination = protocol.Destination("list", "object")

    def __init__(self, directory: Path, share: float):
        self.directory, self._share, self._started = directory, share, time.monotonic()
        self.stopped = ""

    def finish(self) -> None: ...

    def is_done(self) -> bool:
        return False

    def waited_s(self) -> float:
        return self._share * (time.monotonic() - self._started)

    def stop(self, reason: str = "") -> None:
        self.stopped = reason


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 0.3), (0.75, 1.2), (1.0, 3.0), (50.0, 3.0)])
def test_the_time_in_which_a_sync_waits_for_a_cpu_is_not_idleness_but_has_an_end(recorded, share, seconds):
    job, started = _Job(recorded, share), time.monotonic()
    sync.finish([job], 0.3)
    assert "without progress" in job.stopped and seconds - 0.1 < time.monotonic() - started < seconds + 5


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system does not say; all of the time counts then")
def test_the_time_for_which_a_process_waits_for_a_cpu_is_known():
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(1.5)
        assert any(sync._waited_s(loop.pid) > 0.1 for loop in loops)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert sync._waited_s(2**22 + 1) == 0.0


@pytest.mark.parametrize("what", ["FIFO", "link", "folder"])
def test_whatever_lies_in_place_of_the_processs_log_is_a_warning_and_no_wait(recorded, tmp_path, capsys, what):
    path = recorded / "sync" / "neptune-offline.log"
    path.parent.mkdir()
    match what:
        case "FIFO":
            os.mkfifo(path)
        case "link":
            (tmp_path / "precious").write_text("precious")
            path.symlink_to(tmp_path / "precious")
        case "folder":
            path.mkdir()
    assert sync.start(recorded, [NEPTUNE]) == [] and "warning: neptune-offline: not synced" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["FIFO", "link", "file"])
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_whatever_lies_in_place_of_the_clients_folder_is_set_aside(recorded, tmp_path, mode, what):
    destination = protocol.Destination("list", mode, "host")
    path = recorded / "sync" / destination.label
    path.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("precious")
    {"FIFO": os.mkfifo, "link": lambda path: path.symlink_to(tmp_path / "elsewhere"), "file": Path.touch}[what](path)
    status = replica.update(recorded, destination, tracker=list_tracker.ListTracker())
    assert status.state == "complete", status.error
    assert path.is_dir() and not path.is_symlink() and os.path.lexists(f"{path}.incomplete-1")
    assert os.listdir(tmp_path / "elsewhere") == ["precious"]


def test_a_damaged_blob_ends_the_command_with_exit_code_1(tmp_path, capsys):
    with writer.create(tmp_path / "run", records.info()) as recorder:
        recorder.append(events.Artifact("file", recorder.blob(b"bytes", "file.txt"), "file", {}))
        recorder.close("finished")
    (path,) = (tmp_path / "run" / "blobs").iterdir()
    path.write_bytes(b"bytez")
    assert main.main(["sync", str(tmp_path / "run"), "--tracker=neptune", "--tracker_mode=offline"]) == 1
    output = capsys.readouterr()
    assert "1 failed" in output.out and "Traceback" not in output.out + output.err
    shutil.rmtree(path.parent)
    shutil.rmtree(tmp_path / "run" / "sync")
    assert main.main(["sync", str(tmp_path / "run"), "--tracker=neptune", "--tracker_mode=offline"]) == 1
