"""The two environments of the thesis: each has its own tracker alone, and the library runs there."""

import configparser
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLIENTS = {"neptune": ("neptune",), "comet": ("comet_ml",)}  # how the names of a tracker's packages begin
TITLES = {"neptune": "Neptune ", "comet": "Comet   "}
PAIRS = [("neptune", "comet"), ("comet", "neptune")]


@pytest.mark.parametrize(("tracker", "other"), PAIRS)
def test_the_environment_file_asks_for_one_tracker_and_a_python_that_is_supported(tracker, other):
    described = yaml.safe_load((ROOT / "environments" / f"{tracker}.yml").read_text())
    assert described["name"] == f"mnist-jax-{tracker}"
    python, pip, packages = described["dependencies"]
    assert (python, pip, packages) == ("python>=3.11,<3.14", "pip", {"pip": [f"..[{tracker}]"]})
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options"]["python_requires"] == ">=3.11"
    assert tracker in setup["options.extras_require"][tracker] and other not in setup["options.extras_require"][tracker]


@pytest.fixture
def without(tmp_path):
    """Return a function that makes an environment of links to what is installed here but one tracker, and its Python."""
    def make(tracker: str) -> Path:
        venv.create(tmp_path / "environment", symlinks=True)
        (packages,) = (tmp_path / "environment").glob("lib/python*/site-packages")
        for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if not path.name.startswith((*CLIENTS[tracker], "__editable__", "__pycache__")):
                (packages / path.name).symlink_to(path)
        return tmp_path / "environment" / "bin" / "python"

    return make


@pytest.mark.parametrize(("tracker", "other"), PAIRS)
def test_the_library_runs_where_the_other_tracker_is_absent(tracker, other, without, probed, tmp_path):
    python = without(other)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def call(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([python, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    imported = call("-c", f"import {CLIENTS[other][0]}")
    assert imported.returncode == 1 and "ModuleNotFoundError" in imported.stderr
    config = ["run.py", "--config=configs/mlp.py:digits", "--config.epochs=2"]
    trained = call(*config, f"--tracker={tracker}", f"--workdir={tmp_path / 'run'}")
    assert trained.returncode == 0 and f"{tracker}-offline  complete" in trained.stdout, trained.stderr
    refused = call(*config, f"--tracker={other}", f"--workdir={tmp_path / 'refused'}")
    assert refused.returncode == 2 and f"pip install 'mnist-jax[{other}]'" in refused.stderr
    assert not (tmp_path / "refused").exists()
    code = ("import sys; from pathlib import Path; from mnist_jax.compare import sandbox; "
            "sandbox.probe(Path(sys.argv[1]), tuple(sys.argv[2:]))")
    assert call("-c", code, str(tmp_path), other).returncode == 0  # it says at once that the client is not there
    shutil.copytree(probed / tracker, tmp_path / tracker)
    compared = call("-m", "mnist_jax", "compare-trackers", str(tmp_path / "run"), "--evidence", str(tmp_path))
    assert compared.returncode == 0 and f"{TITLES[other].strip()} is not installed" in compared.stdout, compared.stderr
    assert f"  {TITLES[tracker]} by" in compared.stdout and f"  {TITLES[other]} by" not in compared.stdout
