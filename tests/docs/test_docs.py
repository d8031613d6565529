"""What the documents show runs as it stands, and what they say of the code is what the code says."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_jax.tracking.comet import tracker as comet_tracker
from mnist_jax.tracking.neptune import tracker as neptune_tracker

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_every_block_of_a_document_runs_in_order(path, tmp_path):
    """Shell lines and programs run, changes are applied, and what begins with a comment that is a path is that file."""
    copied = ("mnist_jax", "configs") if "```diff" in path.read_text() else ("configs",)
    for name in copied:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tmp_path)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    for language, block in re.findall(r"```(python|shell|diff)\n(.*?)```", path.read_text(), re.DOTALL):
        named = re.match(r"# ([\w/]+\.py)\n(.*)", block, re.DOTALL)
        if named:
            (tmp_path / named[1]).write_text(named[2])
        elif language == "diff":
            run(["git", "apply", "-"], tmp_path, block)
        elif language == "python":
            run([sys.executable, "-c", block], tmp_path)
        else:
            for line in block.strip().split("\n"):
                run([sys.executable if word == "python" else word for word in shlex.split(line)], tmp_path)


def run(command: list[str], folder: Path, given: str | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, input=given)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_table_of_support_is_what_the_backends_say():
    text = (ROOT / "docs" / "trackers.md").read_text()
    for kind, said in neptune_tracker.SUPPORT.items():
        offline, online = (comet_tracker.SUPPORT[mode][kind] for mode in ("offline", "online"))
        cells = [f"{each.level}: {each.note}" for each in (said, offline, online)]
        cells[2] = "the same" if cells[2] == cells[1] else cells[2]
        assert f"| {kind.__name__} | {' | '.join(cells)} |" in text


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "README.md"], ids=lambda path: path.stem)
def test_every_file_that_a_document_names_is_there(path):
    for name in re.findall(r"`((?:mnist_jax|configs|benchmarks|docs|tests|environments)/[\w./]+\.\w+)", path.read_text()):
        assert (ROOT / name).exists(), name
