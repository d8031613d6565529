"""A run that was cut short and started again is, bit for bit, the run that never was; or it says why it cannot be."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_jax import errors, events
from mnist_jax.record import checkpoint, reader, run_file
from mnist_jax.train import experiment, identity, loop, progress
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


@pytest.fixture
def killed_with_one_checkpoint(tiny, tmp_path) -> Path:
    """A run whose record holds the rows of both epochs, and whose last checkpoint is that of the first."""
    experiment.run(every_chunk(tiny), workdir=tmp_path / "run", watch=False)
    checkpoint.paths(tmp_path / "run")[-1].unlink()
    kill(tmp_path / "run", events_left=13)
    return tmp_path / "run"


def test_a_checkpoint_of_another_run_is_not_resumed_from(tiny, finished_run, killed_with_one_checkpoint, tmp_path, capsys):
    """It has the same shapes, program and data; its seed is another."""
    other = experiment.run(dataclasses.replace(every_chunk(tiny), seed=1), workdir=tmp_path / "other", watch=False).directory
    foreign = checkpoint.paths(other)[-1]
    shutil.copy(foreign, killed_with_one_checkpoint / "checkpoints")
    experiment.run(every_chunk(tiny), workdir=killed_with_one_checkpoint, watch=False)
    message, own = capsys.readouterr().err, reader.read(killed_with_one_checkpoint).run.id
    assert f"{foreign.name}: expected a checkpoint of run {own}, found one of run" in message
    assert "resuming from step 15 of 30" in message
    assert facts_of(killed_with_one_checkpoint) == facts_of(finished_run)


def test_a_checkpoint_renamed_to_a_later_step_is_not_believed(tiny, finished_run, killed_with_one_checkpoint, capsys):
    (path,) = checkpoint.paths(killed_with_one_checkpoint)
    shutil.copy(path, path.with_name(f"0000000030{path.name[10:]}"))
    experiment.run(every_chunk(tiny), workdir=killed_with_one_checkpoint, watch=False)
    assert "expected a checkpoint of step 30, as its name says, found one of step 15; it is skipped" in capsys.readouterr().err
    assert facts_of(killed_with_one_checkpoint) == facts_of(finished_run)


@pytest.mark.parametrize(("changed", "message"), [
    ({"program": {"settings.model.hidden_dropout": "0.9"}}, r"model.hidden_dropout \(0.9 there, 0.5 here\)"),
    ({"program": {"state.parameters/conv1/bias": "float16[4]"}}, r"conv1/bias \(float16\[4\] there, float32\[4\] here\)"),
    ({"program": {"lowered": "0" * 64}}, "the code of the training step, or a setting of jax, has changed"),
    ({"data": {"train": "0" * 64}}, r"the data of train \(0+ there, [0-9a-f]+ here\)"),
    ({"data": {"more": "0" * 64}}, r"the data of more \(0+ there, None here\)")])
def test_a_checkpoint_of_another_program_or_of_other_data_is_refused(tiny, killed_with_one_checkpoint, changed, message):
    """Its run, step and digest are right."""
    resave(killed_with_one_checkpoint, **changed)
    before = reader.read(killed_with_one_checkpoint).entries
    with pytest.raises(errors.RecordError, match=rf"expected a checkpoint of this program and data.*{message}.*--parent="):
        experiment.run(every_chunk(tiny), workdir=killed_with_one_checkpoint, watch=False)
    after = reader.read(killed_with_one_checkpoint)
    assert after.status == "failed" and not any(
        isinstance(entry.event, events.Metrics) for entry in after.entries[len(before):]), "nothing was trained"


def test_changed_code_of_the_training_step_is_refused(tiny, killed_with_one_checkpoint, monkeypatch):
    real = train_step._loss
    monkeypatch.setattr(train_step, "_loss", lambda *arguments: 1.5 * real(*arguments))
    train_step.compiled.cache_clear()
    try:
        with pytest.raises(errors.RecordError, match="the code of the training step, or a setting of jax, has changed"):
            experiment.run(every_chunk(tiny), workdir=killed_with_one_checkpoint, watch=False)
    finally:
        train_step.compiled.cache_clear()


def test_another_jax_is_a_warning(tiny, finished_run, killed_with_one_checkpoint, capsys):
    """There the lowered program cannot be compared, and it is as likely to be the same as not."""
    resave(killed_with_one_checkpoint, program={"platform.jax": "0.4.1", "lowered": "0" * 64})
    experiment.run(every_chunk(tiny), workdir=killed_with_one_checkpoint, watch=False)
    message = capsys.readouterr().err
    assert "was saved under another jax (0.4.1 there," in message
    assert facts_of(killed_with_one_checkpoint) == facts_of(finished_run)


def test_the_identity_of_a_program_is_the_same_in_another_process(tiny, finished_run):
    saved, _ = checkpoint.newest(finished_run)
    assert saved and saved.origin.run == reader.read(finished_run).run.id
    code = ("import json, sys\nfrom mnist_jax.record import reader\nfrom mnist_jax.train import config, identity, step\n"
            "chosen = config.from_config(reader.read(sys.argv[1]).config)\n"
            "print(json.dumps(identity.of(step.program(chosen, 500, 'cpu'), chosen, 500)))")
    done = subprocess.run([sys.executable, "-c", code, str(finished_run)], capture_output=True, check=True)
    assert json.loads(done.stdout) == saved.origin.program
    here = identity.of(train_step.program(tiny, 500, "cpu"), tiny, 500)
    assert identity.differences(saved.origin.program, here) == ([], [])
    assert saved.origin.data == {fact.split: fact.digest for fact in reader.read(finished_run).of(events.Dataset)}


def test_the_record_is_on_disk_before_a_checkpoint_is_saved(tiny, tmp_path, monkeypatch):
    """A power failure may not leave a checkpoint that is ahead of the record."""
    synced: dict[str, int] = {}
    real_sync, real_save = os.fsync, checkpoint.Saver.save

    def sync(file: int) -> None:
        real_sync(file)
        synced[os.readlink(f"/proc/self/fd/{file}")] = os.fstat(file).st_size

    def save(saver: checkpoint.Saver, step: int, *state) -> None:
        journal = tmp_path / "run" / "events.jsonl"
        assert synced.get(str(journal)) == journal.stat().st_size, "everything that is written is synced"
        assert reader.read(journal.parent).steps >= step, "and the record reaches to the checkpoint"
        saved.append(step)
        real_save(saver, step, *state)

    saved: list[int] = []
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(checkpoint.Saver, "save", save)
    experiment.run(every_chunk(tiny), workdir=tmp_path / "run", watch=False)
    assert saved[-1] == 30 and len(saved) > 1


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


def test_a_child_resumes_from_its_parents_state_and_from_no_other(tiny, finished_run, tmp_path, capsys):
    more = dataclasses.replace(tiny, epochs=3)
    whole = facts_of(experiment.run(more, parent=finished_run, workdir=tmp_path / "whole", watch=False).directory)
    directory = experiment.run(more, parent=finished_run, workdir=tmp_path / "child", watch=False).directory
    (start, last) = checkpoint.paths(directory)
    assert checkpoint.read(start).origin.run == reader.read(finished_run).run.id != checkpoint.read(last).origin.run
    last.unlink()
    kill(directory, events_left=8)  # after it had recorded whose state it starts from
    experiment.run(more, workdir=directory, watch=False)
    assert facts_of(directory) == whole and "resuming from step 30 of 45" in capsys.readouterr().err
    for path in checkpoint.paths(directory):
        path.unlink()
    other = experiment.run(dataclasses.replace(tiny, seed=1), workdir=tmp_path / "other", watch=False).directory
    shutil.copy(checkpoint.paths(other)[-1], directory / "checkpoints")
    kill(directory, events_left=8)
    with pytest.raises(errors.RecordError, match="starts from the state of its parent, found none"):
        experiment.run(more, workdir=directory, watch=False)
    assert "it is skipped" in capsys.readouterr().err


def test_a_child_of_a_run_with_other_data_is_refused(tiny, finished_run, idx_folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(idx_folder, data)
    moved = dataclasses.replace(tiny, dataset=dataclasses.replace(tiny.dataset, data_dir=str(data)))
    parent = experiment.run(moved, workdir=tmp_path / "parent", watch=False).directory
    images = bytearray((data / "train-images-idx3-ubyte").read_bytes())
    images[-400] ^= 64
    (data / "train-images-idx3-ubyte").write_bytes(images)
    with pytest.raises(errors.UserError, match="expected the data that the parent was trained with"):
        experiment.run(dataclasses.replace(moved, epochs=3), parent=parent, workdir=tmp_path / "child", watch=False)
    assert not (tmp_path / "child").exists()


@pytest.mark.parametrize("environment", [{"JAX_DEFAULT_PRNG_IMPL": "rbg"}, {"JAX_THREEFRY_PARTITIONABLE": "0"},
                                         {"JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg", "JAX_RANDOM_SEED_OFFSET": "3"}])
def test_the_generator_is_the_programs_whatever_the_environment_says(finished_run, killed_with_one_checkpoint, environment):
    """A new run has the same bits, and so has one that resumes there."""
    code = ("import sys\nfrom mnist_jax.record import reader\nfrom mnist_jax.train import experiment\n"
            "for config, directory in zip(sys.argv[1::2], sys.argv[2::2]):\n"
            "    experiment.run(reader.read(config).config, workdir=directory, watch=False)")
    new, resumed = killed_with_one_checkpoint.parent / "new", killed_with_one_checkpoint
    done = subprocess.run([sys.executable, "-c", code, str(finished_run), str(new), str(resumed), str(resumed)],
                          env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0 and "resuming from step 15 of 30" in done.stderr, done.stderr
    assert facts_of(new) == facts_of(resumed) == facts_of(finished_run)


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


def every_chunk(chosen):
    """Return the settings, but for a checkpoint after every chunk, of which all are kept."""
    return dataclasses.replace(chosen, checkpoint=dataclasses.replace(chosen.checkpoint, keep=10, every_s=0.0))


def resave(directory: Path, **changed: dict[str, str]) -> None:
    """Write the last checkpoint of a run again, with some names of its origin changed."""
    path = checkpoint.paths(directory)[-1]
    saved = checkpoint.read(path)
    path.unlink()
    run, program, data = saved.origin
    origin = checkpoint.Origin(run, {**program, **changed.get("program", {})}, {**data, **changed.get("data", {})})
    checkpoint.save(directory, saved.step, saved.arrays, origin, keep=10)


def kill(directory: Path, events_left: int) -> None:
    """Make of a finished run one that was killed after so many events, as the disk would show it."""
    lines = (directory / "events.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "events.jsonl").write_bytes(b"".join(lines[:events_left]) + lines[events_left][:30])
    run_file.write(directory, run_file.run(run_file.read(directory)), "running", None)
