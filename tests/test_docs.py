"""What the documents show runs as it stands, and what they say of the code is what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_jax import comet_tracker, neptune_tracker

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_every_block_of_a_document_runs_in_order(path, tmp_path):
    for name in ("configs", "run.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    for language, block in re.findall(r"```(python|shell)\n(.*?)```", path.read_text(), re.DOTALL):
        for step in [block] if language == "python" else block.strip().split("\n"):
            command = ([sys.executable, "-c", step] if language == "python" else
                       [sys.executable if word == "python" else word for word in step.split()])
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{step}\n{done.stderr}"


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
