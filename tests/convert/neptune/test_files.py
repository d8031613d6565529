"""Neptune folders that other programs wrote: the real client with operations that we never use, killed, damaged, hostile."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mnist_jax import errors, events
from mnist_jax.convert import importer
from mnist_jax.record import reader
from mnist_jax.tracking import protocol, replica
from tests.helpers import odd_record, records

SCRIPT = """
import datetime, os, signal, sys
import neptune, numpy as np
from neptune.types import File
run = neptune.init_run(mode="offline", name="theirs", tags=["x"], description="d", capture_hardware_metrics=False,
                       source_files=[__file__] if False else [])
print("printed")
run["a/float"], run["a/int"], run["a/bool"], run["a/text"] = 1.5, 3, True, "t"
run["a/moment"] = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
run["a/api_key"] = "hush"
run["config"] = {"lr": 0.1, "deep": {"n": 2}}
for step in range(250):
    run["m/loss"].append(step * 0.5, step=step, timestamp=1000.0 + step)
for value in (1.0, 2.0):
    run["m/no_steps"].append(value)
run["m/fractions"].extend([1, 2], steps=[0.5, 1.5])
run["m/repeated"].extend([1, 2, 3], steps=[1, 1, 0])
run["log"].append("one"); run["log"].append("two"); run["noted"].append("at", step=7)
run["images"].append(File.as_image(np.zeros((4, 4, 3))), step=3, name="n", description="d")
run["one_image"].upload(File.as_image(np.zeros((4, 4, 3))))
open("here.txt", "w").write("here")
run["outside"].upload("here.txt"); run["set"].upload_files(["*.txt", "*.md"]); run["set"].delete_files(["no.txt"])
run["content"].upload(File.from_content("abc", extension="txt"))
run["tracked"].track_files("file://" + os.getcwd())
run["sys/tags"].add(["y", "z"]); run["sys/tags"].remove("x")
run["gone"] = 1; del run["gone"]
run["copied"] = run["a/float"]
run["m/cleared"].append(1); run["m/cleared"].clear()
if len(sys.argv) > 1:
    run.wait()
    run["late"] = 1
    os.kill(os.getpid(), signal.SIGKILL)
run.stop()
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> dict[str, Path]:
    """Run the real client twice, ended and killed."""
    folders = {}
    for name, more in (("ended", []), ("killed", ["kill"])):
        folders[name] = tmp_path_factory.mktemp(name)
        done = subprocess.run([sys.executable, "-c", SCRIPT, *more], cwd=folders[name], capture_output=True, text=True,
                              env={**os.environ, "NEPTUNE_DATA_DIRECTORY": ".neptune"})
        assert done.returncode == (-signal.SIGKILL if more else 0), done.stderr
    return folders


def imported(path: Path, workdir: Path, **more) -> tuple[importer.ImportResult, reader.RunRecord]:
    result = importer.import_run(path, workdir, **more)
    return result, reader.read(workdir)


def named(recorded: reader.RunRecord, kind: type) -> dict:
    return {event.name: event for event in recorded.of(kind)}


def test_what_another_program_wrote_is_mapped_to_the_nearest_kind(theirs, tmp_path):
    result, back = imported(theirs["ended"], tmp_path / "run")
    assert (back.status, back.run.name, back.run.tags, back.run.description) == ("finished", "theirs", ("y", "z"), "d")
    (hyper,) = back.of(events.Hyperparameters)
    assert hyper.values == {"a.float": 1.5, "a.int": 3, "a.bool": True, "a.text": "t", "a.moment": "2024-01-02T03:04:05+00:00",
                            "config.lr": 0.1, "config.deep.n": 2, "copied": 1.5, "a.api_key": "***"}
    series = records.series_of(back)
    assert series["m/loss"] == (list(range(250)), [step * 0.5 for step in range(250)])
    (loss,) = [metrics for metrics in back.of(events.Metrics) if "m/loss" in metrics.values]
    np.testing.assert_array_equal(loss.times, 1000.0 + np.arange(250))
    assert series["m/no_steps"] == series["m/fractions"] == ([0, 1], [1.0, 2.0])
    assert series["m/repeated"] == ([0, 1], [3.0, 2.0]) and "m/cleared" not in series
    texts, artifacts, images = (named(back, kind) for kind in (events.Text, events.Artifact, events.Image))
    assert texts["log"].text == "one\ntwo" and (texts["noted"].step, texts["noted"].text) == (7, "at")
    assert any(name.endswith("/stdout") and "printed" in text.text for name, text in texts.items())
    assert (images["images"].step, images["images"].caption) == (3, "d")
    assert back.bytes_of(images["images"].blob) == back.bytes_of(artifacts["one_image"].blob)
    assert back.bytes_of(artifacts["content"].blob) == b"abc"
    assert back.bytes_of(artifacts["original/m/repeated"].blob).startswith(b"step,value,time\n1,1.0,")
    assert back.bytes_of(artifacts["original/m/fractions"].blob).startswith(b"step,value,time\n0.5,1.0,")
    skipped, changed = "\n".join(result.skipped), "\n".join(result.changed)
    assert f"outside ({theirs['ended']}/here.txt)" in skipped and "set (" in skipped and "tracked" in skipped
    assert "m/fractions" in changed and "m/repeated" in changed and "m/no_steps" in changed and "a.api_key" in changed
    assert not {"outside", "set/here.txt"} & set(artifacts)
    assert b"hush" not in (tmp_path / "run" / "events.jsonl").read_bytes()


def test_files_outside_are_read_when_that_is_allowed(theirs, tmp_path):
    _, back = imported(theirs["ended"], tmp_path / "run", allow_outside=True)
    artifacts = named(back, events.Artifact)
    assert back.bytes_of(artifacts["outside"].blob) == back.bytes_of(artifacts["set/here.txt"].blob) == b"here"


def test_a_killed_client_is_a_failed_run_with_what_reached_the_disk(theirs, tmp_path):
    result, back = imported(theirs["killed"], tmp_path / "run")
    assert back.status == "failed" and records.series_of(back)["m/loss"][0] == list(range(250))
    assert "killed" in named(back, events.Text)["imported"].text
    assert any("did not reach the disk" in line for line in result.skipped)
    assert back.of(events.Status)[-1].state == "failed"


def folder_of(path: Path, *operations: dict, files: dict[str, bytes] | None = None) -> Path:
    """Write a folder with the given operations, numbered from 1."""
    (path / "upload_path").mkdir(parents=True)
    lines = [json.dumps({"obj": operation, "version": number, "at": 5.0}) for number, operation in enumerate(operations, 1)]
    (path / "data-1.log").write_text("".join(lines))
    for name, data in (files or {}).items():
        (path / "upload_path" / name).write_bytes(data)
    return path


def upload(name: object = None, place: object = None) -> dict:
    return {"type": "UploadFile", "path": ["f"], "ext": "txt", "file_path": place, "tmp_file_name": name}


@pytest.mark.parametrize("operation", [
    upload("../secret"), upload("/etc/hostname"), upload("link"), upload("."), upload(""), upload("a\0b"), upload(7),
    upload(place="/etc/hostname"), upload(place="../secret"), upload(place="a\0b"), upload(place=["x"]),
    {"type": "UploadFileSet", "path": ["f"], "file_globs": ["/etc/*", "../*"], "reset": "False"},
    {"type": "UploadFileSet", "path": ["f"], "file_globs": 7},
    {"type": "UploadFileContent", "path": ["f"], "file_content": "%"},
    {"type": "Evil", "path": ["f"]}, {"type": "AssignFloat", "path": ["f"], "value": "x"}, {"type": "LogFloats", "path": ["f"]},
    {"type": "LogFloats", "path": ["f"], "values": [{"value": "x"}]}, {"type": "AddStrings", "path": ["f"], "values": 7},
    {"type": "LogImages", "path": ["f"], "values": [{"value": {"data": "%"}, "ts": 1}]},
    {"type": "CopyAttribute", "path": ["f"], "container_id": "other", "source_path": ["a"]},
    {"type": ["x"], "path": ["f"], "value": 1}])
def test_an_operation_that_cannot_be_carried_is_named_and_nothing_outside_is_read(tmp_path, operation):
    (tmp_path / "secret").write_text("secret")
    folder = folder_of(tmp_path / "in" / "run", operation, {"type": "AssignInt", "path": ["kept"], "value": 1})
    os.symlink(tmp_path / "secret", folder / "upload_path" / "link")
    result, back = imported(folder, tmp_path / "out")
    assert back.of(events.Hyperparameters)[0].values == {"kept": 1}
    assert result.skipped and not back.of(events.Artifact)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "secret"}


def test_a_link_is_not_followed(tmp_path):
    folder = folder_of(tmp_path / "in", upload("file"), files={"file": b"x"})
    (tmp_path / "else").mkdir()
    (folder / "upload_path").rename(tmp_path / "else" / "upload_path")
    (folder / "upload_path").symlink_to(tmp_path / "else" / "upload_path")
    result, back = imported(folder, tmp_path / "out")
    assert not back.of(events.Artifact) and "is a link" in result.skipped[0]
    (folder / "data-1.log").rename(tmp_path / "data-1.log")
    (folder / "data-1.log").symlink_to(tmp_path / "data-1.log")
    with pytest.raises(errors.UserError, match=r"data-1.log: expected a readable log"):
        importer.import_run(folder, tmp_path / "other")


@pytest.mark.parametrize("text", ['{"obj":' + "[" * 100_000, '{"obj":' * 100_000])
def test_deep_nesting_is_one_line(tmp_path, text):
    folder = folder_of(tmp_path / "in")
    (folder / "data-1.log").write_text(text)
    with pytest.raises(errors.UserError, match=r"data-1.log, character 0: .*nested too deeply") as refusal:
        importer.import_run(folder, tmp_path / "out")
    assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()


def test_numbers_and_names_without_measure(tmp_path):
    point = {"value": 1.0, "step": 10**300, "ts": 1.0}
    folder = folder_of(tmp_path / "in", {"type": "LogFloats", "path": ["m"], "values": [point, {**point, "step": True}]},
                       {"type": "AssignInt", "path": ["i"], "value": 10**4000}, {"type": "AssignString", "path": ["s" * 10**5],
                                                                                 "value": "\ud800"},
                       {"type": "LogStrings", "path": ["t"], "values": [{"value": "x", "step": 10**300, "ts": 1}]},
                       {"type": "UploadFile", "path": ["..", "..", "f"], "ext": "/../x", "tmp_file_name": "file"},
                       {"type": "AssignFloat", "path": ["run", "created"], "value": float("inf")},
                       {"type": "AssignString", "path": ["run", "id"], "value": "0" * 32}, files={"file": b"x"})
    _, back = imported(folder, tmp_path / "out")
    assert records.series_of(back)["m"] == ([0, 1], [1.0, 1.0]) and back.run.id == "0" * 32 and back.run.created == 5.0
    assert all(".." not in blob.name for artifact in back.of(events.Artifact) for blob in events.blobs(artifact))


def test_a_time_beyond_every_float_is_no_operation(tmp_path):
    folder = folder_of(tmp_path / "in", {"type": "AssignInt", "path": ["kept"], "value": 1})
    with (folder / "data-1.log").open("a") as log:
        log.write(json.dumps({"obj": {"type": "AssignInt", "path": ["not"], "value": 1}, "version": 9, "at": 10**400}))
    _, back = imported(folder, tmp_path / "out")
    assert "kept" in str(back.entries) and "not'" not in str(back.entries)


def test_a_changed_value_is_found_though_the_log_is_whole(ours, tmp_path):
    """Their format has no checksums: ours are fields of the run."""
    log = (ours[0] / "data-1.log").read_bytes()
    place = log.index(b'"value": 1.5') + len('"value": ')
    answer = damaged(ours, tmp_path / "hit", log[:place] + b"2" + log[place + 1:])
    assert answer
    result, found = answer
    assert any("which do not match their digest" in line for line in result.skipped)
    assert next(as_text(entry.event) for entry in ours[1].entries if as_text(entry.event) not in found).startswith("Metrics")


def test_logs_are_read_in_the_order_of_their_versions(tmp_path):
    folder = folder_of(tmp_path / "in")
    write = [json.dumps({"obj": {"type": "LogFloats", "path": ["m"], "values": [{"value": v, "step": v, "ts": 1}]},
                         "version": v, "at": 1}) for v in range(1, 31)]
    (folder / "data-1.log").write_text("".join(write[:9]))
    (folder / "data-10.log").write_text("".join(write[9:20]))
    (folder / "data-21.log").write_text("".join(write[20:]) + '{"obj": {"type": "LogFl')
    (folder / "data-x.log").write_text("not a log")
    _, back = imported(folder, tmp_path / "out")
    assert records.series_of(back)["m"][0] == list(range(1, 31))


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> tuple[Path, reader.RunRecord]:
    """A replica by our tracker, and the record that it is of."""
    run = odd_record.write(tmp_path_factory.mktemp("ours") / "run")
    replica.update(run.directory, protocol.Destination("neptune", "offline"))
    return importer.find(run.directory / "sync" / "neptune-offline"), run


def as_text(event: events.Event) -> str:
    return f"{type(event).__name__} {events.to_json(event)}"


def damaged(ours, tmp_path: Path, data: bytes) -> tuple[importer.ImportResult, list[str]] | None:
    """Import the replica with another log; None where it is refused in one line."""
    folder, _ = ours
    shutil.rmtree(tmp_path, ignore_errors=True)
    shutil.copytree(folder, tmp_path / "in")
    (tmp_path / "in" / "data-1.log").write_bytes(data)
    try:
        result, back = imported(tmp_path / "in", tmp_path / "out")
    except errors.UserError as error:
        assert "\n" not in str(error) and str(tmp_path) in str(error) and not (tmp_path / "out").exists()
        return None
    return result, [as_text(event) for event in back.of(object)][1:]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.floats(0, 1))
def test_a_log_cut_anywhere_gives_a_prefix(ours, tmp_path, share):
    log = (ours[0] / "data-1.log").read_bytes()
    answer = damaged(ours, tmp_path / "cut", log[:int(share * len(log))])
    assert answer
    result, found = answer
    before = [as_text(entry.event) for entry in ours[1].entries]
    if result.status == "failed":
        found = found[:-1]  # the Status that says how it ended
    assert found == before[:len(found)] or result.run.id != ours[1].run.id  # cut before the run said who it is


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.lists(some.tuples(some.floats(0, 1, exclude_max=True), some.integers(0, 7)), min_size=1, max_size=8))
def test_flipped_bits_never_give_a_traceback(ours, tmp_path, flips):
    log = bytearray((ours[0] / "data-1.log").read_bytes())
    for place, bit in flips:
        log[int(place * len(log))] ^= 1 << bit
    damaged(ours, tmp_path / "flipped", bytes(log))


def test_damage_in_the_middle_costs_only_the_event_that_it_hit(ours, tmp_path):
    log = (ours[0] / "data-1.log").read_bytes()
    place = log.index(b'"a/b') if b'"a/b' in log else log.index(b"1234567890123456789012")
    answer = damaged(ours, tmp_path / "hit", log[:place] + b"\x00" * 40 + log[place + 40:])
    assert answer
    result, found = answer
    before = [as_text(entry.event) for entry in ours[1].entries]
    missing = [event for event in before if event not in found]
    assert len(missing) == 1 and missing[0].startswith("Dataset") and [event for event in before if event in found] == found
    assert any("damage in the log" in line for line in result.skipped)


def test_base64_is_not_trusted(tmp_path):
    content = {"type": "UploadFileContent", "path": ["f"], "ext": "bin", "file_content": base64.b64encode(b"\x80\x05").decode()}
    _, back = imported(folder_of(tmp_path / "in", content), tmp_path / "out")
    assert back.bytes_of(named(back, events.Artifact)["f"].blob) == b"\x80\x05"


@pytest.mark.parametrize("text", ['{"obj": {"a": "' * 50_000, '{"obj" 1' * 50_000])
def test_a_file_that_is_all_damage_is_refused_soon(tmp_path, text):
    folder = folder_of(tmp_path / "in")
    (folder / "data-1.log").write_text(text)
    with pytest.raises(errors.UserError, match="more than [0-9]+ damaged places"):
        importer.import_run(folder, tmp_path / "out")
