"""The Neptune loopback, healthy, against the real client in guarded processes."""

import base64
import json
import os
import re
import subprocess
import sys
import urllib.request

import pytest

from mnist_jax.compare.servers import neptune, neptune_store
from mnist_jax.tracking import testing
from tests.helpers import guarded_process


@pytest.fixture
def loopback():
    with neptune.serve() as (running, store):
        yield running, store
        assert not running.errors and not store.unknown


def test_the_guard_ends_a_process_that_reaches_out(tmp_path):
    for code in ("import socket; socket.create_connection(('192.0.2.1', 80), 1)", "socket.gethostbyname('a.invalid')"):
        done = guarded_process.python(tmp_path, "import socket; " + code)
        assert done.returncode == 97 and "REACHED OUT" in done.stderr


def test_everything_a_run_logs_arrives_and_reads_back(tmp_path, loopback):
    running, store = loopback
    large = os.urandom(3 * 2**20 + 17)
    (tmp_path / "large.bin").write_bytes(large)
    (tmp_path / "one.png").write_bytes(testing.png())
    (tmp_path / "folder").mkdir()
    for name in "abc":
        (tmp_path / "folder" / f"{name}.txt").write_text(name * 3)
    read = guarded_process.client(
        tmp_path,
        running.url,
        """
import datetime
from neptune.types import FloatSeries
run = start(custom_run_id="first", name="a name", tags=["a", "b"])
run["float"], run["int"], run["bool"], run["string"] = 0.5, 3, True, "words"
run["moment"] = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
run["set"].add(["x", "y", "z"])
run["set"].remove("z")
run["train/loss"].extend([i / 2 for i in range(2500)], steps=list(range(2500)), timestamps=list(range(2500)))
run["train/words"].extend(["one", "two"], steps=[1, 2])
run["images"].append(File("one.png"), step=4, name="name", description="a digit")
run["bounded"] = FloatSeries([0.1], min=0, max=1, unit="%")
run["cleared"].extend([1.0, 2.0], steps=[5, 6])
run["gone"] = 1
run["content"].upload(File.from_content("some text", extension="txt"))
run["large"].upload("large.bin")
run["files"].upload_files("folder/*.txt")
run["one_file"].upload_files("large.bin")
run["artifact"].track_files("folder/a.txt")
run.wait()
run["copied"] = run["float"]
run["cleared"].clear()
run["cleared"].append(5.0, step=0)
del run["gone"]
run["files"].delete_files("folder/b.txt")
first_hash = run["artifact"].fetch_hash()
run["artifact"].track_files("folder")
run.sync()
values = run["train/loss"].fetch_values(progress_bar=False)
run["large"].download("back.bin", progress_bar=False)
run["files"].download("files.zip", progress_bar=False)
run["images"].download_last("images")
import zipfile
tell({
    "atoms": [run[name].fetch() for name in ("float", "int", "bool", "string", "copied", "sys/id", "sys/name")],
    "moment": str(run["moment"].fetch()),
    "sets": [sorted(run[name].fetch()) for name in ("set", "sys/tags")],
    "values": [len(values), float(values["step"].max()), float(values["value"].max()), values.index.is_unique],
    "time": values.iloc[-1]["timestamp"].timestamp(),
    "words": list(run["train/words"].fetch_values(progress_bar=False)["value"]),
    "last": [run["train/loss"].fetch_last(), run["train/words"].fetch_last()],
    "structure": [sorted(run.get_structure()), sorted(run.get_structure()["train"])],
    "exists": [run.exists("train/loss"), run.exists("gone"), raised(run["gone"].fetch)],
    "namespace": run.fetch()["float"],
    "same": open("back.bin", "rb").read() == open("large.bin", "rb").read(),
    "zip": sorted(zipfile.ZipFile("files.zip").namelist()),
    "image": open("images/0.png", "rb").read() == open("one.png", "rb").read(),
    "extension": run["large"].fetch_extension(),
    "artifact": [file.file_path for file in run["artifact"].fetch_files_list()],
    "versions": first_hash != run["artifact"].fetch_hash(),
})
run.stop()
""",
    )
    assert read == {
        "atoms": [0.5, 3, True, "words", 0.5, "RUN-1", "a name"],
        "moment": "2026-01-02 00:00:00+00:00",
        "sets": [["x", "y"], ["a", "b"]],
        "values": [2500, 2499.0, 1249.5, True],
        "time": 2499.0,
        "words": ["one", "two"],
        "last": [1249.5, "two"],
        "structure": [
            ["artifact", "bool", "bounded", "cleared", "content", "copied", "files", "float", "images", "int", "large",
             "moment", "one_file", "set", "string", "sys", "train"],
            ["loss", "words"],
        ],
        "exists": [True, False, "MissingFieldException"],
        "namespace": 0.5,
        "same": True,
        "zip": ["folder/a.txt", "folder/c.txt"],
        "image": True,
        "extension": "bin",
        "artifact": ["a.txt", "b.txt", "c.txt"],
        "versions": True,
    }  # fmt: skip
    run = store.run("first")
    assert run is store.run("RUN-1") is store.run("team/mnist/RUN-1") and len(store.runs) == 1
    assert run.value("train/loss")[3] == neptune_store.NeptunePoint(3, 1.5, 3000)
    assert run.value("images")[0].value == neptune_store.StoredImage(testing.png(), "name", "a digit")
    assert run.fields["bounded"].settings == {"min": 0, "max": 1, "unit": "%"}
    assert [point.value for point in run.value("cleared")] == [5.0]
    assert run.value("content") == neptune_store.StoredFile(b"some text", "txt")
    assert run.value("large") == neptune_store.StoredFile(large, "bin")
    assert run.value("files") == {"folder/a.txt": b"aaa", "folder/c.txt": b"ccc"}
    assert run.value("one_file") == {"large.bin": large}
    assert store.calls["fileAtomMultipartUploadPart"] == 4 and not store.uploads
    assert len(store.artifacts[run.value("artifact")]) == 3
    assert not run.rejected


def test_a_field_keeps_its_kind():
    run = neptune_store.NeptuneStore().open_run("team/mnist", None)
    assert neptune_store.apply(run, {"path": "x", "assignFloat": {"value": 1.0}}) is None
    error = neptune_store.apply(run, {"path": "x", "logFloats": {"entries": []}})
    assert error == "Attribute x is of type float, not floatSeries" and run.value("x") == 1.0
    assert run.rejected == [neptune_store.Rejected("x", "logFloats", 0, error)]


def test_sync_mode_resumes_and_raises_what_the_server_refuses(tmp_path, loopback):
    running, store = loopback
    read = guarded_process.client(
        tmp_path,
        running.url,
        """
run = start(custom_run_id="same", mode="sync")
run["loss"].append(1.0, step=1)
refused = [raised(run["loss"].append, 2.0, step=step) for step in (1, 0)]
run["loss"].extend([3.0, 4.0], steps=[2, 3])
run["text"].append("unset step")
run["file"].upload(File.from_content(b"bytes"))
run.stop()
again = start(custom_run_id="same", mode="sync")
seen = [again["sys/id"].fetch(), again["loss"].fetch_last()]
again["loss"].append(5.0, step=4)
again.stop()
other = start(custom_run_id="other")
other.stop()
named = start(with_id="RUN-1")
named["loss"].append(0.0, step=4)
named.wait()
seen += [named["loss"].fetch_last()]
named.stop()
tell({"refused": refused, "seen": seen, "missing": raised(start, with_id="RUN-9")})
""",
    )
    assert read["refused"] == ["MetadataInconsistency"] * 2
    assert read["seen"] == ["RUN-1", 4.0, 5.0]
    assert read["missing"] == "RunNotFound"
    run = store.run("same")
    assert [run.custom_run_id for run in store.runs.values()] == ["same", "other"]
    assert [(point.step, point.value) for point in run.value("loss")] == [(1, 1.0), (2, 3.0), (3, 4.0), (4, 5.0)]
    assert [(rejected.path, rejected.points) for rejected in run.rejected] == [("loss", 1)] * 3
    assert re.search(r"must be strictly increasing .* loss\. Invalid point: 0\.0$", run.rejected[1].description)
    assert run.value("text")[0].step == 0 and run.value("file").content == b"bytes"


def test_an_offline_folder_is_sent_by_the_command_line_and_deleted(tmp_path, loopback):
    running, store = loopback
    read = guarded_process.client(
        tmp_path,
        running.url,
        """
import os
from neptune.cli.__main__ import main
left = []
for flags in ([], ["--offline-only"]):
    run = start(mode="offline", name="offline")
    run["loss"].extend([1.0, 2.0, 9.0], steps=[1, 2, 2])
    run["file"].upload(File.from_content("kept", extension="txt"))
    run.stop()
    main(["sync", "--path", ".neptune", "-p", "team/mnist", *flags], standalone_mode=False)
    left.append(os.listdir(".neptune/offline") + os.listdir(".neptune/async"))
tell({"left": left})
""",
    )
    assert read == {"left": [[], []]}
    assert len(store.runs) == 2
    for run in store.runs.values():
        assert [point.value for point in run.value("loss")] == [1.0, 2.0]
        assert run.value("file") == neptune_store.StoredFile(b"kept", "txt")
        assert [rejected.points for rejected in run.rejected] == [1]


def test_a_bad_token_is_called_so_by_the_client(tmp_path, loopback):
    running, store = loopback
    wrong = neptune.token(running.url, key="of somebody else")
    code = "tell([raised(start, api_token=token, mode=mode) for mode in ('sync', 'async') for token in"
    read = guarded_process.client(tmp_path, running.url, f"{code} ({wrong!r}, 'no base64')])")
    assert read == ["NeptuneInvalidApiTokenException"] * 4
    assert not store.runs and store.calls["exchangeApiToken"] == 0


def test_the_command_serves_and_prints_a_token():
    command = [sys.executable, "-m", "mnist_jax.compare.servers.neptune", "--port=0"]
    environment = os.environ | {"PYTHONPATH": str(guarded_process.ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            token = process.stdout.readline().strip().rpartition("NEPTUNE_API_TOKEN=")[2]
            url = json.loads(base64.b64decode(token))["api_address"]
            with urllib.request.urlopen(f"{url}/api/leaderboard/swagger.json") as answer:
                assert "/api/leaderboard/executeOperations" in json.loads(answer.read())["paths"]
        finally:
            process.kill()
