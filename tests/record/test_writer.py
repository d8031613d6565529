"""An append is on disk when it returns, whole or not at all, by the one writer of a run."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mnist_jax import errors, events
from mnist_jax.record import reader, writer
from tests.helpers import records


def test_an_append_is_on_disk_when_it_returns(tmp_path):
    code = ("import os, sys; from pathlib import Path; from mnist_jax import events; from mnist_jax.record import writer\n"
            "recorder = writer.create(Path(sys.argv[1]), events.RunInfo(writer.new_id(), 'x', 0.0, {}, ()))\n"
            "[recorder.append(events.Status(step, 'running')) for step in range(20)]\n"
            "os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    recorded = reader.read(tmp_path / "run")
    assert [event.step for event in recorded.of(events.Status)] == list(range(20)) and recorded.status == "killed"


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path):
    """The limit on a file's size stands for the disk; after space is back the same writer continues."""
    code = ("import resource, signal, sys; from pathlib import Path; from mnist_jax import errors, events\n"
            "from mnist_jax.record import reader, writer\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "recorder = writer.create(Path(sys.argv[1]), events.RunInfo(writer.new_id(), 'x', 0.0, {}, ()))\n"
            "recorder.append(events.Status(0, 'running'))\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
            "try:\n    recorder.append(events.Text('long', 1, 'x' * 9000))\n"
            "except errors.RecordError as error:\n    print(error)\n"
            "assert len(reader.read(Path(sys.argv[1])).entries) == 1\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
            "recorder.append(events.Text('long', 1, 'x' * 9000))\n"
            "recorder.close('finished')")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot record event 1 " in done.stdout and "free disk space" in done.stdout
    assert [type(entry.event).__name__ for entry in reader.read(tmp_path / "run").entries] == ["Status", "Text"]


def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path):
    with writer.create(tmp_path / "run", records.info()):
        (tmp_path / "run" / "run.json").rename(tmp_path / "kept")
        with pytest.raises((errors.UserError, errors.RecordError)):
            writer.create(tmp_path / "run", records.info())
        (tmp_path / "kept").rename(tmp_path / "run" / "run.json")
        assert reader.read(tmp_path / "run").status == "running"
        with pytest.raises(errors.UserError, match="still open in this program|found a run in it"):
            writer.create(tmp_path / "run", records.info())


def test_a_directory_that_cannot_be_made_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match="writable"):
        writer.create(tmp_path / "file" / "run", records.info())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interruption_inside_an_append_leaves_all_of_it_or_none(tmp_path, monkeypatch, moment):
    with writer.create(tmp_path / "run", records.info()) as recorder:
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
    with writer.create(tmp_path / "run", records.info()) as recorder:
        def record() -> None:
            for step in range(50):
                recorder.append(events.Status(step, "running"))

        threads = [threading.Thread(target=record) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(reader.read(tmp_path / "run").entries) == 200


def test_a_run_that_cannot_be_written_down_leaves_no_lock_behind(tmp_path):
    odd = events.RunInfo(writer.new_id(), "odd", 0.0, {"path": tmp_path}, ())
    with pytest.raises(TypeError):
        writer.create(tmp_path / "run", odd)
    writer.create(tmp_path / "run", records.info()).close("finished")
