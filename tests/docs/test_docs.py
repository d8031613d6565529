"""What the documents show runs as it stands, and what they say of the code is what the code says."""

import configparser
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_jax
from mnist_jax.tracking.comet import tracker as comet_tracker
from mnist_jax.tracking.neptune import tracker as neptune_tracker

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
NAMED = [*DOCUMENTS, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
PROGRAMS = {"python": [sys.executable], "mnist-jax": [sys.executable, "-m", "mnist_jax"]}  # the copy in the folder of the test


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_every_block_of_a_document_runs_in_order(path, tmp_path):
    """Shell lines and programs run, changes are applied, and what begins with a comment that is a path is that file."""
    copied = ("mnist_jax", "configs") if "```diff" in path.read_text() else ("configs",)
    for name in copied:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tmp_path)
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
                program, *arguments = shlex.split(line)
                run([*PROGRAMS.get(program, [program]), *arguments], tmp_path)


def run(command: list[str], folder: Path, given: str | None = None) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, input=given)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_the_table_of_support_is_what_the_backends_say():
    text = (ROOT / "docs" / "trackers.md").read_text()
    for kind, said in neptune_tracker.SUPPORT.items():
        offline, online = (comet_tracker.SUPPORT[mode][kind] for mode in ("offline", "online"))
        cells = [f"{each.level}: {each.note}" for each in (said, offline, online)]
        cells[2] = "the same" if cells[2] == cells[1] else cells[2]
        assert f"| {kind.__name__} | {' | '.join(cells)} |" in text


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.stem)
def test_every_file_and_section_that_a_document_names_is_there(path):
    text = path.read_text()
    for name in re.findall(r"`((?:mnist_jax|configs|benchmarks|docs|tests|environments)/[\w./]+\.\w+)", text):
        assert (ROOT / name).exists(), name
    for name, section in re.findall(r"\]\(([\w./-]+)(?:#([\w-]+))?\)", text):
        assert (path.parent / name).exists(), name
        assert not section or section in sections(path.parent / name), f"{name}#{section}"


def sections(path: Path) -> list[str]:
    """Return the anchors that the headings of a document get."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_picture_of_the_rooms_names_every_floor_from_the_roof_down():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    floors = setup["importlinter:contract:rooms"]["layers"].replace(":", " ").split()
    drawn = " ".join(re.findall(r'<text class="head"[^>]*>([^<]*)<', (ROOT / "docs" / "design.svg").read_text()))
    assert drawn.replace(",", "").split() == [floor for floor in floors if floor != "__main__"]


def test_the_api_reference_is_written(tmp_path):
    run([sys.executable, str(ROOT / "docs" / "api.py"), str(tmp_path / "api")], ROOT)
    assert (tmp_path / "api" / "index.html").is_file()
    page = (tmp_path / "api" / "mnist_jax.html").read_text()
    public = [name for name in mnist_jax.__all__ if not inspect.ismodule(getattr(mnist_jax, name))]
    assert public and [name for name in public if f'id="{name}"' not in page] == []
