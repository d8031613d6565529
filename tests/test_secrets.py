"""No credential reaches the record, a tracker's files or a server; what only looks like one is left alone."""

import subprocess
import zipfile
from pathlib import Path

import pytest

import mnist_jax
from mnist_jax import errors, secrets
from mnist_jax.tracking import sync
from tests.helpers import tracker_servers

CANARY = "canary-0123456789abcdef"


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """Make a repository whose remote has a password, whose script holds a credential, and which has changes."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "clean.py").write_text("num_memory_tokens = 16\n")
    (folder / "changed.py").write_text("")
    (folder / "leaky.py").write_text(f"key = '{CANARY}-environment'\n")
    (folder / "literal.py").write_text("x = 1\nAPI_KEY = 'sk-0123456789abcdef0123'\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"],
                    ["remote", "add", "origin", f"https://me:{CANARY}-remote@host/repository.git"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    (folder / "changed.py").write_text(f"# {CANARY}-environment\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SOME_SERVICE_TOKEN", f"{CANARY}-environment")
    return folder


def everything(folder: Path) -> bytes:
    """Return the bytes of every file, those inside archives among them."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            found.append(path.read_bytes())
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    found += [archive.read(name) for name in archive.namelist()]
    return b"\n".join(found)


@pytest.mark.parametrize("tracker", tracker_servers.TRACKERS)
def test_no_canary_reaches_the_record_a_trackers_files_or_a_server(repository, tmp_path, monkeypatch, capsys, tracker):
    command = ["run.py", f"--api_key={CANARY}-argument", "--password", f"{CANARY}-argument", f"{CANARY}-environment",
               f"--url=https://me:{CANARY}-argument@host/x", "--num_memory_tokens=12345678"]
    with tracker_servers.serve(tracker) as served:
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        with mnist_jax.track("mine", {"num_memory_tokens": 12345678}, tracker="neptune,comet", tracker_mode="offline",
                             workdir=tmp_path / "run", command=command, script=["clean.py", "leaky.py", "literal.py"]) as run:
            run.log({"x": 1.0}, step=1)
        (replica,) = sync.sync(run.directory, tracker, "online")
        assert replica.state == "complete", replica.error
        assert [replica.state for replica in run.sync] == ["complete", "complete"]
        sent = repr(served.store).encode()
    kept = everything(run.directory)
    for secret in (CANARY, *served.secrets):
        assert secret.encode() not in kept and secret.encode() not in sent
    assert b"num_memory_tokens" in kept and b"12345678" in kept and b"num_memory_tokens" in sent
    output = capsys.readouterr().err
    assert "leaky.py holds the value of SOME_SERVICE_TOKEN and is not recorded" in output
    assert "literal.py, line 2, may hold a credential" in output and "clean.py" not in output


@pytest.mark.parametrize("config", [{"a": {"b": f"x{CANARY}-environmenty"}}, {"url": "https://me:password@host/x"},
                                    {"list": [f"{CANARY}-environment"]}])
def test_a_config_that_holds_one_is_refused(repository, tmp_path, config):
    with pytest.raises(errors.UserError, match="expected no credential") as refused:
        mnist_jax.track("mine", config, workdir=tmp_path / "run")
    assert CANARY not in str(refused.value) and not (tmp_path / "run").exists()


def test_a_key_that_the_server_refuses_is_not_written_down(tmp_path, monkeypatch):
    with tracker_servers.serve("comet") as served:
        for name, value in served.bad_key.items():
            monkeypatch.setenv(name, value)
        with mnist_jax.track("mine", tracker="comet", tracker_mode="online", workdir=tmp_path / "run") as run:
            run.log({"x": 1.0}, step=1)
    assert run.sync[0].state == "failed" and run.sync[0].error
    assert served.bad_key["COMET_API_KEY"].encode() not in everything(tmp_path)


def test_a_credential_of_a_command_line_is_masked_however_it_is_spelt():
    assert secrets.command_line(["--api_key=a", "--token", "b", "comet.api_key=c", "--epochs=3", "x=1"]) == (
        "--api_key=***", "--token", "***", "comet.api_key=***", "--epochs=3", "x=1")


@pytest.mark.parametrize(("line", "found"), [
    ("num_memory_tokens = 16", []), ("tokens = 'abcdefghijklmnopqrstuvwxyz'", []), ("token = os.environ['TOKEN']", []),
    ("api_key='0123456789abcdef'", [1]), ('{"password": "0123456789abcdef"}', [1]), ("COMET_API_KEY: '0123456789abcdef'", [1])])
def test_what_looks_like_a_credential_in_source(line, found):
    assert secrets.suspicious_lines(line) == found
