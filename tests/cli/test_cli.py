"""What every command prints: no foreign text steers a terminal, and a stream that is closed or full costs no run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_jax import cli, errors, events
from mnist_jax.cli import main
from mnist_jax.convert import importer
from mnist_jax.record import reader, writer
from mnist_jax.tracking import receipts, sync
from tests.helpers import records

ROOT = Path(__file__).parents[2]
HOSTILE = "a\x1b[2J\x9b1m\u202eb\udce9\rc"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a shell command in which PY is this Python; return its exit code, of the first command in a pipe, and output."""
    return subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, cwd=ROOT,
                          timeout=120, env={**os.environ, "PY": sys.executable, **environment}, stdin=subprocess.DEVNULL)


def assert_harmless(text: str) -> None:
    assert all(character == "\n" or character.isprintable() for character in text), repr(text)


@pytest.fixture
def runs(tmp_path) -> Path:
    """Return a folder of two runs with hostile names."""
    for name in ("one", "two"):
        info = events.RunInfo(writer.new_id(), f"{name}\x1b[31m\u202e", 0.0, {"x": "\x1b[2J"}, ("a", "\x1b[2J"), tags=("\7",))
        with writer.create(tmp_path / "runs" / f"run\x1b[31m-{name}", info) as recorder:
            recorder.append(records.point(1, "train/loss"), events.Status(1, "finished"))
            recorder.close("finished")
    return tmp_path / "runs"


def test_no_command_prints_what_could_steer_a_terminal(runs, tmp_path, monkeypatch, capsys):
    one = next(runs.glob("*-one"))
    state = receipts.SyncStatus(f"comet-{HOSTILE}", f"http://{HOSTILE}", "failed", error=HOSTILE)
    info = events.RunInfo("0" * 32, HOSTILE * 1000, 0.0, {}, ())
    result = importer.ImportResult(one, info, "finished", 1, (HOSTILE,), (HOSTILE,))
    monkeypatch.chdir(runs.parent)
    monkeypatch.setattr(sync, "sync", lambda *_: [state])
    monkeypatch.setattr(importer, "import_run", lambda *_, **__: result)
    commands = [["list"], ["show", "run"], ["show", str(one)], ["show", HOSTILE], ["report", HOSTILE],
                ["export", HOSTILE, "--parquet=x"],
                ["report", str(one), f"--html={tmp_path}/{HOSTILE}.html"], ["sync", str(one), "--tracker=comet"],
                ["sync", str(one), f"--tracker={HOSTILE}"], ["import", "x", "--workdir=y"], ["registry", "show", HOSTILE],
                ["export", str(one), f"--parquet={tmp_path}/{HOSTILE}"], ["predict", HOSTILE, HOSTILE], [HOSTILE],
                ["list", "--x", HOSTILE], ["reproduce", str(one), f"--set={HOSTILE}"]]
    for command in commands:
        assert main.main(command) in (0, 1, 2), command
        output = capsys.readouterr()
        assert (output.out or output.err), command
        assert_harmless(output.out + output.err)
        assert "Traceback" not in output.err and len(output.out) < 10_000


def test_found_several_in_runs_is_harmless(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    assert main.main(["show", "run\x1b[31m"]) == 2
    error = capsys.readouterr().err
    assert "found 2 in runs" in error
    assert_harmless(error)


@pytest.mark.parametrize(("error", "code"), [
    (errors.UserError(HOSTILE), 2), (errors.RecordError(HOSTILE), 1), (OSError(5, HOSTILE), 2), (SystemExit(3), 3),
    (SystemExit(None), 0), (KeyboardInterrupt(), 130), (BrokenPipeError(), 0)])
def test_an_error_is_one_harmless_line_and_an_exit_code(capsys, error, code):
    def command() -> int:
        raise error

    assert cli.exit_code("mnist-jax", command) == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == (isinstance(error, errors.UserError | errors.RecordError) or type(error) is OSError)
    assert_harmless(printed)


def test_any_text_can_be_printed_in_any_encoding(tmp_path):
    records.short_run(tmp_path / "größe")
    done = shell(f'"$PY" -m mnist_jax list {tmp_path}; "$PY" -m mnist_jax show ärger', PYTHONIOENCODING="ascii")
    assert "/gr??e  finished" in done.stdout and "mnist-jax: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("redirect", "code", "message"), [
    ("| head -n 0", 0, ""),
    ("> /dev/full", 1, "mnist-jax: standard output: expected one that can be written, found [Errno 28]"),
    (">&-", 0, ""), ("2>&-", 0, ""), ("2> /dev/full", 0, ""), ("<&- >&- 2>&-", 0, "")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_command_with_a_stream_that_is_closed_or_full(tmp_path, redirect, code, message, unbuffered):
    records.short_run(tmp_path / "runs" / "short")
    for command in (f"list {tmp_path}/runs", f"show {tmp_path}/runs/short --json"):
        done = shell(f'"$PY" -m mnist_jax {command} {redirect}', PYTHONUNBUFFERED=unbuffered)
        assert done.returncode == code and done.stderr.startswith(message), (command, done)
        assert done.stderr.count("\n") == bool(message)


@pytest.mark.parametrize("redirect", ["| head -n 0", "> /dev/full", ">&-", "2>&-", ">&- 2>&-"])
def test_help_with_a_stream_that_is_closed_or_full(redirect):
    for command in ("mnist_jax --help", "mnist_jax show --help", "mnist_jax train --help"):
        done = shell(f'"$PY" -m {command} {redirect}')
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr and "Exception" not in done.stderr, (command, done)


@pytest.mark.parametrize("redirect", ["2>&-", "2> /dev/full", ">&- 2>&-"])
def test_a_mistake_with_a_stream_that_is_closed_or_full(redirect):
    for command in ("mnist_jax show nowhere", "mnist_jax nonsense", "mnist_jax train --config=nowhere.py"):
        done = shell(f'"$PY" -m {command} {redirect}')
        assert done.returncode == 2 and not done.stderr, (command, done)


@pytest.mark.parametrize(("redirect", "code", "message"), [
    ("| head -n 0", 0, ""), ("2>&-", 0, ""), (">&- 2>&- <&-", 0, ""),
    ("> /dev/full", 1, "mnist-jax train: standard output: expected one that can be written, found [Errno 28]")])
def test_a_run_with_a_stream_that_is_closed_or_full_is_finished(tmp_path, idx_folder, redirect, code, message):
    done = shell(f'cd {tmp_path}; "$PY" {ROOT}/run.py --config={ROOT}/configs/mlp.py --config.dataset.data_dir={idx_folder} '
                 f'--config.epochs=1 "--config.model.hidden=(8,)" --config.dataset.validation_examples=0 '
                 f'--workdir=run {redirect}')
    assert done.returncode == code and done.stderr.startswith(message) and done.stderr.count("\n") == bool(message), done
    recorded = reader.read(tmp_path / "run")
    assert recorded.status == "finished" and "test/accuracy" in recorded.last()


def test_json_stays_json(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    assert main.main(["show", str(next(runs.glob("*-one"))), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "one\x1b[31m\u202e"
