"""What a person types: each mistake is one line that says what was expected and found, with exit code 2."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import events
from mnist_jax.cli import main
from mnist_jax.record import reader
from tests.helpers import tracker_servers
from tests.helpers.datasets import write_idx

ROOT = Path(__file__).parents[2]
DIGITS = "--config=configs/cnn.py:digits"


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120,
                          env={**os.environ, **environment}, stdin=subprocess.DEVNULL)


def mistake(*arguments: str, **environment: str) -> str:
    """Return the one line that a mistaken command prints."""
    done = call(*arguments, **environment)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and not done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(("arguments", "message"), [
    ([DIGITS, "--config.optimizer.learning_rat=0.1"], "learning_rate"),
    ([DIGITS, "--config.epoch=3"], "epochs"),
    ([DIGITS, "--config.epochs=many"], "many"),
    ([DIGITS, "--config.optimiser.name=sgd"], "did you mean 'optimizer'?"),
    ([DIGITS, "--config.epochs=0"], "expected an integer from 1"),
    ([DIGITS, "--config.batch_size=5000"], "expected at most the 1257 training examples"),
    ([DIGITS, "--tracker=neptun"], "did you mean 'neptune'?"),
    ([DIGITS, "--tracker_mode=onlin"], "onlin"),
    ([DIGITS, "--config.model.name=cnm"], "did you mean 'cnn'?"),
    ([DIGITS, "--config.dataset.name=minst"], "did you mean 'mnist'?"),
    (["--config=configs/cmm.py"], "configs/cmm.py"),
    (["--config=README.md"], "README.md"),
    ([], "--config=configs/cnn.py:digits"),
    ([DIGITS, "neptune"], "'neptune'"),
    ([DIGITS, "--trackr=neptune"], "tracker"),
    (["--config=configs/cnn.py", "--config.dataset.data_dir=configs"], "four IDX files"),
])
def test_a_mistake_in_the_flags(arguments, message):
    line = mistake("run.py", *arguments)
    assert message in line and line.startswith("mnist-jax train: ")


def test_a_tracker_whose_package_is_missing_names_the_pip_command():
    hidden = "import sys; sys.modules['neptune'] = None; sys.argv = ['run.py', *sys.argv[1:]]; import runpy; " \
             "runpy.run_path('run.py', run_name='__main__')"
    line = mistake("-c", hidden, DIGITS, "--tracker=neptune")
    assert "pip install 'mnist-jax[neptune]'" in line


def test_data_that_is_nowhere_names_three_ways_out(tmp_path):
    """The proxy is a closed port of this machine, so that no network is asked."""
    line = mistake("run.py", "--config=configs/mlp.py:kmnist", HOME=str(tmp_path), MNIST_JAX_CACHE=str(tmp_path / "cache"),
                   http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9", no_proxy="")
    assert "TFDS_DATA_DIR" in line and "dataset.data_dir" in line and "configs/cnn.py:digits" in line


def test_a_truncated_idx_file_is_named(tmp_path, idx_folder):
    for path in idx_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "train-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    line = mistake("run.py", "--config=configs/mlp.py", f"--config.dataset.data_dir={tmp_path}")
    assert str(damaged) in line and "truncated" in line


def test_an_idx_file_of_the_wrong_kind_is_named(tmp_path, idx_folder):
    for path in idx_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros(600))
    line = mistake("run.py", "--config=configs/mlp.py", f"--config.dataset.data_dir={tmp_path}")
    assert "train-images-idx3-ubyte" in line and "0x0803" in line


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    line = mistake("run.py", DIGITS, f"--workdir={tmp_path}/file/run")
    assert "writable" in line and "workdir" in line


def test_a_directory_of_another_config_is_refused(finished_run):
    line = mistake("run.py", DIGITS, f"--workdir={finished_run}")
    assert "batch_size" not in line.partition("expected")[0] and "choose another workdir" in line
    assert "epochs (2 there" in line


def test_a_config_with_a_credential_is_refused():
    line = mistake("run.py", DIGITS, "--config.name=canary-0123456789", NEPTUNE_API_TOKEN="canary-0123456789")
    assert "NEPTUNE_API_TOKEN" in line and "canary" not in line


@pytest.mark.parametrize("arguments", [["show", "nowhere"], ["sync", "nowhere", "--tracker=neptune"],
                                       ["sync", "nowhere", "--tracker=neptun"],
                                       ["sync", "nowhere", "--tracker=local"],
                                       ["import", "nowhere", "--workdir=runs/never"],
                                       ["export", "nowhere", "--parquet=runs/never"]])
def test_a_run_that_is_not_there(arguments):
    assert "nowhere" in mistake("-m", "mnist_jax", *arguments)


def test_show_prints_one_object_and_a_page(finished_run):
    facts = json.loads(call("-m", "mnist_jax", "show", str(finished_run), "--json").stdout)
    assert {"id", "name", "status", "config", "steps", "parameters_sha256", "datasets", "metrics", "events",
            "sync"} <= set(facts)
    assert {"state", "where", "sent", "converted", "sampled", "unsupported", "failed", "pending"} <= set(
        facts["sync"]["neptune-offline"])
    page = call("-m", "mnist_jax", "show", str(finished_run)).stdout
    assert facts["id"] in page and "test/accuracy" in page


def test_a_neptune_folder_moves_to_a_comet_server(finished_run, tmp_path):
    """The way off Neptune: import, then sync to another tracker, by two commands."""
    moved = tmp_path / "moved"
    done = call("-m", "mnist_jax", "import", str(finished_run / "sync" / "neptune-offline"), f"--workdir={moved}")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == str(moved), done.stderr
    with tracker_servers.serve("comet") as served:
        done = call("-m", "mnist_jax", "sync", str(moved), "--tracker=comet", **served.environment)
        assert done.returncode == 0 and "complete" in done.stdout, done.stdout + done.stderr
        arrived = served.contents(reader.read(moved).run.id)
    recorded = reader.read(finished_run)
    points = {(name, step): value for name, (steps, values) in recorded.series().items()
              for step, value in zip(steps, values, strict=True)}
    assert {(name, step): float(value) for name, step, value, _ in arrived["metrics"]} == points
    assert len(arrived["metrics"]) == len(points) and list(arrived["registered"]) == ["tiny"]
    pictures = {image.name: recorded.bytes_of(image.blob) for image in recorded.of(events.Image)}
    assert {name: content for kind, name, _, content, _ in arrived["assets"] if kind == "image"} == pictures


def test_a_run_is_exported_as_parquet(finished_run, tmp_path):
    done = call("-m", "mnist_jax", "export", str(finished_run), f"--parquet={tmp_path}/out")
    assert done.returncode == 0 and Path(done.stdout.strip()).is_file()


@pytest.mark.parametrize("arguments", [["run.py", "--help"], ["-m", "mnist_jax", "--help"], ["-m", "mnist_jax", "show", "-h"]])
def test_help_is_no_mistake(arguments):
    done = call(*arguments)
    assert (done.returncode == 0 and "example" in done.stdout) or "--config" in done.stdout or "directory" in done.stdout


def test_a_finished_run_started_again_prints_its_summary(tmp_path, idx_folder):
    command = ["run.py", "--config=configs/mlp.py", f"--config.dataset.data_dir={idx_folder}", "--config.epochs=1",
               "--config.dataset.validation_examples=0", "--config.model.hidden=(8,)", f"--workdir={tmp_path}/run"]
    first, again = call(*command), call(*command)
    for done in (first, again):
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"{tmp_path}/run" and "test accuracy" in done.stdout
    assert not first.stderr  # no bar, no noise where nobody watches
    assert again.stderr == f"{tmp_path}/run: this run is finished already; nothing is trained\n"


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_pipe_costs_no_run(tmp_path, idx_folder, closed):
    """Where nobody reads results or warnings, the run has finished all the same, and exit code 0 is true."""
    reads, writes = os.pipe()
    os.close(reads)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {closed: writes}
    done = subprocess.run([sys.executable, "run.py", "--config=configs/mlp.py", f"--config.dataset.data_dir={idx_folder}",
                           "--config.epochs=1", "--config.dataset.validation_examples=0", "--config.model.hidden=(8,)",
                           f"--workdir={tmp_path}/run", f"--tracker={'local' if closed == 'stdout' else 'neptune'}"],
                          cwd=ROOT, timeout=120, **streams)
    os.close(writes)
    assert done.returncode == 0 and reader.read(tmp_path / "run").status == "finished"


def test_the_time_to_the_first_step_counts_the_imports_of_the_command_line():
    code = ("import time; from mnist_jax import cli; imported = time.time(); from mnist_jax.cli import main, train; "
            "assert train.cli.STARTED <= imported < time.time() - 0.01")
    assert call("-c", code).returncode == 0


def test_the_help_of_every_command_has_an_example():
    def commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
        inner = [each for action in parser._actions if isinstance(action, argparse._SubParsersAction)
                 for each in action.choices.values()]
        return [below for each in inner for below in commands(each)] if inner else [parser]

    parsers = [each for each in commands(main.parser()) if each.add_help]  # `train` has the help of absl
    assert len(parsers) >= 14 and all((each.epilog or "").startswith("example: mnist-jax ") for each in parsers)
    assert "    mnist-jax train --config=" in call("-m", "mnist_jax", "train", "--help").stdout
