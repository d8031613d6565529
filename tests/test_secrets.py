"""No credential reaches the record, a tracker's files or a server; what only looks like one is left alone."""

import io
import subprocess
import sys
import time
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


LONG = "Zq3" * 16  # 48 characters
KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"


@pytest.mark.parametrize(("text", "secret"), [
    # Tokens of known forms.
    (f"using ghp_{LONG[:36]} now", LONG[:36]), (f"gho_{LONG[:36]}", LONG[:36]), (f"github_pat_{LONG}", LONG),
    (f"glpat-{LONG[:20]}", LONG[:20]), (f"xoxb-123456789012-{LONG[:24]}", LONG[:24]),
    ("key AKIAIOSFODNN7EXAMPLE.", "IOSFODNN7"),
    ("ASIAIOSFODNN7EXAMPLE", "IOSFODNN7"), (f"sk-{LONG}", LONG), (f"sk-proj-{LONG}", LONG), (f"sk-ant-api03-{LONG}", LONG),
    (f"hf_{LONG[:34]}", LONG[:34]), (f"pypi-AgEIcHlwaS5vcmc{LONG}", LONG), (f"npm_{LONG[:36]}", LONG[:36]),
    (f"sk_live_{LONG[:24]}", LONG[:24]), (f"AIza{LONG[:35]}", LONG[:35]), (f"SG.{LONG[:22]}.{LONG[:43]}", LONG[:22]),
    (f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{LONG[:43]}", LONG[:43]), (f"eyJhcGlfYWRkcmVzcyI6Imh0{LONG}==", LONG),
    # URLs.
    ("cannot reach https://me:hunter2@host/x", "hunter2"), ("postgresql://user:p%40ss@db:5432/runs", "p%40ss"),
    ("git+ssh://me:hunter2@host/x", "hunter2"), ("https://oauthtoken12@host/x.git", "oauthtoken12"),
    ("redis://:hunter2@host", "hunter2"),
    ("https://host/x.git?private_token=abc12", "abc12"), ("GET /x?a=1&access_token=abcdef", "abcdef"),
    ("https://host/?api_key=abcd&x=1", "abcd"), ("https://x.blob.core.windows.net/a?sv=1&sig=abc%2Fdef", "abc%2Fdef"),
    # Headers.
    ("Authorization: Bearer abcdefghij", "abcdefghij"), ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
    ("sent Bearer abc.def-123", "abc.def-123"), ("authorization=token abcdef1234", "abcdef1234"),
    ("X-Api-Key: abcd1234", "abcd1234"),
    # Values under a name.
    ('{"api_key": "abc123"}', "abc123"), ("password='hunter2'", "hunter2"), ("PGPASSWORD=hunter psql", "hunter psql"),
    ("host=db password=hunter2 dbname=x", "hunter2"), ("Server=db;Uid=me;Pwd=hunter;", "hunter"), ("MYSQL_PWD=abcd", "abcd"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalr"),
    ("DefaultEndpointsProtocol=https;AccountKey=ab12cd34==;x=y", "ab12"),
    ("password: hunter2", "hunter2"), ("Command '['x', '--token', 'abcdef']' failed", "abcdef"),
    ("run.py --pat abcdef --x", "abcdef"),
    ('{\\"client_secret\\": \\"abcdef12\\"}', "abcdef12"), ("githubToken: 'abcdef1234'", "abcdef1234"),
    # Private keys, in a file, in a patch, on one line.
    (f"-----BEGIN PRIVATE KEY-----\n{KEY}\n{LONG}\n-----END PRIVATE KEY-----", KEY),
    (f"+-----BEGIN RSA PRIVATE KEY-----\n+{LONG}\n+{KEY}\n+-----END RSA PRIVATE KEY-----", KEY),
    (f"-----BEGIN OPENSSH PRIVATE KEY-----\\n{KEY}\\n-----END", KEY),
    (f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n{KEY}", KEY)])
def test_a_credential_in_a_text_is_masked(text, secret):
    masked = secrets.mask(text)
    assert secret not in masked and secrets.MASK in masked and masked.count("\n") == text.count("\n")
    assert secrets.mask(masked) == masked
    assert secrets.suspicious_lines(text)
    with pytest.raises(errors.UserError, match=r"^config\.notes\[1\]\.x: expected no credential, found ") as refused:
        secrets.refuse({"notes": [1, {"x": text}]})
    assert secret not in str(refused.value)


@pytest.mark.parametrize("text", [
    "max_tokens=4096", "tokenizer: 'bert-base-uncased-0123456789'", "tokens_per_batch = 65536", "passes=3", "bypass=abcd1234",
    "pass_through: abcd1234", "author='Ada Lovelace 1815'", "key = 'abcdefghijklmnop1234'", "keys: abcdefgh1234",
    "keyboard='qwertz-0123456789'", "secretary: 'M1ss-Moneypenny-007'", "pad_token='<pad>'", "eos_token='end-of-text-12345'",
    "compass=north12345", "pattern: abcd1234", "x.token = os.environ['TOKEN']",
    "def f(token: str, password=None, auth=True): ...", "login(token=token, password=self.password)", "token = make_token2(3)",
    "password = getpass.getpass()", "secret: float32", "f'https://{user}:{password}@{host}'", 'f"token={token}"',
    "TOKEN=$TOKEN", "https://host:8080/a@b", "ssh://git@github.com/x", "git@github.com:me/x.git", "using password: YES",
    "https://host/?page=2&sort=key", "basic authentication", "a bearer of news",
    "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n", "risk-averse-0123456789abcdef",
    "task-0123456789abcdef01", "num_memory_tokens=12345678", "parser.add_argument('--password', default='')",
    "rng_key=abcdefgh1234", "sk-learn-contrib-tools", "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "forward_pass: abcd1234"])
def test_a_text_that_only_looks_like_one_stays(text):
    assert secrets.mask(text) == text and not secrets.suspicious_lines(text)
    secrets.refuse({"notes": text})


@pytest.mark.parametrize("name", [
    "token", "secret", "password", "passwd", "passphrase", "pwd", "pass", "api_key", "apiKey", "API-KEY", "access_key",
    "private_key", "pat", "credential", "credentials", "auth", "jwt", "db.password", "comet.api_key", "client_secret",
    "authToken", "hf_token", "PGPASSWORD", "GITHUB_PAT", "AWS_SECRET_ACCESS_KEY", "MYSQL_PWD", "DB_PASS", "NEPTUNE_API_TOKEN",
    "GITHUB_TOKEN_2", "DJANGO_SECRET_KEY", "AZURE_CLIENT_SECRET", "SSH_PRIVATE_KEY", "JWT", "REGISTRY_AUTH", "SMTP_PASSWORD",
    "STRIPE_KEY_SECRET"])
def test_a_name_that_means_a_credential(name, monkeypatch):
    assert secrets.is_credential(name)
    assert secrets.command_line([f"--{name}=abc", f"--{name}", "abc", f"{name}=abc"]) == (
        f"--{name}=***", f"--{name}", "***", f"{name}=***")
    for config in ({name: "abc"}, {"a": {"b": {name: "abc"}}}, {"a": [1, {name: ["abc"]}]}):
        with pytest.raises(errors.UserError, match=f"{name}.*: expected no credential, found a value under a name"):
            secrets.refuse(config)
    secrets.refuse({name: None, "a": {name: ""}, "b": [{name: True}]})  # which sets none
    if name.isupper():
        monkeypatch.setenv(name, "plain value")
        assert secrets.mask("has the plain value.") == "has the ***." and name in secrets.names_in(b"the plain value")


@pytest.mark.parametrize("name", [
    "max_tokens", "tokenizer", "tokens_per_batch", "tokens", "passes", "bypass", "pass_through", "author", "key", "keys",
    "keyboard", "secretary", "pad_token", "bits_per_token", "pad_token_id", "pattern", "path", "compass", "forward_pass",
    "authors", "public_key", "seed_key", "monkey", "auth_method", "spat", "token_count", "patience", "no_password"])
def test_a_name_that_means_none(name):
    assert not secrets.is_credential(name)
    assert secrets.command_line([f"--{name}=abc", f"--{name}", "abc"]) == (f"--{name}=abc", f"--{name}", "abc")
    secrets.refuse({name: "abc", "a": [{name: 3}]})


@pytest.mark.parametrize(("name", "value"), [
    ("DATABASE_URL", "postgres://user:hunter2-hunter2@db/x"), ("SENTRY_DSN", "https://hunter2-hunter2@sentry.io/1"),
    ("https_proxy", "http://me:hunter2-hunter2@proxy:3128")])
def test_the_password_in_a_variable_with_a_url(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert secrets.mask("login as hunter2-hunter2 failed") == "login as *** failed"


def test_the_working_directory_is_no_password(monkeypatch):
    monkeypatch.setenv("PWD", "/home/ada/digits")
    monkeypatch.setenv("OLDPWD", "/home/ada/letters")
    assert secrets.mask("/home/ada/digits/runs /home/ada/letters") == "/home/ada/digits/runs /home/ada/letters"


@pytest.mark.parametrize(("arguments", "clean"), [
    (["--api_key=a", "--token", "b", "comet.api_key=c", "--epochs=3", "x=1"],
     ["--api_key=***", "--token", "***", "comet.api_key=***", "--epochs=3", "x=1"]),
    (["--pat", "X", "y"], ["--pat", "***", "y"]), (["--token", "--epochs=3"], ["--token", "--epochs=3"]),
    (["--header=Authorization: Bearer abcdef"], ["--header=Authorization: Bearer ***"]),
    (["-H", "X-Api-Key: abc"], ["-H", "X-Api-Key: ***"]), (["https://h/?api_key=a"], ["https://h/?api_key=***"]),
    (["--url=https://me:pw@host/x"], ["--url=https://***@host/x"]),
    (["--db", "postgres://u:pw@h/x"], ["--db", "postgres://***@h/x"]), (["PGPASSWORD=x", "psql"], ["PGPASSWORD=***", "psql"]),
    (["--config.optimizer.name=sgd"], ["--config.optimizer.name=sgd"]),
    (["-c", "export GITHUB_PAT=abcd; run"], ["-c", "export GITHUB_PAT=***; run"]),
    (["--max_tokens", "5"], ["--max_tokens", "5"])])
def test_a_credential_of_a_command_line_is_masked_however_it_is_spelt(arguments, clean):
    assert secrets.command_line(arguments) == tuple(clean)


@pytest.mark.parametrize("hostile", [
    "a", "a.", "a-", "a=", "_", "://", "://a@", "https://u:", "eyJ", "-eyJ", "eyJ.", ":", "@", "token=", "token='", 'token="',
    "--token ", "token={", "token: a.", "-----BEGIN", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n", " ", "\n",
    "+\n", "'", '"', '\\"', "SG.aaaaaaaaaaaaaaaa", "sk-", "bearer ", "basic aaaa", "Authorization: ", "authorization: bearer ",
    "key", "?key=", "é", "\ud800"])
def test_two_megabytes_of_hostile_text_take_no_time(hostile, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "a" * 8)
    text = hostile * (2_000_000 // len(hostile))
    data = text.encode(errors="replace")
    for call in (lambda: secrets.mask(text), lambda: secrets.suspicious_lines(text), lambda: secrets.command_line([text]),
                 lambda: secrets.is_credential(text), lambda: secrets.names_in(data), lambda: secrets.printable(text)):
        started = time.process_time()
        call()
        assert time.process_time() - started < 2.0


def test_a_config_value_of_two_megabytes_is_read_in_no_time():
    for value in ("a" * 2_000_000, "/" * 2_000_000, "a:" * 1_000_000):
        started = time.process_time()
        secrets.refuse({"x": value})
        assert time.process_time() - started < 1.0


def test_a_private_key_and_the_token_of_a_remote_do_not_reach_the_record(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "x.py").write_text("a = 1\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"],
                    ["remote", "add", "origin", f"https://host/x.git?private_token={CANARY}"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    (folder / "x.py").write_text(f'a = 1\nKEY = """-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----"""\n')
    monkeypatch.chdir(folder)
    with (pytest.raises(ConnectionError),
          mnist_jax.track("mine", workdir=tmp_path / "run", command=["x",
          "--pat", CANARY, f"--header=Authorization: Bearer {CANARY}"])):
        raise ConnectionError(f"https://me:{CANARY}@host said 401 to Bearer {CANARY}")
    kept = everything(tmp_path / "run")
    assert CANARY.encode() not in kept and KEY.encode() not in kept and b"-----BEGIN PRIVATE KEY-----" in kept
    assert b"ConnectionError: https://***@host said 401 to Bearer ***" in kept and b"private_token=***" in kept
    assert "the uncommitted changes may hold a credential" in capsys.readouterr().err


def test_the_package_itself_holds_nothing_suspicious():
    for path in Path(secrets.__file__).parent.rglob("*.py"):
        assert not secrets.suspicious_lines(path.read_text()), path


@pytest.mark.parametrize(("text", "shown"), [
    ("a\x1b[31mb\r\n\tc", "a?[31mb???c"), ("\udce9t\ud800", "?t?"), ("a\u202eb\u2066c\u200fd", "a?b?c?d"),
    ("\x9b2J\x07\x7f", "?2J??"),
    ("größer 数字 😀", "größer 数字 😀")])
def test_foreign_text_cannot_steer_a_terminal(text, shown):
    assert secrets.printable(text) == shown and secrets.printable_lines([text, "x"]) == f"{shown}\nx"


def test_a_long_text_is_cut_where_asked():
    assert secrets.printable("a" * 100, 10) == "aaaaaaa..." and secrets.printable("a" * 10, 10) == "a" * 10


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, closed(), _Full(), io.TextIOWrapper(io.BytesIO(), "ascii")])
def test_a_warning_never_raises(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    secrets.warn("größer \ud800 \x1b[31m")
    assert not secrets.is_terminal(sys.stderr)


def test_a_warning_is_one_line_of_printable_text(capsys):
    secrets.warn(ValueError("a\nb\x1b[2J"))
    assert capsys.readouterr().err == "a b?[2J\n"


@pytest.mark.parametrize(("line", "found"), [
    ("num_memory_tokens = 16", []), ("tokens = 'abcdefghijklmnopqrstuvwxyz'", []), ("token = os.environ['TOKEN']", []),
    ("api_key='0123456789abcdef'", [1]), ('{"password": "0123456789abcdef"}', [1]), ("COMET_API_KEY: '0123456789abcdef'", [1])])
def test_what_looks_like_a_credential_in_source(line, found):
    assert secrets.suspicious_lines(line) == found
