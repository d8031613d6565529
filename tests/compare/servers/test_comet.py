"""The real Comet client against the loopback, in guarded processes that reach nothing else."""

import collections
import io
import json
import os
import subprocess
import sys
import urllib.request
import zipfile

import pytest

from mnist_jax.compare.servers import comet, comet_store
from tests.helpers import guarded_process

KEY = "a" * 32
OTHER = "b" * 32


@pytest.fixture
def loopback():
    with comet.serve() as (running, store):
        yield running, store
        assert not running.errors and not store.unknown


def test_everything_an_experiment_logs_arrives_and_reads_back(tmp_path, loopback):
    running, store = loopback
    large = os.urandom(3 * 2**20) + b"\r\n--\r\n"
    (tmp_path / "large.bin").write_bytes(large)
    repository = "git init -q . && git config user.email a@b && git config user.name somebody && echo 1 > tracked"
    repository += " && git add tracked && git commit -qm first && echo 2 >> tracked"
    subprocess.run(repository, shell=True, check=True, cwd=tmp_path)
    read = guarded_process.comet_client(
        tmp_path,
        running.url,
        f"KEY = {KEY!r}"
        """
import numpy
QUIET |= {"log_git_metadata": True, "log_git_patch": True, "log_code": True}  # without code there is no patch either
experiment = start(KEY, mode="create")
experiment.set_name("a name")
experiment.add_tags(["a", "b"])
experiment.add_tag("c")
for step in range(2500):
    experiment.log_metrics({"train/loss": step / 2, "train/accuracy": 1.0}, step=step, epoch=step // 1000)
experiment.log_metrics({"odd": float("nan")}, step=1, epoch=0)
experiment.log_metrics({"odd": float("-inf")}, step=2, epoch=0)
experiment.log_parameter("rate", 0.1)
experiment.log_parameters({"batch": 128, "model": {"kind": "cnn"}, "sizes": [1, 2]})
experiment.log_other("seed", 7)
experiment.log_others({"note": "words"})
experiment.log_system_info("device", "cpu")
experiment.log_dependency("jax", "0.9")
experiment.log_code(code="print(1)", code_name="run.py")
experiment.log_asset("large.bin", file_name="checkpoints/large.bin", step=3, metadata={"sha256": "x"})
experiment.log_asset_data({"z": 1}, name="z.json", step=4, epoch=1)
experiment.log_image(numpy.eye(4), name="digit", step=5, metadata={"label": 3})
experiment.log_image(numpy.eye(4), name="digit", step=6)
experiment.log_text("some text", step=7, metadata={"name": "text"})
experiment.log_html("<b>bold</b>")
experiment.log_table("table.csv", [[1, 2], [3, 4]], headers=["x", "y"])
experiment.log_model("net", "large.bin", file_name="weights.bin")
experiment.log_dataset_info(name="mnist", version="1")
experiment.log_confusion_matrix([0, 1], [0, 1])
experiment.set_model_graph("a graph")
flushed = experiment.flush(timeout=30)
experiment.end()

api = comet_ml.api.API(cache=False)
seen = api.get_experiment_by_key(KEY)
images = sorted(seen.get_asset_list("image"), key=lambda image: image["step"])  # they come as their uploads ended
(text,) = seen.get_asset_list("text-sample")
summary = seen.get_metrics_summary("train/loss")
seen.download_model("net", output_path="model")
tell({
    "flushed": flushed,
    "missing": api.get_experiment_by_key("c" * 32),
    "points": [[point["metricValue"], point["step"], point["epoch"]] for point in seen.get_metrics("train/loss")],
    "every": len(seen.get_metrics()),
    "odd": [point["metricValue"] for point in seen.get_metrics("odd")],
    "summary": [summary[name] for name in ("valueMin", "valueMax", "valueCurrent", "stepCurrent")],
    "parameters": {row["name"]: row["valueCurrent"] for row in seen.get_parameters_summary()},
    "others": {row["name"]: row["valueCurrent"] for row in seen.get_others_summary()},
    "tags": seen.get_tags(),
    "name": seen.get_name(),
    "html": seen.get_html(),
    "graph": seen.get_model_graph(),
    "details": seen.get_system_details()["logAdditionalSystemInfoList"],
    "state": seen.get_state(),
    "images": [[image["fileName"], image["step"], image["metadata"]] for image in images],
    "image": seen.get_asset(images[0]["assetId"])[:4].hex(),
    "text": [text["step"], text["metadata"], seen.get_asset(text["assetId"], return_type="text")],
    "same": seen.get_assets_by_name("checkpoints/large.bin") == [open("large.bin", "rb").read()],
    "types": [asset["type"] for asset in seen.get_asset_list()],
    "models": [seen.get_model_names(), [asset["fileName"] for asset in seen.get_model_asset_list("net")]],
    "model": open("model/weights.bin", "rb").read() == open("large.bin", "rb").read(),
    "patch": seen.get_git_patch()[:2].decode(),
    "user": seen.get_git_metadata()["user"],
    "found": [found.id for found in api.get_experiments("loopback", "mnist")],
})
""",
        MPLBACKEND="agg",
    )
    assert read["points"] == [[str(step / 2), step, step // 1000] for step in range(2500)]
    assert read["every"] == 5003  # and one that the client adds at the end: process duration
    assert read["parameters"].items() >= {"rate": "0.1", "batch": "128", "model|kind": "cnn", "sizes": "[1, 2]"}.items()
    assert read["others"].items() >= {"seed": "7", "note": "words", "Name": "a name", "dataset_info": "mnist-1"}.items()
    once = ("confusion-matrix", "git-patch", "model-element", "source_code", "text-sample")
    assert collections.Counter(read["types"]) == {"asset": 3, "image": 2, **dict.fromkeys(once, 1)}
    for name in ("points", "every", "parameters", "others", "types"):
        del read[name]
    assert read == {
        "flushed": True,
        "missing": None,
        "odd": ["NaN", "-Infinity"],
        "summary": ["0.0", "1249.5", "1249.5", 2499],
        "tags": ["a", "b", "c"],
        "name": "a name",
        "html": "<b>bold</b>",
        "graph": "a graph",
        "details": [{"key": "device", "value": "cpu"}],
        "state": "finished",
        "images": [["digit", 5, '{"label": 3}'], ["digit", 6, None]],
        "image": "89504e47",
        "text": [7, '{"name": "text"}', "some text"],
        "same": True,
        "models": [["net"], ["weights.bin"]],
        "model": True,
        "patch": "PK",
        "user": "somebody",
        "found": [KEY],
    }
    (experiment,) = store.experiments.values()
    assert (experiment.key, experiment.project, experiment.alive, experiment.errors) == (KEY, "mnist", False, [])
    assert experiment.metrics[2]._replace(timestamp=0) == comet_store.CometPoint("train/accuracy", 1.0, 1, 0, 0, None)
    assert collections.Counter(point.name for point in experiment.metrics)["train/accuracy"] == 2500
    assert experiment.dependencies == [("jax", "0.9")]
    assert experiment.asset("checkpoints/large.bin").content == large
    assert experiment.asset("checkpoints/large.bin").metadata == {"sha256": "x"}
    assert json.loads(experiment.asset("z.json").content) == {"z": 1} and experiment.asset("z.json").step == 4
    assert experiment.asset("run.py").content == b"print(1)"
    assert experiment.asset("table.csv").content.split() == [b"x,y", b"1,2", b"3,4"]
    with zipfile.ZipFile(io.BytesIO(experiment.asset("git-patch").content)) as patch:
        assert b"+2" in patch.read("git_diff.patch")


def test_a_key_opens_one_experiment_however_often(tmp_path, loopback):
    running, store = loopback
    read = guarded_process.comet_client(
        tmp_path,
        running.url,
        f"KEY, OTHER = {KEY!r}, {OTHER!r}"
        """
missing = [raised(start, KEY, mode="get")]
dead = comet_ml.ExistingExperiment(experiment_key=KEY, **QUIET)
missing.append(dead.alive)
dead.end()
opened = []
for mode in ("get_or_create", "get_or_create", "get"):
    experiment = start(KEY, mode=mode)
    opened.append([type(experiment).__name__, experiment.id == KEY, experiment.alive])
    experiment.log_metric("loss", 0.5, step=1, epoch=0)
    experiment.end()
existing = comet_ml.ExistingExperiment(experiment_key=KEY, **QUIET)
opened.append([type(existing).__name__, existing.id == KEY, existing.alive])
existing.end()
again = [raised(start, KEY, mode="create")]
dead = comet_ml.Experiment(experiment_key=KEY, project_name="mnist", **QUIET)
again += [dead.alive, start(KEY) is dead]  # a dead experiment stays the running one until it is ended
dead.end()
wrong = [raised(start, OTHER, api_key="wrong"), raised(start, OTHER, mode="get", api_key="wrong")]
dead = comet_ml.Experiment(api_key="wrong", experiment_key=OTHER, **QUIET)
wrong += [dead.alive, raised(comet_ml.api.API(api_key="wrong").get_experiment_by_key, OTHER)]
dead.end()
seen = comet_ml.api.APIExperiment(previous_experiment=KEY)
seen.log_metric("loss", 0.25, step=2, epoch=0, timestamp=1700000000.5)
tell({"missing": missing, "opened": opened, "again": again, "wrong": wrong})
""",
        COMET_LOGGING_CONSOLE="CRITICAL",
    )
    assert read["missing"] == ["ExperimentNotFound", False]
    assert read["opened"] == [["Experiment", True, True]] + [["ExistingExperiment", True, True]] * 3
    assert read["again"] == ["InvalidExperimentMode", False, True]
    assert read["wrong"] == ["InvalidAPIKey", "Unauthorized", False, "Unauthorized"]
    (experiment,) = store.experiments.values()
    assert experiment.values("loss") == [0.5, 0.5, 0.5, 0.25]  # the same point three times: nothing is merged
    loss = [point for point in experiment.metrics if point.name == "loss"]
    assert loss[-1].timestamp == 1_700_000_000_500
    assert experiment.resumed == 3


def test_artifacts_and_registered_models_pass_between_experiments(tmp_path, loopback):
    running, store = loopback
    (tmp_path / "data.bin").write_bytes(os.urandom(1000))
    read = guarded_process.comet_client(
        tmp_path,
        running.url,
        f"KEY, OTHER = {KEY!r}, {OTHER!r}"
        """
import os
def artifact(**settings):
    made = comet_ml.Artifact("mnist data", "dataset", **settings)
    made.add("data.bin", logical_path="folder/data.bin", metadata={"rows": 10})
    return made
experiment = start(KEY)
first = experiment.log_artifact(artifact(aliases=["best"], metadata={"images": 60000}, version_tags=["raw"]))
second = experiment.log_artifact(artifact())
experiment.log_artifact(artifact(version="2.5.0", aliases=["best"]))
taken = raised(experiment.log_artifact, artifact(version="2.5.0"))
experiment.log_model("net", "data.bin", file_name="weights.bin")
unlogged = raised(experiment.register_model, "another")
for version in ("1.0.0", "1.1.0"):
    experiment.flush()  # without it they may be registered in any order
    experiment.register_model("net", version=version, registry_name="mnist-net", public=False, tags=["new"])
experiment.end()
other = start(OTHER)
fetched = {name: other.get_artifact("mnist data", version_or_alias=name) for name in ("1.0.0", "latest", "best")}
fetched["1.0.0"].download("down")
missing = raised(other.get_artifact, "nothing")
other.end()
api = comet_ml.api.API(cache=False)
model = api.get_model("loopback", "mnist-net")
model.download("1.1.0", "model")
same = [open(path, "rb").read() == open("data.bin", "rb").read() for path in ("down/folder/data.bin", "model/weights.bin")]
details = api.get_artifact_details("loopback", "mnist data")
tell({
    "versions": [str(first.version), str(second.version)],
    "fetched": {name: [str(found.version), sorted(found.aliases), dict(found.metadata)] for name, found in fetched.items()},
    "source": api.get_artifact("loopback", "mnist data", version="2.0.0").source_experiment_key == KEY,
    "assets": [[asset.logical_path, asset.size, asset.metadata] for asset in fetched["best"].assets],
    "errors": [taken, unlogged, missing],
    "details": [[version["version"], version["state"], version["tags"]] for version in details["versions"]],
    "names": [row["name"] for row in api.get_artifact_list("loopback")["artifacts"]],
    "files": [row["fileName"] for row in api.get_artifact_files("loopback", "mnist data", version="1.0.0")["files"]],
    "registry": [api.get_registry_model_names("loopback"), api.get_registry_model_versions("loopback", "mnist-net")],
    "model": [model.find_versions(), model.get_details("1.0.0")["experimentKey"] == KEY, model.tags("1.0.0")],
    "same": same,
})
""",
    )
    assert read == {
        "versions": ["1.0.0", "2.0.0"],
        "fetched": {
            "1.0.0": ["1.0.0", [], {"images": 60000}],
            "latest": ["2.5.0", ["Latest", "best"], {}],
            "best": ["2.5.0", ["Latest", "best"], {}],
        },
        "source": True,
        "assets": [["folder/data.bin", 1000, {"rows": 10}]],
        "errors": ["LogArtifactException", "ValueError", "ArtifactNotFound"],
        "details": [["1.0.0", "CLOSED", ["raw"]], ["2.0.0", "CLOSED", []], ["2.5.0", "CLOSED", []]],
        "names": ["mnist data"],
        "files": ["folder/data.bin"],
        "registry": [["mnist-net"], ["1.1.0", "1.0.0"]],
        "model": [["1.1.0", "1.0.0"], True, ["new"]],
        "same": [True, True],
    }
    artifact, model = store.artifact("mnist data"), store.model("mnist-net")
    assert [version.version for version in artifact.versions] == ["1.0.0", "2.0.0", "2.5.0"]
    assert [version.consumers for version in artifact.versions] == [[OTHER], [], [OTHER, OTHER]]
    assert [version.version for version in model.versions] == ["1.0.0", "1.1.0"]
    assert model.versions[0].assets[0].content == (tmp_path / "data.bin").read_bytes()
    assert not store.experiments[OTHER].assets


def test_an_offline_archive_is_sent_by_the_command_line_once(tmp_path, loopback):
    running, store = loopback
    (tmp_path / "data.bin").write_bytes(os.urandom(1000))
    read = guarded_process.comet_client(
        tmp_path,
        running.url,
        f"KEY = {KEY!r}"
        """
import os
from comet_ml.scripts import comet
experiment = comet_ml.OfflineExperiment(experiment_key=KEY, workspace="loopback", project_name="mnist", **QUIET)
for step in range(16000):
    experiment.log_metric("train/loss", step / 2, step=step, epoch=0)
experiment.log_parameter("rate", 0.1)
experiment.add_tag("kept")
experiment.log_asset("data.bin", file_name="folder/data.bin", step=3, metadata={"a": 1})
experiment.log_text("some text", step=7)
experiment.log_model("net", "data.bin")
# Without each of these, and a workspace above, the upload calls the message invalid, and sends it all the same.
experiment.register_model("net", version="1.0.0", public=False, tags=[])
experiment.end()
archive = ".cometml-runs/" + os.listdir(".cometml-runs")[0]
ends = []
for attempt in range(2):
    try:
        ends.append(comet.main(["upload", archive]))
    except SystemExit as end:
        ends.append(end.code)
tell({"ends": ends, "kept": os.path.exists(archive)})
""",
        COMET_OFFLINE_SAMPLING_SIZE="1000000",
    )
    assert read == {"ends": [None, 1], "kept": True}
    (experiment,) = store.experiments.values()
    assert experiment.key == KEY and experiment.offline and not experiment.alive and not experiment.errors
    assert experiment.values("train/loss") == [step / 2 for step in range(16000)]
    assert ("rate", 0.1) in [(parameter.name, parameter.value) for parameter in experiment.parameters]
    assert experiment.tags == ["kept"]
    assert experiment.asset("folder/data.bin").content == (tmp_path / "data.bin").read_bytes()
    assert sorted(asset.type for asset in experiment.assets) == ["asset", "model-element", "text-sample"]
    assert [version.version for version in store.model("net").versions] == ["1.0.0"]


def test_the_command_serves_and_prints_the_variables():
    command = [sys.executable, "-m", "mnist_jax.compare.servers.comet", "--port=0"]
    environment = os.environ | {"PYTHONPATH": str(guarded_process.ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            word, *variables = process.stdout.readline().split()
            url = dict(variable.split("=") for variable in variables)["COMET_URL_OVERRIDE"]
            with urllib.request.urlopen(f"{url}isAlive/ver") as answer:
                assert word == "export" and json.loads(answer.read())["version"]
        finally:
            process.kill()
