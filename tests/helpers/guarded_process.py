"""A process for a tracker's client that may reach 127.0.0.1 and nothing else.

The client keeps its connection per process and reads its time limits at import, so each test starts a process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mnist_jax
from mnist_jax.compare.servers import comet, guard, neptune

ROOT = Path(mnist_jax.__file__).parents[1]

GUARD = guard.only_loopback("""
        os.write(2, f"REACHED OUT: {event} {host}\\n".encode())
        os._exit(97)
""")

TELL = """
import json
def tell(value):
    print("TOLD", json.dumps(value), flush=True)
def raised(function, *arguments, **settings):
    try:
        return f"no error but {function(*arguments, **settings)!r}"
    except Exception as error:
        return type(error).__name__
"""

NEPTUNE = """
import neptune
from neptune.types import File
QUIET = dict(capture_stdout=False, capture_stderr=False, capture_hardware_metrics=False, capture_traceback=False)
def start(**settings):
    return neptune.init_run(project="team/mnist", source_files=[], git_ref=False, **QUIET, **settings)
"""

COMET = """
import comet_ml
SWITCHES = ("log_code", "log_graph", "parse_args", "log_git_metadata", "log_git_patch", "log_env_details",
            "auto_output_logging", "auto_param_logging", "auto_metric_logging", "display_summary_level")
QUIET = dict.fromkeys(SWITCHES, False)
def start(key, mode="get_or_create", **settings):
    config = comet_ml.ExperimentConfig(**QUIET)
    return comet_ml.start(experiment_key=key, mode=mode, project_name="mnist", experiment_config=config, **settings)
"""


def python(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a guarded process whose home and current folder are `folder`."""
    environment |= {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),  # the client keeps digests of tracked files in ~/.neptune
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
    }
    command = [sys.executable, "-c", GUARD + code]
    return subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def client(folder: Path, url: str | None, code: str, **environment: str) -> Any:
    """Run code with the Neptune client, which must end well, and return what it tells."""
    environment |= {"NEPTUNE_API_TOKEN": neptune.token(url)} if url else {}
    return told(python(folder, TELL + NEPTUNE + code, **environment))


def comet_client(folder: Path, url: str, code: str, **environment: str) -> Any:
    """Run code with the Comet client, which must end well, and return what it tells."""
    environment = {**comet.environment(url), "COMET_LOGGING_CONSOLE": "WARNING", **environment}
    return told(python(folder, TELL + COMET + code, **environment))


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """Return what a process told, which must have ended well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.partition("TOLD ")[2].splitlines()[0])
