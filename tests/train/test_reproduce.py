"""A reproduction claims no more than it has compared, and where runs part it finds the step and names the cause."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_jax
from mnist_jax import errors
from mnist_jax.cli import main
from mnist_jax.record import reader
from mnist_jax.train import experiment, reproduce
from tests.helpers import records


def test_a_run_is_reproduced_bit_for_bit_by_another_process(finished_run, tmp_path):
    command = [sys.executable, "-m", "mnist_jax", "reproduce", str(finished_run), f"--workdir={tmp_path / 'again'}", "--json"]
    verdict = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert verdict["verdict"] == "bit-identical, parameters included" and verdict["holds"] and not verdict["differences"]
    assert verdict["steps"] == 30 and verdict["values"] == 2 * 30 + 4 * 2 + 2
    assert reader.read(tmp_path / "again").run.parent == reader.read(finished_run).run.id


def test_a_prefix_is_compared(finished_run, tmp_path):
    verdict = reproduce.reproduce_run(finished_run, steps=7, workdir=tmp_path / "again", watch=False)
    assert (verdict.verdict, verdict.steps, verdict.values) == ("bit-identical", 7, 14)
    assert reader.read(tmp_path / "again").status == "interrupted"


def test_a_directory_that_holds_anything_is_refused_and_nothing_is_said_of_it(finished_run, tmp_path, capsys):
    """Nothing would be trained in the run itself or in a finished reproduction, and its values compared with themselves."""
    shutil.copytree(finished_run, tmp_path / "run")
    shutil.copytree(finished_run, tmp_path / "copy")
    again = reproduce.reproduce_run(finished_run, steps=2, workdir=tmp_path / "again", watch=False).directory
    for name in ("one file", "hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "one file" / "notes.txt").write_text("mine")
    (tmp_path / "hidden" / ".keep").write_text("")
    (tmp_path / "a file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for directory in (*(tmp_path / name for name in ("run", "copy", "one file", "hidden", "a file", "link", "broken")), again):
        assert main.main(["reproduce", str(tmp_path / "run"), f"--workdir={directory}"]) == 2
        output = capsys.readouterr()
        assert "expected an empty or new directory" in output.err and not output.out, directory
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "empty").mkdir()
    assert reproduce.reproduce_run(finished_run, steps=1, workdir=tmp_path / "empty", watch=False).holds


@pytest.mark.parametrize("tolerance", ["inf", "nan", "-inf", "-0.1", "1e999"])
def test_a_tolerance_is_finite(finished_run, tmp_path, capsys, tolerance):
    assert main.main(["reproduce", str(finished_run), f"--tolerance={tolerance}", f"--workdir={tmp_path / 'again'}"]) == 2
    assert "expected a finite number of 0 or more" in capsys.readouterr().err and not (tmp_path / "again").exists()


def test_values_of_any_run_but_the_own_child_prove_nothing(finished_run, tmp_path, monkeypatch):
    """Another program may finish a run in the directory after it was found empty."""
    real = experiment.run

    def other_first(*arguments, workdir, **settings):
        shutil.copytree(finished_run, workdir)
        return real(*arguments, workdir=workdir, **settings)

    monkeypatch.setattr(experiment, "run", other_first)
    with pytest.raises(errors.RecordError, match=f"found run {reader.read(finished_run).run.id}"):
        reproduce.reproduce_run(finished_run, workdir=tmp_path / "again", watch=False)


def test_the_series_that_a_run_declares_are_not_compared(finished_run, tmp_path):
    original = reader.read(finished_run)
    again = records.rewritten(tmp_path / "again", original, [_nudged(entry.event) for entry in original.entries])
    declared = dataclasses.replace(original, run=dataclasses.replace(original.run, nondeterministic=("system/*", "test/lo*")))
    verdict = reproduce.compare(declared, again)
    assert verdict.holds and verdict.values == 2 * 30 + 4 * 2 + 1
    every = dataclasses.replace(original, run=dataclasses.replace(original.run, nondeterministic=()))
    changed = records.rewritten(tmp_path / "changed", original, [
        entry.event for entry in original.entries if "system/images_per_second" not in getattr(entry.event, "values", {})])
    divergence = reproduce.compare(every, changed).first_divergence
    assert divergence and divergence[1] == "system/images_per_second"
    nothing = dataclasses.replace(original, run=dataclasses.replace(original.run, nondeterministic=("*",)))
    assert not reproduce.compare(nothing, original).holds


def test_another_seed_diverges_at_the_first_step_and_is_named(finished_run, tmp_path, capsys):
    code = main.main(["reproduce", str(finished_run), "--set=seed=1", "--steps=3", f"--workdir={tmp_path / 'again'}"])
    message = capsys.readouterr().out
    assert code == 1 and "first divergence at step 1: train/loss was" in message and "config: seed was 0, now 1" in message


def test_one_changed_pixel_is_found_and_named(tiny, idx_folder, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for path in idx_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    moved = dataclasses.replace(tiny, dataset=dataclasses.replace(tiny.dataset, data_dir=str(folder)))
    original = experiment.run(moved, workdir=tmp_path / "run", watch=False).directory
    images = bytearray((folder / "train-images-idx3-ubyte").read_bytes())
    images[-400] ^= 64
    (folder / "train-images-idx3-ubyte").write_bytes(images)
    verdict = reproduce.reproduce_run(original, workdir=tmp_path / "again", watch=False)
    (difference,) = verdict.differences
    assert not verdict.holds and difference.startswith(("data: train had the digest", "data: validation had the digest"))
    assert verdict.first_divergence and 1 <= verdict.first_divergence[0] <= 15


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores to pin")
def test_another_thread_count_is_named(finished_run, tmp_path):
    one = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", f"import os, sys; os.sched_setaffinity(0, {{{one}}}); from mnist_jax.cli import main; "
               f"sys.exit(main.main(['reproduce', {str(finished_run)!r}, '--json', '--workdir={tmp_path / 'again'}']))"]
    result = subprocess.run(command, capture_output=True, check=False)
    verdict = json.loads(result.stdout)
    assert verdict["differences"] == [f"environment: threads changed from {len(os.sched_getaffinity(0))} to 1"]
    assert (result.returncode == 0) == verdict["holds"] == (verdict["first_divergence"] is None)


def test_another_learning_rate_in_the_source_is_named(finished_run, tmp_path):
    package = tmp_path / "mnist_jax"
    shutil.copytree(Path(mnist_jax.__file__).parent, package)
    source = (package / "train" / "step.py").read_text()
    line = "values = (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay)"
    assert line in source
    (package / "train" / "step.py").write_text(source.replace(line, line.replace("learning_rate", "learning_rate * 1.01")))
    command = [sys.executable, "-m", "mnist_jax", "reproduce", str(finished_run), f"--workdir={tmp_path / 'again'}", "--json"]
    result = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path,
                            env={**os.environ, "PYTHONPATH": str(tmp_path)})
    verdict = json.loads(result.stdout)
    assert result.returncode == 1 and verdict["first_divergence"][0] == 2, "the first update changes the second loss"
    assert any("mnist_jax/train/step.py changed" in line and "learning_rate * 1.01" in line for line in verdict["differences"])


def test_a_tolerance_is_a_claim_of_its_own(finished_run, tmp_path):
    original = reader.read(finished_run)
    again = records.rewritten(tmp_path / "again", original, [_nudged(entry.event) for entry in original.entries])
    assert not reproduce.compare(original, again).holds
    near = reproduce.compare(original, again, tolerance=1e-6)
    assert near.holds and near.verdict.startswith("equal within 1e-06")
    divergence = reproduce.compare(original, again, tolerance=1e-9).first_divergence
    assert divergence and divergence[:2] == (30, "test/loss")


def test_nothing_compared_is_nothing_claimed(finished_run, tmp_path):
    original = reader.read(finished_run)
    facts = [entry.event for entry in original.entries]
    assert not reproduce.compare(records.rewritten(tmp_path / "short", original, facts[:5]), original).holds
    missing = records.rewritten(tmp_path / "missing", original, facts[:12])
    assert not reproduce.compare(original, missing).holds


@pytest.mark.parametrize(("change", "message"), [("sead=1", "did you mean 'seed'"), ("seed", "KEY=VALUE"),
                                              ("optimizer.name=adam", "did you mean 'adamw'")])
def test_a_mistaken_change_is_one_line(finished_run, change, message):
    with pytest.raises(errors.UserError, match=message):
        reproduce.reproduce_run(finished_run, changes=[change], watch=False)


def _nudged(event):
    if "test/loss" not in getattr(event, "values", {}):
        return event
    values = {name: series + 1e-7 if name == "test/loss" else series for name, series in event.values.items()}
    return dataclasses.replace(event, values=values)
