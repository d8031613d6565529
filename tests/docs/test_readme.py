"""Every command and program of the README runs, in order, in one folder, as a new user would run them."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import datasets

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(shell|python)\n(.*?)```", README, re.DOTALL)
INSTALLING = re.compile(r"pip install \S+ && ")  # what `.ci/run` does in an environment of its own
# Trainings are cut, and the clients are probed once for all tests; nothing else of a command is changed.
CUT = {"sweep.py": "--config.epochs=2 --config.sweep.seeds=1", "cnn.py ": "--config.epochs=1",
       "fashion": "--config.epochs=1", "cnn.py:digits": "--config.epochs=3", "mlp.py:digits --config.opt": "--config.epochs=2",
       "compare-trackers": "--evidence={probed}"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with what a checkout has, and what the README takes a user to have: MNIST, pictures, an old run."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("configs", "docs", "run.py"):
        (folder / name).symlink_to(ROOT / name)
    generator = np.random.default_rng(0)
    arrays = {split: (generator.integers(0, 256, (examples, 28, 28, 1)).astype(np.uint8),
                      generator.integers(0, 10, examples).astype(np.int32)) for split, examples in
              (("train", 6_400), ("test", 200))}
    prepared = datasets.write(folder / "tensorflow_datasets", arrays)
    fashion = folder / "tensorflow_datasets" / "fashion_mnist" / datasets.VERSION
    fashion.mkdir(parents=True)
    for path in prepared.iterdir():
        content = path.read_bytes()
        (fashion / path.name.replace("mnist-", "fashion_mnist-")).write_bytes(
            content.replace(b'"mnist"', b'"fashion_mnist"') if path.suffix == ".json" else content)
    (folder / "path" / "to" / "idx").mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[split]
        datasets.write_idx(folder / "path" / "to" / "idx" / f"{prefix}-images-idx3-ubyte", images[..., 0])
        datasets.write_idx(folder / "path" / "to" / "idx" / f"{prefix}-labels-idx1-ubyte", labels)
    for name in ("three.png", "photo.jpg"):
        Image.fromarray(arrays["test"][0][0, ..., 0]).save(folder / name)
    return folder


def test_every_block_runs_in_order(place, probed):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                   "TFDS_DATA_DIR": str(place / "tensorflow_datasets"), "PYTHONPATH": str(ROOT)}
    printed = []
    for language, block in BLOCKS:
        commands = [block] if language == "python" else block.strip().split("\n")
        for command in commands:
            if "import .neptune" in command:
                (left,) = (place / "runs" / "first" / "sync" / "neptune-offline").iterdir()
                shutil.copytree(left, place / ".neptune" / "offline" / "run__1234")
            shell = line(command).format(probed=probed) if language == "shell" else ""
            arguments = [sys.executable, "-c", command] if language == "python" else ["bash", "-c", shell]
            if not arguments[-1]:
                continue
            done = subprocess.run(arguments, cwd=place, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            printed.append((command, done.stdout))
    outputs = dict(printed)
    assert len(outputs) >= 22
    programs = [outputs[block] for language, block in BLOCKS if language == "python"]
    assert programs[0].startswith("finished 0.9") and programs[1] == "finished ['complete', 'complete']\n"
    assert "bit-identical" in next(text for command, text in printed if "reproduce" in command)
    for name in ("report.html", "compare.html", "runs/sweep/sweep.json", "runs/moved/sync/comet-offline.jsonl"):
        assert (place / name).is_file(), name


def line(command: str) -> str:
    """Return a command as the test runs it; empty for the tests themselves."""
    command = INSTALLING.sub("", command)
    if command.endswith("-m pytest") or command.startswith("pip install"):
        return ""
    command += "".join(f" {flag}" for what, flag in CUT.items() if what in command)
    if "HOST" not in command:
        return command
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        command = command.replace("HOST:1234", f"127.0.0.1:{free.getsockname()[1]}")
    other = command.replace("--process_index=0", "--process_index=1")
    return f"({other} > other.txt 2>&1 &) ; {command}"


def test_ci_calls_the_test_command_of_the_readme():
    (command,) = re.findall(r"^(pip install .*pytest.*)$", README, re.MULTILINE)
    assert command == "pip install '.[test]' && python -m pytest"
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
