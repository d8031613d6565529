"""Versions never change, aliases move, the chain of a version is whole, and one changed byte anywhere in it is named."""

import dataclasses
import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from mnist_jax import errors, events
from mnist_jax.cli import main
from mnist_jax.record import checkpoint, journal, reader, run_file, writer
from mnist_jax.registry import lineage, predict, store


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """Return a copy of the finished run, to do harm to."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def root(run, tmp_path) -> Path:
    """Return a registry with two versions of one model."""
    for note in ("first", "second"):
        store.register(tmp_path / "registry", "tiny", run, note)
    return tmp_path / "registry"


def test_versions_and_aliases(root):
    one = store.find(root, "tiny@1")
    assert (one.version, one.notes, one.aliases) == (1, ("first",), ())
    assert store.find(root, "tiny").version == store.find(root, "tiny@latest").version == 2
    store.promote(root, "tiny@1", "staging")
    store.promote(root, "tiny@staging", "production")
    assert store.find(root, "tiny@production").version == 1
    store.promote(root, "tiny@2", "production")
    assert store.find(root, "tiny@production").version == 2
    assert store.roll_back(root, "tiny", "production").version == 1
    assert store.find(root, "tiny@staging").aliases == ("production", "staging")
    assert store.note(root, "tiny@2", "too slow").notes == ("second", "too slow")


@pytest.mark.parametrize(("ask", "message"), [
    ("tiny@3", "one of 1, 2"), ("tiny@prodution", "did you mean 'production'"), ("tinny", "did you mean 'tiny'"),
    ("../tiny", "letters"), ("", "letters")])
def test_what_is_not_there_is_reported_in_one_line(root, ask, message):
    store.promote(root, "tiny@1", "production")
    with pytest.raises(errors.UserError, match=message):
        store.find(root, ask)
    with pytest.raises(errors.UserError):
        store.promote(root, ask, "staging")
    assert store.names(root) == ["tiny"] and [path.name for path in root.iterdir()] == ["tiny"]


@pytest.mark.parametrize("alias", ["", "3", "latest", "a/b", "a b"])
def test_an_alias_is_a_word(root, alias):
    with pytest.raises(errors.UserError, match="alias"):
        store.promote(root, "tiny@1", alias)


def test_an_alias_without_a_past_is_not_rolled_back(root):
    store.promote(root, "tiny@1", "production")
    with pytest.raises(errors.UserError, match="only 1"):
        store.roll_back(root, "tiny", "production")


def test_the_chain_leads_from_the_model_to_its_environment(root, run, capsys):
    assert main.main(["registry", "show", "tiny@2", "--json", f"--registry={root}"]) == 0
    chain = json.loads(capsys.readouterr().out)
    recorded = reader.read(run)
    model = recorded.of(events.Model)[0]
    assert chain["model"]["sha256"] == model.blob.sha256 and chain["run"]["id"] == recorded.run.id
    assert chain["step"] == 30 and chain["config"]["optimizer"]["learning_rate"] == 0.02
    assert chain["datasets"]["train"]["digest"] in model.datasets and chain["metrics"] == recorded.last()
    assert chain["environment"]["packages/jax"] and chain["source"][0]["commit"]
    assert main.main(["registry", "show", "tiny@2", f"--registry={root}"]) == 0
    page = capsys.readouterr().out
    for part in (model.blob.sha256, recorded.run.id, "config seed", chain["datasets"]["test"]["digest"], "environment threads",
                 chain["source"][0]["commit"], "test/accuracy"):
        assert part in page


def test_a_whole_chain_is_verified(root, capsys):
    assert main.main(["registry", "verify", "tiny@1", f"--registry={root}"]) == 0
    assert "every digest of its chain matches" in capsys.readouterr().out


def flip(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("what", ["model", "registered model", "checkpoint", "blob", "config", "event", "journal"])
def test_one_changed_byte_is_found_and_named(root, run, what, capsys):
    recorded = reader.read(run)
    blob = recorded.of(events.Model)[0].blob
    path = {"model": run / "blobs" / blob.sha256, "registered model": root / "tiny" / "models" / f"{blob.sha256}.zip",
            "checkpoint": checkpoint.paths(run)[-1], "blob": run / "blobs" / recorded.of(events.Image)[0].blob.sha256,
            "config": run / "run.json", "event": run / "events.jsonl", "journal": root / "tiny" / "journal.jsonl"}[what]
    place = path.read_bytes().index(b'"learning_rate": 0.02') + 18 if what == "config" else None
    flip(path, place)
    code = main.main(["registry", "verify", "tiny@1", f"--registry={root}"])
    output = capsys.readouterr()
    message = output.out + output.err
    assert code == 1 and str(path) in message and "damaged" in message
    assert len(message.splitlines()) == 1, message


def test_a_run_that_is_gone_or_another_is_named(root, run, finished_run, capsys):
    moved = run.rename(run.with_name("moved"))
    assert main.main(["registry", "verify", "tiny@1", f"--registry={root}"]) == 1
    assert f"{run}: expected the run" in capsys.readouterr().out
    assert predict.load_model("tiny@1", root).name == "tiny version 1", "production does not depend on the run's directory"
    moved.rename(run)
    fields = run_file.read(run)
    other = run_file.run({**fields, "config": {**fields["config"], "seed": 1}})
    run_file.write(run, other, "finished", fields["events"])
    assert main.main(["registry", "verify", "tiny@1", f"--registry={root}"]) == 1
    assert "config differs from what was registered" in capsys.readouterr().out


def test_a_changed_model_is_not_loaded(root):
    flip(store.find(root, "tiny@1").path)
    with pytest.raises(errors.RecordError, match="damaged"):
        predict.load_model("tiny@1", root)


def test_a_torn_line_is_cut_off_by_the_next_writer(root, run):
    with (root / "tiny" / "journal.jsonl").open("a") as file:
        file.write('{"sequence":4,"time":1')
    assert len(store.versions(root, "tiny")) == 2
    assert store.register(root, "tiny", run).version == 3


def _register_and_promote(root: Path, run: Path, start, number: int) -> None:
    start.wait()
    version = store.register(root, "tiny", run, f"from {number}")
    store.promote(root, f"tiny@{version.version}", "production" if number % 2 else "staging")


def test_twenty_processes_at_once_lose_nothing(run, tmp_path):
    root = tmp_path / "registry"
    context = multiprocessing.get_context("forkserver")
    start = context.Event()
    processes = [context.Process(target=_register_and_promote, args=(root, run, start, number)) for number in range(20)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 20
    versions = store.versions(root, "tiny")
    assert [version.version for version in versions] == list(range(1, 21))
    assert {version.notes for version in versions} == {(f"from {number}",) for number in range(20)}
    lines = list(journal.JournalReader(root / "tiny" / "journal.jsonl").new())
    assert len(lines) == 60 and sorted(line["action"] for line in lines) == ["note"] * 20 + ["promote"] * 20 + ["register"] * 20
    for alias in ("production", "staging"):
        last = [line["version"] for line in lines if line.get("alias") == alias][-1]
        assert store.find(root, f"tiny@{alias}").version == last


def test_a_registry_is_named_by_text_too(root):
    assert store.names(str(root)) == ["tiny"]
    assert store.promote(str(root), "tiny@1", "staging") == store.find(root, "tiny@staging")
    assert store.note(str(root), "tiny@1", "fine").notes == ("first", "fine")


def test_data_that_a_config_does_not_name_is_not_called_checked(run, tmp_path):
    with writer.create(tmp_path / "other", dataclasses.replace(reader.read(run).run, config={})) as recorder:
        assert lineage.data_problems(tmp_path / "other") == []
        recorder.append(*reader.read(run).of(events.Dataset))
        (problem,) = lineage.data_problems(tmp_path / "other")
        assert problem == "the data could not be checked: the config of the run does not name it"
