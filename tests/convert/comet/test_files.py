"""Comet archives that other programs wrote: the real client with calls that we never use, killed, damaged, hostile."""

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mnist_jax import errors, events
from mnist_jax.convert import importer, untrusted
from mnist_jax.record import reader
from mnist_jax.tracking import protocol, replica
from tests.helpers import odd_record, records

SCRIPT = """
import os, signal, sys, time
import comet_ml
from PIL import Image
e = comet_ml.OfflineExperiment(offline_directory="kept", log_code=False, log_env_details=False, log_git_metadata=False,
                               log_git_patch=False, parse_args=False, auto_output_logging="simple", display_summary_level=0)
print("printed")
e.set_name("theirs"); e.add_tags(["b", "a"])
e.log_parameters({"lr": 0.1, "flag": True, "none": None, "list": [1, 2], "deep": {"n": 1}, "nan": float("nan"),
                  "api_key": "hush"})
e.log_parameter("lr", 0.2)
for step in range(3):
    e.log_metric("m", step * 1.0, step=step, epoch=0)
e.log_metric("odd", float("nan"), step=1); e.log_metric("odd", float("-inf"), step=2); e.log_metric("text", "no", step=2)
e.log_metric("again", 1, step=5); e.log_metric("again", 2, step=4); e.log_metric("again", 3, step=5)
with e.train():
    e.log_metric("loss", 1.5, step=4)
e.log_other("best", 0.5); e.log_system_info("gpu", "none"); e.log_dependency("jax", "1.0")
e.log_text("a text", step=3, metadata={"name": "t"}); e.log_html("<b>x</b>"); e.set_model_graph("graph{}")
Image.new("RGB", (4, 4)).save("x.png"); Image.new("RGB", (4, 4)).save("x.jpg")
e.log_image("x.png", name="p", step=2); e.log_image("x.jpg", name="j", step=2)
e.log_asset_data({"a": 1}, name="d.json", step=1); e.log_asset("x.jpg", file_name="deep/n.bin", metadata={"k": [1]})
e.log_confusion_matrix([0, 1, 1], [0, 1, 0]); e.log_histogram_3d([1, 2, 3], name="h", step=1); e.log_curve("c", [1, 2], [3, 4])
e.log_points_3d("scene", points=[[1, 2, 3]]); e.log_audio("x.jpg", file_name="a.wav"); e.log_remote_asset("s3://user:pw@b/k")
e.log_model("net", "x.jpg", metadata={"a": 1}); e.register_model("net", "1.0.0")
e.log_code(code="print(1)", code_name="sub/c.py")
if len(sys.argv) > 1:
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
e.end()
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> dict[str, Path]:
    """Run the real client twice, ended and killed."""
    folders = {}
    for name, more in (("ended", []), ("killed", ["kill"])):
        folders[name] = tmp_path_factory.mktemp(name)
        (folders[name] / "kept").mkdir()
        environment = {**os.environ, "COMET_ERROR_TRACKING_ENABLE": "false", "TMPDIR": str(folders[name])}
        done = subprocess.run([sys.executable, "-c", SCRIPT, *more], cwd=folders[name], capture_output=True, text=True,
                              env=environment)
        assert done.returncode == (-signal.SIGKILL if more else 0), done.stderr
    return folders


def imported(path: Path, workdir: Path, **more) -> tuple[importer.ImportResult, reader.RunRecord]:
    result = importer.import_run(path, workdir, **more)
    return result, reader.read(workdir)


def named(recorded: reader.RunRecord, kind: type) -> dict:
    return {event.name: event for event in recorded.of(kind)}


@pytest.mark.parametrize("name", ["ended", "killed"])
def test_what_another_program_wrote_is_mapped_to_the_nearest_kind(theirs, tmp_path, name):
    """A killed client leaves the same facts in a temporary folder, but not tags and name of the experiment's end."""
    source = theirs[name] / "kept" if name == "ended" else theirs[name]
    result, back = imported(source, tmp_path / "run")
    assert back.run.name == "theirs"
    if name == "ended":
        assert (back.status, back.run.tags) == ("finished", ("a", "b"))
        assert back.run.id == next((theirs[name] / "kept").glob("*.zip")).stem
    else:
        assert back.status == "failed" and "killed" in named(back, events.Text)["imported"].text
    (hyper,) = back.of(events.Hyperparameters)
    assert str(hyper.values.pop("nan")) == "nan"
    assert hyper.values == {"lr": 0.2, "flag": True, "none": None, "list": [1, 2], "deep.n": 1, "api_key": "***",
                            "other.best": 0.5}
    series = records.series_of(back)
    assert series["m"] == ([0, 1, 2], [0.0, 1.0, 2.0]) and series["train/loss"] == ([4], [1.5])
    assert str(series["odd"]) == "([1, 2], [nan, -inf])" and series["again"] == ([4, 5], [2.0, 3.0])
    texts, artifacts, images = (named(back, kind) for kind in (events.Text, events.Artifact, events.Image))
    assert (texts["t"].text, texts["t"].step) == ("a text", 3) and "printed" in texts["output"].text
    assert texts["html"].text == "<b>x</b>" and texts["graph"].text == "graph{}"
    assert "1.0.0" in texts["registered_model/net"].text
    assert images["p"].step == 2 and artifacts["j/2"].blob.name == "j.jpg" and artifacts["j/2"].kind == "image"
    assert artifacts["deep/n.bin"].metadata["k"] == "[1]" and back.bytes_of(artifacts["d.json"].blob) == b'{"a":1}'
    kinds = {artifact.kind for artifact in artifacts.values()}
    assert kinds >= {"confusion-matrix", "histogram3d", "curve", "audio", "3d-image"}
    (model,), (source,), (environment,) = back.of(events.Model), back.of(events.Source), back.of(events.Environment)
    assert (model.name, model.metadata) == ("net", {"a": 1}) and source.files[0].name == "sub/c.py"
    assert environment.facts == {"gpu": "none", "packages/jax": "1.0"}
    skipped, changed = "\n".join(result.skipped), "\n".join(result.changed)
    assert "not numbers: text" in skipped and "s3://***@b/k" in skipped and "again" in changed and "api_key" in changed
    text = (tmp_path / "run" / "events.jsonl").read_bytes()
    assert b"hush" not in text and b"user:pw" not in text


def test_the_placeholder_of_a_killed_client_says_where_the_data_lies(theirs, tmp_path):
    (placeholder,) = (theirs["killed"] / "kept").glob("*.zip")
    with pytest.raises(errors.UserError, match=r"placeholder of a killed client; its data lies in .*messages.json"):
        importer.import_run(placeholder, tmp_path / "run")


def archive_of(path: Path, *messages: tuple[str, dict], files: dict[str, bytes] | None = None,
               text: bytes | None = None) -> Path:
    lines = [json.dumps({"type": kind, "payload": {"message_id": number, **payload}}) + "\n"
             for number, (kind, payload) in enumerate(messages, 1)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("messages.json", "".join(lines) if text is None else text)
        archive.writestr("experiment.json", json.dumps({"offline_id": "0" * 32, "tags": [], "start_time": 5000}))
        for name, data in (files or {}).items():
            archive.writestr(name, data)
    return path


KEPT = ("metric_msg", {"metric": {"metricName": "kept", "metricValue": 1, "step": 1}, "local_timestamp": 1000})


def asset(place, **more) -> tuple[str, dict]:
    return "file_upload", {"upload_type": "asset", "file_path": place, "metadata": {}, "additional_params": {"fileName": "f"},
                           **more}


@pytest.mark.parametrize("message", [
    asset("../secret"), asset("/etc/hostname"), asset("nowhere"), asset(""), asset("."), asset(7), asset(["x"]), asset("a\0b"),
    asset("messages.json"), asset("link"), asset("x", metadata=[1]), asset("x", additional_params=7), ("evil", {}),
    ("metric_msg", {}), ("metric_msg", {"metric": {"metricName": "m", "metricValue": [1], "step": 1}}),
    ("metric_msg", {"metric": {"metricName": "m", "metricValue": 1}, "local_timestamp": "x"}),
    ("parameter_msg", {"param": 7}), ("log_other", {}), ("system_info", {"system_info": None}),
    ("system_details", {"env": {"SECRET": "x"}}), ("remote_file", {"remote_uri": "s3://x"}), ("ws_msg", {"log_other": 7}),
    ("installed_packages", {"installed_packages": 7}), ("3d-image", {"items": [7], "name": "x"}), ("git_metadata", {})])
def test_a_message_that_cannot_be_carried_is_named_and_nothing_outside_is_read(tmp_path, message):
    (tmp_path / "secret").write_text("secret")
    path = archive_of(tmp_path / "in.zip", message, KEPT, files={"../secret": b"in the archive", "sub/x": b"y"})
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, str(tmp_path / "secret"))
    result, back = imported(path, tmp_path / "out")
    assert records.series_of(back) == {"kept": ([1], [1.0])}
    assert result.skipped and not back.of(events.Artifact)
    assert {path.name for path in tmp_path.iterdir()} == {"in.zip", "out", "secret"}


def test_older_messages_say_the_same(tmp_path):
    older: list[tuple[str, dict]] = [("ws_msg", {"log_other": {"key": "best", "val": 1}}), ("ws_msg", {"stdout": "line\n"}),
             ("ws_msg", {"html": "<b>"}),
             ("ws_msg", {"installed_packages": ["jax==1.0"]}), ("ws_msg", {"fileName": "train.py"}),
             ("ws_msg", {"env_details": {"command": ["x", "--api_key=hush", "http://me:pw@host"], "os": "Linux"}}),
             ("ws_msg", {"git_meta": {"parent": "abc", "branch": "main", "origin": "https://me:pw@host/x", "status": ""}})]
    _, back = imported(archive_of(tmp_path / "in.zip", *older), tmp_path / "out")
    (environment,), (source,) = back.of(events.Environment), back.of(events.Source)
    assert environment.facts == {"file_name": "train.py", "os": "Linux", "command": "x --api_key=*** http://***@host",
                                 "packages/jax": "1.0"}
    assert (source.commit, source.branch, source.remote) == ("abc", "main", "https://***@host/x")
    assert back.of(events.Hyperparameters)[0].values == {"other.best": 1}


def refused(path: Path, workdir: Path) -> str:
    with pytest.raises(errors.UserError) as refusal:
        importer.import_run(path, workdir)
    assert "\n" not in str(refusal.value) and not workdir.exists()
    return str(refusal.value)


def test_bombs_are_stopped_by_what_they_say_and_by_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "FILE_BYTES", 10**6)
    large = archive_of(tmp_path / "large.zip", asset("big"), files={"big": bytes(2 * 10**6)})
    assert "big: expected at most 1000000 bytes" in refused(large, tmp_path / "out")
    data = bytearray(large.read_bytes())  # now it says that it is small
    for at in range(len(data) - 4):
        if data[at:at + 4] == struct.pack("<I", 2 * 10**6):
            data[at:at + 4] = struct.pack("<I", 10)
    large.write_bytes(data)
    assert "damaged" in refused(large, tmp_path / "out")
    monkeypatch.setattr(untrusted.Budget.__init__, "__defaults__", (3 * 10**5,))
    files = {f"f{number}": bytes(10**5) for number in range(9)}
    many = archive_of(tmp_path / "many.zip", *map(asset, files), files=files)
    assert "expected at most 300000 bytes of contents" in refused(many, tmp_path / "out")


def test_deep_nesting_and_long_numbers_are_one_line(tmp_path):
    deep = archive_of(tmp_path / "deep.zip", text=b'{"type":' + b"[" * 10**5)
    assert "messages.json, line 1: " in refused(deep, tmp_path / "out")
    shallow = archive_of(tmp_path / "shallow.zip", ("parameter_msg", {"param": {"paramName": "p", "paramValue": json.loads(
        "[" * 400 + "]" * 400)}}))
    assert "nested too deeply" in refused(shallow, tmp_path / "out")
    long = archive_of(tmp_path / "long.zip", text=b'{"type":"log_other","payload":{"key":"k","value":' + b"9" * 5000 + b"}}\n")
    result, _ = imported(long, tmp_path / "out")
    assert "line 1" in result.skipped[0]


def test_lines_end_at_newlines_only(tmp_path):
    text = '{"type":"log_other","payload":{"key":"k","value":"a\u2028b\u0085c\x0cd"}}\n\n{"type":"log_other","payl'
    _, back = imported(archive_of(tmp_path / "in.zip", text=text.replace("\x0c", "\\f").encode()), tmp_path / "out")
    assert back.of(events.Hyperparameters)[0].values == {"other.k": "a\u2028b\u0085c\x0cd"}


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> tuple[Path, reader.RunRecord]:
    """A replica by our tracker, and the record that it is of."""
    run = odd_record.write(tmp_path_factory.mktemp("ours") / "run")
    replica.update(run.directory, protocol.Destination("comet", "offline"))
    return run.directory / "sync" / "comet-offline" / f"{run.run.id}.zip", run


def as_text(event: events.Event) -> str:
    if isinstance(event, events.Metrics):  # Comet keeps its own times
        event = events.Metrics(event.steps, event.values, event.steps * 0.0)
    return f"{type(event).__name__} {json.dumps(events.to_json(event), sort_keys=True)}"


def attempt(source: Path, folder: Path) -> tuple[importer.ImportResult, list[str]] | None:
    """Import a source; None where it is refused in one line."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    try:
        result, back = imported(source, folder / "out")
    except errors.UserError as error:
        assert "\n" not in str(error) and str(folder) in str(error) and not (folder / "out").exists()
        return None
    return result, [as_text(event) for event in back.of(object)][1:]


def is_in_order(found: list[str], before: list[str]) -> bool:
    rest = iter(before)
    return all(event in rest for event in found)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.floats(0, 1))
def test_messages_cut_anywhere_give_a_prefix(ours, tmp_path, share):
    folder = tmp_path / "open"
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(ours[0]) as archive:
        archive.extractall(folder)
    (folder / "experiment.json").unlink()
    text = (folder / "messages.json").read_bytes()
    (folder / "messages.json").write_bytes(text[:int(share * len(text))])
    answer = attempt(folder, tmp_path)
    assert answer
    result, found = answer
    before = [as_text(entry.event) for entry in ours[1].entries]
    if result.run.id == ours[1].run.id:
        assert found[:-1] == before[:len(found) - 1]
        assert result.status == "failed" or found == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.floats(0, 1), some.lists(some.tuples(some.floats(0, 1, exclude_max=True), some.integers(0, 7)), max_size=4))
def test_a_damaged_archive_is_refused_or_names_what_it_lacks(ours, tmp_path, share, flips):
    data = bytearray(ours[0].read_bytes())
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    if not flips:
        data = data[:int(share * len(data))]
    (tmp_path / "in.zip").write_bytes(data)
    if (answer := attempt(tmp_path / "in.zip", tmp_path)) and answer[0].run.id == ours[1].run.id:
        result, found = answer
        before = [as_text(entry.event) for entry in ours[1].entries]
        assert is_in_order(found, before) and (found == before or result.skipped)


def test_a_zip_of_something_else_is_refused(tmp_path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("readme", "x")
    (tmp_path / "x.zip").write_bytes(data.getvalue())
    assert "found no messages.json in it" in refused(tmp_path / "x.zip", tmp_path / "out")
