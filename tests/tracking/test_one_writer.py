"""A run has one writer: the process that opened it, in any of its threads. Nothing else in a program can hurt its record."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mnist_jax
from mnist_jax import errors


@pytest.fixture
def run(tmp_path: Path):
    with mnist_jax.track("mine", workdir=tmp_path / "run") as run:
        run.log({"x": 1.0}, step=1)
        yield run


def read(run: mnist_jax.Run) -> mnist_jax.RunRecord:
    run.close()
    return mnist_jax.read(run.directory)


def python(code: str, *arguments: object, check: bool = True, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=check,
                          **options)


def test_a_forked_child_that_records_gets_an_error_and_harms_nothing(run):
    def child(answers) -> None:
        try:
            run.log({"x": 2.0}, step=2)
        except errors.UserError as error:
            answers.put(str(error))

    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=child, args=(answers,))
    process.start()
    message = answers.get(timeout=60)
    process.join()
    assert f"process {os.getpid()} opened it" in message and "\n" not in message
    run.log({"x": 3.0}, step=3)
    record = read(run)
    assert record.status == "finished" and record.series("x")[0].tolist() == [1, 3]


def test_a_forked_child_that_leaves_the_block_does_not_end_its_parents_run(tmp_path):
    python("import os, sys, mnist_jax\n"
           "with mnist_jax.track('mine', workdir=sys.argv[1]) as run:\n"
           "    child = os.fork()\n"
           "    if not child:\n        sys.exit(0)\n"
           "    os.waitpid(child, 0)\n"
           "    run.log({'x': 1.0}, step=1)\n", tmp_path / "run")
    record = mnist_jax.read(tmp_path / "run")
    assert (record.status, record.last()) == ("finished", {"x": 1.0})


def test_a_worker_that_outlives_its_killed_parent_keeps_no_lock(tmp_path):
    code = ("import os, sys, time, mnist_jax\n"
            "run = mnist_jax.track('mine', workdir=sys.argv[1])\n"
            "if not os.fork():\n    print(os.getpid(), flush=True); time.sleep(60); os._exit(0)\n"
            "time.sleep(0.5); os.kill(os.getpid(), 9)\n")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    worker = int(process.stdout.readline())
    process.wait()
    try:
        assert mnist_jax.read(tmp_path / "run").status == "killed"
        with mnist_jax.track("mine", workdir=tmp_path / "run", resume=True) as again:
            again.log({"x": 1.0}, step=1)
    finally:
        os.kill(worker, 9)
        process.stdout.close()


def test_a_thread_that_records_while_the_run_closes_is_sealed_or_gets_an_error(tmp_path):
    for number in range(10):
        run = mnist_jax.track("mine", workdir=tmp_path / str(number))
        accepted: list[int] = []
        refused: list[str] = []

        def monitor(run=run, accepted=accepted, refused=refused) -> None:
            for step in range(1, 100_000):
                try:
                    run.log({"x": float(step)}, step=step)
                    accepted.append(step)
                except errors.UserError as error:
                    refused.append(str(error))
                    return

        thread = threading.Thread(target=monitor)
        thread.start()
        time.sleep(0.02)
        run.close()
        thread.join()
        record = mnist_jax.read(run.directory)
        assert record.series("x")[0].tolist() == accepted and "closed" in refused[0]
        assert record.facts[-1].state == "finished", "the status is the last event"


def test_a_changed_working_directory_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with mnist_jax.track("mine", workdir="runs/c", tracker="comet", tracker_mode="offline") as run:
        monkeypatch.chdir(tmp_path / "elsewhere")
        run.log({"x": 1.0}, step=1)
        run.artifact("file", b"bytes")
    assert mnist_jax.read(tmp_path / "runs" / "c").status == "finished" and not list((tmp_path / "elsewhere").iterdir())
    assert [status.state for status in run.sync] == ["complete"]


def test_a_working_directory_that_is_gone_stops_nothing(tmp_path):
    (tmp_path / "gone").mkdir()
    # Python 3.13 itself cannot import numpy from there.
    python("import os, shutil, sys\nfrom mnist_jax.tracking import run\nos.chdir(sys.argv[1]); shutil.rmtree(sys.argv[1])\n"
           "import mnist_jax\nwith mnist_jax.track('mine', workdir=sys.argv[2]) as run:\n    run.log({'x': 1.0}, step=1)\n",
           tmp_path / "gone", tmp_path / "run", env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert mnist_jax.read(tmp_path / "run").last() == {"x": 1.0}


def test_a_renamed_run_writes_where_it_is_and_not_into_the_run_that_took_its_place(tmp_path):
    first = mnist_jax.track("first", workdir=tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "renamed")
    second = mnist_jax.track("second", workdir=tmp_path / "run")
    first.log({"x": 1.0}, step=1)
    first.artifact("file", b"of the first")
    first.close()
    second.close()
    renamed, taken = mnist_jax.read(tmp_path / "renamed"), mnist_jax.read(tmp_path / "run")
    assert (renamed.run.name, renamed.status, renamed.last()) == ("first", "finished", {"x": 1.0})
    assert (taken.run.name, taken.status) == ("second", "finished") and not list((tmp_path / "run" / "blobs").glob("*of*"))


def test_recording_after_close_says_how_to_go_on(run):
    run.flush()
    run.close()
    for record in (lambda: run.log({"x": 1.0}, step=2), lambda: run.text("note", "late", step=2), run.flush):
        with pytest.raises(errors.UserError, match=r"it is closed.*reopen=True"):
            record()


def test_a_cell_that_runs_twice_is_told_that_this_program_has_the_run_open(run):
    with pytest.raises(errors.UserError, match="still open in this program"):
        mnist_jax.track("mine", workdir=run.directory)


@pytest.mark.parametrize(("ending", "status", "code"), [
    ("", "finished", 0), ("sys.exit(0)", "finished", 0), ("sys.exit(3)", "failed", 3), ("sys.exit('no')", "failed", 1),
    ("raise ValueError('odd')", "failed", 1), ("raise KeyboardInterrupt", "interrupted", 130),
    ("sys.exit(143)", "interrupted", 143), ("os._exit(0)", "killed", 0)])
def test_the_status_says_how_the_program_ended(tmp_path, ending, status, code):
    done = python("import os, sys, mnist_jax\nwith mnist_jax.track('mine', workdir=sys.argv[1]) as run:\n"
                  f"    run.log({{'x': 1.0}}, step=1)\n    {ending or 'pass'}\n", tmp_path / "run", check=False)
    assert mnist_jax.read(tmp_path / "run").status == status and done.returncode in (code, code - 256, -2)


@pytest.mark.parametrize(("ending", "status"), [("", "finished"), ("raise ValueError('odd')", "failed")])
def test_a_program_that_does_not_close_its_run_closes_it_at_its_end(tmp_path, ending, status):
    python("import sys, mnist_jax\nrun = mnist_jax.track('mine', workdir=sys.argv[1])\nrun.log({'x': 1.0}, step=1)\n" + ending,
           tmp_path / "run", check=False)
    assert mnist_jax.read(tmp_path / "run").status == status


def test_an_exception_that_cannot_be_printed_leaves_no_run_open(tmp_path):
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(Odd), mnist_jax.track("mine", workdir=tmp_path / "run"):
        raise Odd
    record = mnist_jax.read(tmp_path / "run")
    assert record.status == "failed" and "Odd" in record.facts[-2].text


def test_what_a_call_has_returned_from_survives_kill_9(tmp_path):
    code = ("import os, sys, mnist_jax\nrun = mnist_jax.track('mine', workdir=sys.argv[1])\n"
            "for step in range(1, 10**9):\n    run.log({'x': step / 7, 'y': 1.0}, step=step)\n"
            "    os.write(1, b'%d\\n' % step)\n")
    for number in range(5):
        directory = tmp_path / str(number)
        process = subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.01 * (1 + 3 * number))
        process.kill()
        returned = int(process.stdout.read().split(b"\n")[-2])
        process.wait()
        steps, values = mnist_jax.read(directory).series("x")
        assert steps.tolist() == list(range(1, len(steps) + 1)) and returned <= len(steps) <= returned + 1
        assert (values == steps / 7).all()
        process.stdout.close()


def test_a_copy_of_a_run_that_is_being_written_can_be_read(run, tmp_path):
    run.flush()
    shutil.copytree(run.directory, tmp_path / "copy")
    assert mnist_jax.read(tmp_path / "copy").status == "killed" and mnist_jax.read(tmp_path / "copy").last() == {"x": 1.0}
