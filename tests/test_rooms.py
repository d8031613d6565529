"""The rooms: imports run down, heavy libraries stay in theirs, and importing the package is light."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_jax

ROOT = Path(__file__).parent.parent
PACKAGE = Path(mnist_jax.__file__).parent
JAX = {"jax", "jaxlib", "flax", "optax"}
IN_FUNCTIONS = {"neptune", "comet_ml", "matplotlib", "plotly", "tensorflow_datasets", "sklearn", "PIL", "tqdm", "pyarrow"}
ROOMS = ("record", "provenance", "data", "registry", "tracking", "convert", "train", "view", "compare", "cli")


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """Lint the package in a folder, and not the one that is installed."""
    return subprocess.run([Path(sys.executable).with_name("lint-imports"), str(ROOT / "setup.cfg"), "--no-cache"], cwd=folder,
                          env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "mnist_jax", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_imports_run_down():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("file", "line"), [
    ("tracking/run.py", "import jax"), ("record/writer.py", "from mnist_jax.tracking import run"),
    ("errors.py", "from mnist_jax import events"), ("view/text.py", "from mnist_jax.cli import main"),
    ("registry/store.py", "import flax.linen"), ("new_room.py", "import json")])
def test_an_import_that_runs_up_is_found(copy, file, line):
    path = copy / "mnist_jax" / file
    path.write_text(f"{path.read_text() if path.exists() else ''}\n{line}\n")
    result = lint_imports(copy)
    assert result.returncode == 1 and ("BROKEN" in result.stdout or "new_room" in result.stdout), result.stdout + result.stderr


def test_a_room_is_a_package_that_says_what_it_is_for():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"configs"} == set(ROOMS)
    for room in PACKAGE.rglob("__init__.py"):
        assert room.read_text().startswith('"""'), room


def test_a_wheel_holds_every_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(setup["options"]["packages"].split()) == packages | {"mnist_jax.configs"}
    data = setup["options.package_data"]
    assert set(data["mnist_jax"].replace(",", " ").split()) == {"py.typed", "*.pyi"} and (PACKAGE / "py.typed").exists()
    assert {f"mnist_jax.{path.parent.name}" for path in PACKAGE.glob("*/static")} == set(data) - {"mnist_jax"}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split())


def modules(*rooms: str) -> str:
    """Return a statement that imports every module of rooms but the programs that start themselves."""
    paths = [path for room in rooms for path in sorted((PACKAGE / room).rglob("*.py"))]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return f"import {', '.join(name for name in names if not name.endswith('cli.train'))}"


def test_importing_the_package_is_light():
    assert not {*JAX, *IN_FUNCTIONS, "numpy"} & loaded_by("import mnist_jax; dir(mnist_jax)")


def test_every_room_but_train_does_without_jax():
    assert not {*JAX, *IN_FUNCTIONS} & loaded_by(modules(*(room for room in ROOMS if room != "train")))


def test_training_imports_no_tracker_and_no_plots_before_they_are_used():
    loaded = loaded_by(modules("train"))
    assert loaded >= JAX and not IN_FUNCTIONS & loaded


def test_the_public_names_are_there():
    assert {"run", "track", "read", "sync", "load_model", "UserError"} <= set(dir(mnist_jax)) >= set(mnist_jax.__all__)
    for name in mnist_jax.__all__:
        assert getattr(mnist_jax, name) is not None, name
    with pytest.raises(AttributeError):
        getattr(mnist_jax, "nothing")  # noqa: B009


def test_no_class_is_defined_twice():
    names = [line.split("class ")[1].split("(")[0].split(":")[0] for path in PACKAGE.rglob("*.py")
             for line in path.read_text().split("\n") if line.lstrip().startswith("class ")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_ruff_and_mypy_pass():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"  # the stubs that are installed are for it
    for command in (["ruff", "check", "."], ["mypy", "--python-version", version]):
        result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
