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


def test_a_prefix_is_compared_and_can_be_resumed(finished_run, tmp_path):
    verdict = reproduce.reproduce_run(finished_run, steps=7, workdir=tmp_path / "again", watch=False)
    assert (verdict.verdict, verdict.steps, verdict.values) == ("bit-identical", 7, 14)
    assert reader.read(tmp_path / "again").status == "interrupted"
    whole = reproduce.reproduce_run(finished_run, workdir=tmp_path / "again", watch=False)
    assert whole.verdict == "bit-identical, parameters included"


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
