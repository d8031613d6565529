"""All but training and prediction works where jax cannot be imported, and `track` leaves a process as light as it was."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "flax", "optax"):
            raise ImportError(f"{name} cannot be imported here")
sys.meta_path.insert(0, Blocked())
"""
LIBRARY = """
import sys, mnist_jax
directory = sys.argv[1]
assert mnist_jax.read(directory).status == "finished" and mnist_jax.list_runs("runs")
with mnist_jax.track("mine", {"lr": 0.1}, workdir="tracked", tracker="comet", tracker_mode="offline") as run:
    run.log({"x": 1.0}, step=1)
assert [status.state for status in run.sync] == ["complete"] and mnist_jax.read("tracked").last() == {"x": 1.0}
"""
TRACK = """
import sys, os, threading
import numpy
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
import mnist_jax
run = mnist_jax.track("mine", {"lr": 0.1}, workdir=sys.argv[1])
run.log({"x": 1.0}, step=1)
print("jax" in sys.modules, threading.active_count(), (resident() - before) // 2**20)
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
run.close()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCK)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "TF_CPP_MIN_LOG_LEVEL": "3"}


def test_commands_and_library_work_where_jax_cannot_be_imported(finished_run, tmp_path, environment):
    shutil.copytree(finished_run, tmp_path / "runs" / "done")

    def python(*arguments: str, fails: bool = False) -> str:
        result = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
                                check=False)
        assert (result.returncode != 0) == fails, result.stdout + result.stderr
        return result.stdout + result.stderr

    assert "cannot be imported" in python("-c", "import jax", fails=True)
    run, registry = "runs/done", "--registry=models"
    python("-c", LIBRARY, run)
    assert "finished" in python("-m", "mnist_jax", "list")
    assert "finished" in python("-m", "mnist_jax", "show", run)
    assert "complete" in python("-m", "mnist_jax", "sync", "tracked", "--tracker=neptune", "--tracker_mode=offline")
    python("-m", "mnist_jax", "report", run, "--html=report.html")
    replica = next((tmp_path / "tracked" / "sync" / "comet-offline").glob("*.zip"))
    python("-m", "mnist_jax", "import", str(replica), "--workdir=imported")
    python("-m", "mnist_jax", "export", run, "--parquet=exported")
    for action in (["register", "tiny", run], ["promote", "tiny@1", "production"], ["list"], ["show", "tiny"],
                   ["verify", "tiny"]):
        python("-m", "mnist_jax", "registry", *action, registry)


def test_track_starts_no_jax_and_no_thread_and_takes_little_memory(tmp_path):
    # From Python 3.12 on, a fork warns where there are threads.
    result = subprocess.run([sys.executable, "-W", "error", "-c", TRACK, str(tmp_path / "run")], capture_output=True, text=True,
                            check=True)
    jax, threads, megabytes = result.stdout.split()
    assert (jax, threads) == ("False", "1") and int(megabytes) <= 15 and not result.stderr
