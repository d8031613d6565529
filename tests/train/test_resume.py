"""A run that was cut short and started again is, bit for bit, the run that never was; or it says why it cannot be."""

import dataclasses
import os
import random
import signal
from pathlib import Path

import pytest

from mnist_jax import errors, events
from mnist_jax.record import checkpoint, reader, run_file
from mnist_jax.train import experiment, loop, progress
from mnist_jax.train import step as train_step
from mnist_jax.view import text as text_view
from tests.helpers import killed_runs, records
from tests.helpers.killed_runs import facts_of


def at(step: int, act, times: int = 1):
    """Return a progress bar that acts once the run has done so many updates."""
    left = [times]

    def show_progress(done: int, *_: float) -> None:
        if done >= step and left[0]:
            left[0] -= 1
            act()

    return lambda *_: show_progress


@pytest.fixture
def small_chunks(monkeypatch):
    """Look at the world after every few updates, so that a run can be cut inside an epoch."""
    monkeypatch.setattr(loop, "CHUNK_S", 0.0)
    monkeypatch.setattr(loop, "FIRST_CHUNK", 3)


@pytest.mark.parametrize(("number", "raised", "step"), [
    (signal.SIGINT, KeyboardInterrupt, 1), (signal.SIGTERM, SystemExit, 15), (signal.SIGINT, KeyboardInterrupt, 22),
    (signal.SIGTERM, SystemExit, 22), (signal.SIGTERM, SystemExit, 30)])
def test_a_signal_stops_the_run_well_and_the_same_directory_resumes(tiny, finished_run, tmp_path, monkeypatch, capsys,
                                                                    small_chunks, number, raised, step):
    before = signal.getsignal(number)
    monkeypatch.setattr(progress, "bar", at(step, lambda: os.kill(os.getpid(), number)))
    with pytest.raises(raised) as stopped:
        experiment.run(tiny, workdir=tmp_path / "run")
    assert raised is KeyboardInterrupt or stopped.value.code == 143
    assert signal.getsignal(number) is before and f"--workdir={tmp_path / 'run'}" in capsys.readouterr().err
    recorded = reader.read(tmp_path / "run")
    saved, damaged = checkpoint.newest(tmp_path / "run")
    assert recorded.status == "interrupted" and not damaged
    steps, _ = records.series_of(recorded)["train/loss"]
    assert steps == list(range(1, saved.step + 1)), "the record reaches to the checkpoint"
    assert step <= saved.step <= step + 3
    experiment.run(tiny, workdir=tmp_path / "run", watch=False)
    assert facts_of(tmp_path / "run") == facts_of(finished_run)


def test_a_second_signal_does_not_wait_for_the_chunk(tiny, tmp_path, monkeypatch, small_chunks):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress, "bar", at(5, twice))
    with pytest.raises(KeyboardInterrupt):
        experiment.run(tiny, workdir=tmp_path / "run")
    assert reader.read(tmp_path / "run").status == "interrupted"
    assert experiment.run(tiny, workdir=tmp_path / "run", watch=False).status == "finished"


def test_what_was_recorded_after_the_checkpoint_is_not_doubled(tiny, finished_run, tmp_path, monkeypatch):
    """The record of a killed run goes further than its checkpoint: the rows are computed again, compared and dropped."""
    every = dataclasses.replace(tiny, checkpoint=dataclasses.replace(tiny.checkpoint, keep=10, every_s=0.0))
    experiment.run(every, workdir=tmp_path / "run", watch=False)
    first, last = checkpoint.paths(tmp_path / "run")
    assert first.name.startswith("0000000015") and last.name.startswith("0000000030")
    kill(tmp_path / "run", events_left=13)  # the rows of the second epoch are there, its end is not
    last.unlink()
    result = experiment.run(every, workdir=tmp_path / "run", watch=False)
    assert facts_of(result.directory) == facts_of(finished_run)


def test_a_checkpoint_that_the_record_does_not_reach_is_not_used(tiny, finished_run, tmp_path):
    """As after a restored backup: resuming from it would leave rows out."""
    experiment.run(tiny, workdir=tmp_path / "run", watch=False)
    kill(tmp_path / "run", events_left=8)
    experiment.run(tiny, workdir=tmp_path / "run", watch=False)
    assert facts_of(tmp_path / "run") == facts_of(finished_run)


@pytest.mark.parametrize("calls", [4, 7])
def test_a_full_disk_stops_the_run_and_with_room_it_resumes(tiny, finished_run, tmp_path, monkeypatch, calls):
    """The record, a checkpoint, a blob: whatever meets the full disk first."""
    every = dataclasses.replace(tiny, checkpoint=dataclasses.replace(tiny.checkpoint, every_s=0.0))
    real, left = os.fsync, [calls]

    def full(file: int) -> None:
        if "run" in os.readlink(f"/proc/self/fd/{file}") and "blobs" not in os.readlink(f"/proc/self/fd/{file}"):
            left[0] -= 1
            if left[0] <= 0:
                raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.RecordError, match="No space left on device"):
        experiment.run(every, workdir=tmp_path / "run", watch=False)
    monkeypatch.setattr(os, "fsync", real)
    assert reader.read(tmp_path / "run").status in ("failed", "killed")
    experiment.run(every, workdir=tmp_path / "run", watch=False)
    assert facts_of(tmp_path / "run") == facts_of(finished_run)


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(tiny, finished_run, tmp_path, capsys):
    every = dataclasses.replace(tiny, checkpoint=dataclasses.replace(tiny.checkpoint, keep=10, every_s=0.0))
    experiment.run(every, workdir=tmp_path / "run", watch=False)
    last = checkpoint.paths(tmp_path / "run")[-1]
    content = bytearray(last.read_bytes())
    content[100] ^= 1
    last.write_bytes(content)
    (last.parent / f".{last.name}.partial").write_bytes(content[:100])  # a half-written one
    kill(tmp_path / "run", events_left=14)
    experiment.run(every, workdir=tmp_path / "run", watch=False)
    assert f"{last}: damaged" in capsys.readouterr().err
    assert facts_of(tmp_path / "run") == facts_of(finished_run)


def test_a_run_that_diverges_from_its_record_stops_and_says_where(tiny, tmp_path, monkeypatch):
    experiment.run(tiny, workdir=tmp_path / "run", watch=False)
    for path in checkpoint.paths(tmp_path / "run"):
        path.unlink()
    kill(tmp_path / "run", events_left=11)
    before = len(reader.read(tmp_path / "run").of(events.Metrics))
    real = train_step.hyper
    monkeypatch.setattr(train_step, "hyper", lambda optimizer: real(dataclasses.replace(optimizer, learning_rate=0.03)))
    with pytest.raises(errors.RecordError, match=r"step 2: expected train/loss .*, found .*--parent="):
        experiment.run(tiny, workdir=tmp_path / "run", watch=False)
    recorded = reader.read(tmp_path / "run")
    assert recorded.status == "failed" and len(recorded.of(events.Metrics)) == before


def test_other_data_is_refused_with_both_digests(tiny, idx_folder, tmp_path):
    experiment.run(tiny, workdir=tmp_path / "run", watch=False)
    kill(tmp_path / "run", events_left=8)
    digest = reader.read(tmp_path / "run").of(events.Dataset)[0].digest
    folder = tmp_path / "data"
    folder.mkdir()
    for path in idx_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    images = bytearray((folder / "train-images-idx3-ubyte").read_bytes())
    images[-1] ^= 1
    (folder / "train-images-idx3-ubyte").write_bytes(images)
    moved = dataclasses.replace(tiny, dataset=dataclasses.replace(tiny.dataset, data_dir=str(folder)))
    fields = reader.read(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    run_file.write(tmp_path / "run", dataclasses.replace(fields.run, config=dataclasses.asdict(moved)), "running", None)
    with pytest.raises(errors.UserError, match=rf"(train|validation) \({'.' * len(digest)} there, .* here\)"):
        experiment.run(moved, workdir=tmp_path / "run", watch=False)


def test_changed_source_is_warned_about_and_recorded(tiny, tmp_path, capsys):
    script = tmp_path / "mine.py"
    script.write_text("print(1)\n")
    experiment.run(tiny, workdir=tmp_path / "run", watch=False, script=[script])
    kill(tmp_path / "run", events_left=8)
    script.write_text("print(2)\n")
    experiment.run(tiny, workdir=tmp_path / "run", watch=False, script=[script])
    assert "mine.py changed" in capsys.readouterr().err
    recorded = reader.read(tmp_path / "run")
    assert len(recorded.of(events.Source)) == 2
    assert any("mine.py changed" in text.text for text in recorded.of(events.Text))


def test_a_child_starts_from_its_parent(tiny, finished_run, tmp_path):
    more = dataclasses.replace(tiny, epochs=3)
    child = reader.read(experiment.run(more, parent=finished_run, workdir=tmp_path / "child", watch=False).directory)
    parent = reader.read(finished_run)
    assert child.run.parent == parent.run.id
    assert records.series_of(child)["train/loss"][0] == list(range(31, 46))
    assert child.of(events.Model)[0].parents == (parent.of(events.Model)[0].blob.sha256,)
    kill(tmp_path / "child", events_left=4)  # before it had recorded whose state it starts from
    with pytest.raises(errors.UserError, match="name the parent again"):
        experiment.run(more, workdir=tmp_path / "child", watch=False)
    again = reader.read(experiment.run(more, parent=finished_run, workdir=tmp_path / "child", watch=False).directory)
    assert records.bits_of(again)["train/loss"] == records.bits_of(child)["train/loss"]
    assert again.of(events.Model)[0].parents == child.of(events.Model)[0].parents
    for config, message in ((tiny, "raise --config.epochs"), (dataclasses.replace(more, batch_size=16), "batch_size")):
        with pytest.raises(errors.UserError, match=message):
            experiment.run(config, parent=finished_run, workdir=tmp_path / "other", watch=False)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_run_resumes_as_if_it_had_not_been_killed(tiny, idx_folder, tmp_path, seed):
    """A real process, killed with SIGKILL; benchmarks/kills.py does it fifty times, online, too."""
    config = ["--config=configs/cnn.py", "--config.epochs=6", "--config.batch_size=32", "--config.model.features=(4,8)",
              "--config.model.hidden=32", f"--config.dataset.data_dir={idx_folder}", "--config.dataset.validation_examples=100",
              "--config.checkpoint.every_s=0.0"]
    changed = dataclasses.replace(tiny, name="cnn-mnist", epochs=6, optimizer=dataclasses.replace(
        tiny.optimizer, learning_rate=0.002), checkpoint=dataclasses.replace(tiny.checkpoint, every_s=0.0))
    whole = facts_of(experiment.run(changed, workdir=tmp_path / "whole", watch=False).directory)
    directory = tmp_path / "run"
    process = killed_runs.start(directory, config, "neptune,comet", "offline")
    outcome = killed_runs.kill(process, directory, 2.0, random.Random(seed))
    again = killed_runs.start(directory, config, "neptune,comet", "offline")
    _, problems = again.communicate()
    assert again.returncode == 0, problems
    assert facts_of(directory) == whole, outcome
    for tracker in ("neptune", "comet"):
        assert killed_runs.offline_rows(directory, tracker) == killed_runs.rows_of(reader.read(directory)), outcome
        state = text_view.summary(directory)["sync"][f"{tracker}-offline"]
        assert state["state"] == "complete" and not state["sampled"] and not state["failed"], outcome


def kill(directory: Path, events_left: int) -> None:
    """Make of a finished run one that was killed after so many events, as the disk would show it."""
    lines = (directory / "events.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "events.jsonl").write_bytes(b"".join(lines[:events_left]) + lines[events_left][:30])
    run_file.write(directory, run_file.run(run_file.read(directory)), "running", None)
