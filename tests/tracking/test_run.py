"""Recording anybody's loop: a context manager whose trackers never reach it, several at once, two runs at once."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mnist_jax
from mnist_jax import errors, events
from mnist_jax.record import blobs, reader
from mnist_jax.tracking import sync, testing
from tests.helpers import list_tracker, offline_files, records

PNG = testing.png()


def test_a_loop_is_recorded_and_synced_to_an_object_of_a_third_party(tmp_path):
    tracker = list_tracker.ListTracker()
    with mnist_jax.track("mine", {"optimizer": {"learning_rate": 0.1}}, tracker=tracker, workdir=tmp_path / "run") as run:
        for step in (1, 2):
            run.log({"train/loss": 1 / step}, step=step)
        run.image("pixel", PNG, step=2, caption="a pixel")
        run.artifact("table", b"a,b\n", "table", {"rows": 0})
        run.text("note", "done", step=2)
    recorded = mnist_jax.read(run.directory)
    assert recorded.status == tracker.status == "finished"
    assert tracker.events == [entry.event for entry in recorded.entries]
    assert records.series_of(recorded)["train/loss"] == ([1, 2], [1.0, 0.5])
    assert recorded.of(events.Hyperparameters)[0].values == {"optimizer.learning_rate": 0.1}
    assert run.sync[0].state == "complete" and run.tracking_seconds > 0
    run.close()  # a second one does nothing


def interrupted(directory, name="mine", config=None, **settings) -> str:
    """Record a run that is interrupted; return its id."""
    with mnist_jax.track(name, config or {"lr": 0.1, "layers": (1, 2)}, workdir=directory, **settings) as run:
        run.log({"x": 1.0, "throughput_s": 2.0, "time/step_s": 3.0}, step=1)
        run.status = "interrupted"
    return run.info.id


@pytest.mark.parametrize(("name", "config", "message"), [
    ("other", {"lr": 0.1, "layers": (1, 2)}, r'name ("mine" there, "other" here)'),
    ("mine", {"lr": 0.2, "layers": (1, 2)}, "config.lr (0.1 there, 0.2 here)"),
    ("mine", {"lr": 0.1, "layers": (1, 2, 3)}, "config.layers ([1, 2] there, [1, 2, 3] here)"),
    ("mine", {"layers": (1, 2)}, "config.lr (0.1 there, not set here)"),
    ("mine", {"lr": 0.1, "layers": (1, 2), "new": {"a": None}}, "config.new.a (not set there, null here)"),
    ("mine", {"lr": "0.1", "layers": (1, 2)}, 'config.lr (0.1 there, "0.1" here)'),
    ("mine", None, "config.layers ([1, 2] there, not set here), config.lr (0.1 there, not set here)")])
def test_another_run_is_not_resumed_and_the_difference_is_named(tmp_path, name, config, message):
    interrupted(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for reopen in (False, True):
        with pytest.raises(errors.UserError, match=f"{re.escape(message)}; choose another workdir"):
            mnist_jax.track(name, config, workdir=tmp_path / "run", resume=not reopen, reopen=reopen)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_the_same_run_is_resumed(tmp_path):
    """Tuples come back from JSON as lists, NaN is not equal to itself, the order of keys is nobody's intention."""
    config = {"lr": float("nan"), "layers": (1, (2, 3)), "list": [{"b": 1, "a": 2}], "group": {}, "deep": {"x": {"y": 1}}}
    first = interrupted(tmp_path / "run", config=config)
    again = {**dict(reversed(config.items())), "list": [{"a": 2, "b": 1}]}
    with mnist_jax.track("mine", again, workdir=tmp_path / "run", resume=True) as run:
        run.log({"x": 1.0}, step=1)
        run.log({"x": 0.5}, step=2)
    recorded = mnist_jax.read(tmp_path / "run")
    assert recorded.run.id == run.info.id == first and recorded.series("x")[1].tolist() == [1.0, 0.5]
    assert len(recorded.of(events.Hyperparameters)) == 1
    assert not [text for text in recorded.of(events.Text) if text.name == "reopened"]


def test_where_there_is_no_run_resume_starts_one(tmp_path):
    with mnist_jax.track("mine", workdir=tmp_path / "run", resume=True) as run:
        run.log({"x": 1.0}, step=1)
    assert mnist_jax.read(tmp_path / "run").status == "finished"


def test_a_finished_run_is_reopened_only_where_that_is_asked_for_and_its_record_says_so(tmp_path):
    with mnist_jax.track("mine", {"lr": 1}, workdir=tmp_path / "run") as run:
        run.log({"x": 1.0}, step=3)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(errors.UserError, match="has finished and is not changed any more.*reopen=True"):
        mnist_jax.track("mine", {"lr": 1}, workdir=tmp_path / "run", resume=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for times in (1, 2):
        with mnist_jax.track("mine", {"lr": 1}, workdir=tmp_path / "run", resume=True, reopen=True) as run:
            run.log({"x": 2.0}, step=3 + times)
        recorded = mnist_jax.read(tmp_path / "run")
        texts = [text for text in recorded.of(events.Text) if text.name == "reopened"]
        assert len(texts) == times and "after it had finished with" in texts[-1].text and texts[-1].step == 2 + times
        assert recorded.status == "finished" and recorded.steps == 3 + times
    interrupted(tmp_path / "other")
    with mnist_jax.track("mine", {"lr": 0.1, "layers": (1, 2)}, workdir=tmp_path / "other", reopen=True):
        pass
    assert not [text for text in mnist_jax.read(tmp_path / "other").of(events.Text) if text.name == "reopened"]


def test_series_of_the_clock_and_declared_ones_are_not_compared_at_resume(tmp_path):
    interrupted(tmp_path / "run", nondeterministic=("throughput*",))
    assert mnist_jax.read(tmp_path / "run").run.nondeterministic == ("time/*", "system/*", "throughput*")
    settings = {"config": {"lr": 0.1, "layers": (1, 2)}, "workdir": tmp_path / "run", "resume": True}
    with mnist_jax.track("mine", **settings) as run:
        run.log({"x": 1.0, "throughput_s": 20.0, "time/step_s": 30.0}, step=1)
        run.status = "interrupted"
    recorded = mnist_jax.read(tmp_path / "run")
    assert recorded.last() == {"x": 1.0, "throughput_s": 2.0, "time/step_s": 3.0}, "the first value stays"
    assert recorded.run.nondeterministic == ("time/*", "system/*", "throughput*")
    with pytest.raises(errors.UserError, match=r"nondeterministic \('x' only here\)"):
        mnist_jax.track("mine", **settings, nondeterministic=["x"])
    with pytest.raises(errors.RecordError, match="diverges"), mnist_jax.track("mine", **settings) as run:
        run.log({"x": 1.5}, step=1)


@pytest.mark.parametrize("patterns", ["throughput*", [""], [1], [None]])
def test_patterns_of_series_are_a_list_of_texts(tmp_path, patterns):
    with pytest.raises(errors.UserError, match="nondeterministic: expected a list of patterns"):
        mnist_jax.track("mine", workdir=tmp_path / "run", nondeterministic=patterns)
    assert not (tmp_path / "run").exists()


def test_local_is_the_record_alone(tmp_path):
    with mnist_jax.track("mine", workdir=tmp_path / "run") as run:
        run.log({"x": 1.0}, step=1)
    assert not run.sync and not (tmp_path / "run" / "sync").exists()


@pytest.mark.parametrize(("error", "status"), [(ValueError("a bug of mine"), "failed"), (KeyboardInterrupt(), "interrupted")])
def test_an_error_is_recorded_and_raised(tmp_path, error, status):
    with pytest.raises(type(error)), mnist_jax.track("mine", workdir=tmp_path / "run") as run:
        run.log({"x": 1.0}, step=7)
        raise error
    recorded = mnist_jax.read(run.directory)
    assert recorded.status == status and recorded.of(events.Status)[-1] == events.Status(7, status)
    assert [text.text for text in recorded.of(events.Text)] == (["ValueError: a bug of mine"] if status == "failed" else [])


def test_an_interrupted_run_prints_the_command_that_sends_the_rest(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), mnist_jax.track("mine", tracker="neptune", workdir=tmp_path / "run") as run:
        run._syncs[0].stop()
        raise KeyboardInterrupt
    assert f"python -m mnist_jax sync {run.directory} --tracker=neptune" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [f"{kind} in {method}" for kind in ("hang", "raise")
                                   for method in ("open", "write", "close")])
def test_an_object_that_hangs_or_raises_changes_nothing(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(sync, "NO_PROGRESS_S", 0.5)
    monkeypatch.setattr(sync, "AT_MOST_S", 1.0)
    good = list_tracker.ListTracker("good")
    started = time.monotonic()
    with mnist_jax.track("mine", tracker=[list_tracker.ListTracker("bad", fault), good], workdir=tmp_path / "run") as run:
        run.log({"x": 1.0}, step=1)
    assert time.monotonic() - started < 4
    assert good.status == "finished" and run.sync[1].state == "complete"
    assert mnist_jax.read(run.directory).status == "finished"


def test_wrong_use_is_reported_in_one_line(tmp_path):
    with mnist_jax.track("mine", workdir=tmp_path / "run") as run, pytest.raises(errors.UserError, match="PNG"):
        run.image("x", b"GIF89a", step=1)
    with pytest.raises(errors.UserError, match="choose another workdir"):
        mnist_jax.track("mine", workdir=tmp_path / "run")
    with pytest.raises(errors.UserError, match=r"config\.model\.layer: expected a value that JSON can hold"):
        mnist_jax.track("mine", {"model": {"layer": object()}}, workdir=tmp_path / "other")
    with pytest.raises(errors.UserError, match="each tracker once"):
        mnist_jax.track("mine", tracker=[list_tracker.ListTracker(), list_tracker.ListTracker()], workdir=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_backend_is_found_by_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "from mnist_jax.tracking import protocol\n"
        "def destination(mode):\n    return protocol.Destination('theirs', 'offline')\n"
        "from tests.helpers import list_tracker\n"
        "def create(where, folder):\n    return list_tracker.ListTracker('theirs')\n")
    package = tmp_path / "theirs-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[mnist_jax.trackers]\ntheirs = theirs\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    with mnist_jax.track("mine", tracker="theirs", workdir=tmp_path / "run") as run:
        run.log({"x": 1.0}, step=1)
    (replica,) = run.sync
    assert replica.state == "complete" and replica.counts == {"sent": len(mnist_jax.read(run.directory).entries)}
    with pytest.raises(errors.UserError, match="did you mean 'theirs'"):
        mnist_jax.track("mine", tracker="their", workdir=tmp_path / "other")


@pytest.mark.parametrize("order", ["neptune,comet", "comet,neptune"])
@pytest.mark.parametrize("last", ["neptune", "comet"])
def test_both_trackers_in_every_order_of_start_and_stop(tmp_path, order, last):
    """The one that shall end last is held until the other has ended."""
    run = mnist_jax.track("both", tracker=order, workdir=tmp_path / "run")
    held = {each.destination.tracker: each for each in run._syncs if isinstance(each, sync.SyncProcess)}
    os.killpg(held[last]._process.pid, signal.SIGSTOP)
    threading.Thread(target=_continue_after, args=(held[last], [each for name, each in held.items() if name != last])).start()
    run.log({"x": 0.5}, step=1)
    run.close()
    assert [replica.state for replica in run.sync] == ["complete", "complete"]
    _, series = offline_files.neptune(run.directory / "sync" / "neptune-offline")
    comet = offline_files.Comet(run.directory / "sync" / "comet-offline" / f"{run.info.id}.zip")
    assert series["x"] == [(1, 0.5)] and [value for _, value, _ in comet.metrics["x"]] == [0.5]


def _continue_after(held, others) -> None:
    deadline = time.monotonic() + 8
    while not all(other.is_done() for other in others) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(held._process.pid, signal.SIGCONT)


def test_two_runs_at_once_in_one_process(tmp_path):
    """The second run begins and ends inside the first, which continues undisturbed."""
    with mnist_jax.track("outer", tracker="comet", workdir=tmp_path / "outer") as outer:
        outer.log({"x": 1.0}, step=1)
        with mnist_jax.track("inner", tracker="comet", workdir=tmp_path / "inner") as inner:
            inner.log({"x": 10.0}, step=1)
        outer.log({"x": 2.0}, step=2)
    for run, values in ((outer, [1.0, 2.0]), (inner, [10.0])):
        comet = offline_files.Comet(run.directory / "sync" / "comet-offline" / f"{run.info.id}.zip")
        assert [value for _, value, _ in comet.metrics["x"]] == values and run.sync[0].state == "complete"


def test_runs_in_parallel_in_one_folder_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen, lock = [], threading.Lock()

    def one() -> None:
        with mnist_jax.track("same") as run:
            run.log({"x": 1.0}, step=1)
        with lock:
            seen.append(run.directory)

    threads = [threading.Thread(target=one) for _ in range(18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == len({reader.read(directory).run.id for directory in seen}) == 18


def test_two_processes_of_one_job_make_one_run(tmp_path, tiny):
    """Both train; process 0 owns the record and the trackers."""
    code = """
import sys, jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]), local_device_ids=[0])
from mnist_jax.train import config_file, experiment
config = config_file.load_config("configs/mlp.py")
config.update_from_flattened_dict({"epochs": 1, "dataset.data_dir": sys.argv[3], "model.hidden": (8,),
                                   "dataset.validation_examples": 0})
result = experiment.run(config, tracker="comet", workdir=sys.argv[4], watch=False)
print(result.status)
"""
    port = 20_000 + os.getpid() % 10_000
    processes = [subprocess.Popen([sys.executable, "-c", code, f"127.0.0.1:{port}", str(index), tiny.dataset.data_dir,
                                   str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                 for index in range(2)]
    for process in processes:
        output, problems = process.communicate(timeout=120)
        assert process.returncode == 0 and output.strip().endswith("finished"), problems
    recorded = reader.read(tmp_path / "run")
    assert recorded.status == "finished" and recorded.of(events.Environment)[0].facts["processes"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert len(recorded.series()["train/loss"][0]) == 600 // 128
    archives = list((tmp_path / "run" / "sync" / "comet-offline").glob("*.zip"))
    assert [archive.stem for archive in archives] == [recorded.run.id]


def test_a_run_with_trackers_leaves_no_hook_behind():
    """Neither importing nor tracking changes another library: no import hook, no excepthook, no handler, no signal."""
    code = """
import logging, signal, sys, tempfile, threading, warnings
def state():
    return (sys.excepthook, threading.excepthook, list(sys.meta_path), list(sys.path_hooks), list(logging.getLogger().handlers),
            signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM),
            sys.stdout, sys.stderr, sys.displayhook, list(warnings.filters))
import jax, numpy
before = state()
import mnist_jax
with mnist_jax.track("mine", tracker="neptune,comet", workdir=tempfile.mkdtemp() + "/run") as run:
    run.log({"x": 1.0}, step=1)
assert [replica.state for replica in run.sync] == ["complete"] * 2, run.sync
assert state() == before
assert not {"neptune", "comet_ml"} & set(sys.modules)
assert threading.active_count() == 1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_mode_that_auto_chose_is_printed(tmp_path, capsys):
    with mnist_jax.track("mine", tracker="neptune", workdir=tmp_path / "run"):
        pass
    assert capsys.readouterr().err == "neptune: offline (NEPTUNE_API_TOKEN is not set)\n"


def test_the_time_that_tracking_takes_includes_the_source(tmp_path, monkeypatch):
    real, spent = blobs.write, []

    def slow(*arguments):
        started = time.perf_counter()
        blob = real(*arguments)
        time.sleep(0.005)
        spent.append(time.perf_counter() - started)
        return blob

    monkeypatch.setattr(blobs, "write", slow)
    with mnist_jax.track("mine", workdir=tmp_path / "run") as run:
        assert len(spent) > 50 and run.tracking_seconds >= sum(spent)


@pytest.mark.parametrize("stderr", ["None", "open('/dev/full', 'w', buffering=1)", "closed"])
def test_standard_error_that_is_closed_or_full_costs_no_run(tmp_path, stderr):
    """Auto mode prints the mode, a credential in the source a warning, and an incomplete replica a command."""
    code = f"""
import io, sys
import mnist_jax
closed = io.StringIO(); closed.close()
sys.stderr = {stderr}
with mnist_jax.track("mine", tracker="neptune", workdir="run", script=["leaky.py"]) as run:
    run.log({{"x": 1.0}}, step=1)
print(run.status)
"""
    (tmp_path / "leaky.py").write_text("API_KEY = 'abcdef0123456789'\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(Path(mnist_jax.__file__).parents[1])})
    assert done.stdout == "finished\n", done.stderr
    assert reader.read(tmp_path / "run").status == "finished"


def test_a_warning_cannot_steer_a_terminal(tmp_path, capsys):
    script = tmp_path / "leaky\x1b[2J.py"
    script.write_text("API_KEY = 'abcdef0123456789'\n")
    with mnist_jax.track("mine", workdir=tmp_path / "run", script=[script]):
        pass
    printed = capsys.readouterr().err
    assert "leaky?[2J.py, line 1, may hold a credential" in printed and "\x1b" not in printed
