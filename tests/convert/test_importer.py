"""From a tracker's files back to a record: the same run, or a line that says what did not come along."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mnist_jax import errors, events
from mnist_jax.convert import importer
from mnist_jax.record import reader, writer
from mnist_jax.tracking import protocol, replica
from mnist_jax.tracking.neptune import client as neptune_client
from tests.helpers import odd_record, records

BACKENDS = ["neptune", "comet"]
BODY = """
import os, signal, sys
from pathlib import Path
from mnist_jax.record import reader
from mnist_jax.tracking import protocol
directory, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
folder = directory / "killed"
folder.mkdir()
recorded = reader.read(directory)
tracker = protocol.backend(name).create(protocol.Destination(name, "offline"), folder)
tracker.open(recorded.run, lambda blob: directory / "blobs" / blob.sha256, earlier=None)
for entry in recorded.entries[:count]:
    tracker.write(entry.event)
if name == "neptune":
    tracker.flush(5)
else:
    import time
    time.sleep(2)  # the client writes from a thread of its own
for entry in recorded.entries[count:]:
    tracker.write(entry.event)
os.kill(os.getpid(), signal.SIGKILL)
"""


def offline_replica(directory: Path, name: str) -> Path:
    return directory / "sync" / f"{name}-offline"


def without_times(event: events.AnyEvent) -> events.AnyEvent:
    return events.Metrics(event.steps, event.values, event.steps * 0.0) if isinstance(event, events.Metrics) else event


def comparable(recorded: list[events.AnyEvent], name: str) -> list:
    """Return events in a form in which NaN equals NaN; Comet keeps its own times."""
    kept = recorded if name == "neptune" else [without_times(event) for event in recorded]
    return [event if isinstance(event, events.Metrics)
            else (type(event).__name__, json.dumps(events.to_json(event), sort_keys=True)) for event in kept]


def facts(recorded: reader.RunRecord) -> list[events.AnyEvent]:
    """Return what a record states, without what the import itself said."""
    return [entry.event for entry in recorded.entries if not (isinstance(entry.event, events.Text)
                                                               and entry.event.name == "imported")]


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> reader.RunRecord:
    recorded = odd_record.write(tmp_path_factory.mktemp("odd") / "run")
    for name in BACKENDS:
        assert "failed" not in replica.update(recorded.directory, protocol.Destination(name, "offline")).counts
    return recorded


@pytest.mark.parametrize("name", BACKENDS)
def test_a_real_run_comes_back_event_by_event(finished_run, tmp_path, name):
    before = reader.read(finished_run)
    imported = importer.import_run(offline_replica(finished_run, name), tmp_path / "run")
    after = reader.read(tmp_path / "run")
    assert after.run == before.run and after.status == "finished" and imported.skipped == ()
    assert comparable(facts(after), name) == comparable(facts(before), name)
    for event in facts(after):
        for blob in events.blobs(event):
            assert after.bytes_of(blob) == before.bytes_of(blob)
    assert imported.changed == () if name == "neptune" else "times of metrics" in imported.changed[0]
    (lineage,) = [event for event in after.of(events.Text) if event.name == "imported"]
    assert name in lineage.text.lower()


@pytest.mark.parametrize("name", BACKENDS)
def test_odd_values_come_back_bit_for_bit(odd, tmp_path, name):
    imported = importer.import_run(offline_replica(odd.directory, name), tmp_path / "run")
    after = reader.read(tmp_path / "run")
    assert (after.run, after.status, imported.skipped) == (odd.run, "diverged", ())
    assert comparable(facts(after), name) == comparable(facts(odd), name)


def test_what_the_client_says_of_its_own_accord_is_no_event(tmp_path, monkeypatch):
    """It lists libraries that were imported before it, scikit-learn for the embedded digits."""
    import comet_ml

    monkeypatch.setattr(comet_ml.experiment, "ALREADY_IMPORTED_MODULES", {"sklearn"})
    before = odd_record.write(tmp_path / "run")
    assert "failed" not in replica.update(before.directory, protocol.Destination("comet", "offline")).counts
    with zipfile.ZipFile(next(offline_replica(before.directory, "comet").glob("*.zip"))) as archive:
        assert b"sys.already_imported_modules" in archive.read("messages.json")
    imported = importer.import_run(offline_replica(before.directory, "comet"), tmp_path / "back")
    after = reader.read(tmp_path / "back")
    assert imported.skipped == () and comparable(facts(after), "comet") == comparable(facts(before), "comet")


def test_what_a_format_cannot_carry_is_named(tmp_path):
    names = {"neptune": "found 0", "comet": "truncated at 100 characters"}
    for name, words in names.items():
        directory = tmp_path / name
        with writer.create(directory, events.RunInfo(writer.new_id(), "x", 0.0, {}, ())) as recorder:
            recorder.append(events.Status(0, "running"), events.Environment({}), records.point(1, "m" * 120),
                            events.Source(None, None, None, False, None, (recorder.blob(b"\xff", "x.py"),)),
                            events.Status(1, "finished"))
            recorder.close("finished")
        replica.update(directory, protocol.Destination(name, "offline"))
        result = importer.import_run(offline_replica(directory, name), tmp_path / f"{name}-back")
        assert "expected one event between two marks, found 0" in "".join(result.skipped)
        assert words in "".join([*result.skipped, *result.changed])
        assert len(facts(reader.read(result.directory))) == 4
    assert "not UTF-8" in "".join(result.changed)


def test_large_files_lie_outside_a_neptune_folder_and_come_along_when_allowed(tmp_path, monkeypatch):
    """The client takes large contents by their path only."""
    monkeypatch.setattr(neptune_client, "CONTENT_BYTES", 5)
    before = odd_record.write(tmp_path / "run")
    assert "failed" not in replica.update(before.directory, protocol.Destination("neptune", "offline")).counts
    source = offline_replica(before.directory, "neptune")
    result = importer.import_run(source, tmp_path / "without")
    without = facts(reader.read(tmp_path / "without"))
    assert "outside the folder" in "".join(result.skipped)
    assert not [event for event in without if isinstance(event, events.Image | events.Artifact | events.Model)]
    whole, part = comparable(facts(before), "neptune"), comparable(without, "neptune")
    assert [fact for fact in whole if fact in part] == part
    importer.import_run(source, tmp_path / "with", allow_outside=True)
    assert comparable(facts(reader.read(tmp_path / "with")), "neptune") == comparable(facts(before), "neptune")


def test_a_run_moves_from_one_tracker_to_the_other_and_back(odd, tmp_path):
    importer.import_run(offline_replica(odd.directory, "comet"), tmp_path / "one")
    assert "failed" not in replica.update(tmp_path / "one", protocol.Destination("neptune", "offline")).counts
    importer.import_run(offline_replica(tmp_path / "one", "neptune"), tmp_path / "two")
    assert comparable(facts(reader.read(tmp_path / "two")), "comet") == comparable(facts(odd), "comet")
    assert reader.read(tmp_path / "two").run == odd.run


@pytest.mark.parametrize("name", BACKENDS)
def test_what_a_killed_client_left_is_a_prefix_of_the_run(odd, tmp_path, name):
    os.symlink(odd.directory / "run.json", tmp_path / "run.json")
    for file in ("events.jsonl", "blobs"):
        os.symlink(odd.directory / file, tmp_path / file)
    done = subprocess.run([sys.executable, "-c", BODY, str(tmp_path), name, "12"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    imported = importer.import_run(tmp_path / "killed", tmp_path / "back")
    after = reader.read(tmp_path / "back")
    stated = facts(after)
    assert after.status == imported.status == "failed" and after.run.id == odd.run.id
    assert stated[-1] == events.Status(stated[-1].step, "failed")
    assert 12 <= len(stated) - 1 <= len(facts(odd))
    assert comparable(stated[:-1], name) == comparable(facts(odd)[:len(stated) - 1], name)
    assert "killed" in next(event.text for event in after.of(events.Text) if event.name == "imported")


def test_a_folder_must_hold_exactly_one_run(odd, tmp_path):
    def refused(path: Path) -> str:
        with pytest.raises(errors.UserError) as refusal:
            importer.import_run(path, tmp_path / "new")
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    (tmp_path / "empty").mkdir()
    assert "found no such path" in refused(tmp_path / "nowhere")
    assert "found neither" in refused(tmp_path / "empty")
    assert "found 2 (comet-offline" in refused(odd.directory / "sync")
    (tmp_path / "text").write_text("text")
    assert "not a zip" in refused(tmp_path / "text")
    assert not (tmp_path / "new").exists() and {path.name for path in tmp_path.iterdir()} == {"empty", "text"}


def test_a_taken_directory_is_left_alone(odd, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(errors.UserError, match="found contents in it"):
        importer.import_run(offline_replica(odd.directory, "neptune"), tmp_path / "taken")
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "file"]
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match="choose another workdir"):
        importer.import_run(offline_replica(odd.directory, "neptune"), tmp_path / "file" / "run")
