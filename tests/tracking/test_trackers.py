"""The real clients, offline: what a run recorded is what they hold, criterion by criterion, read back by other code."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import events
from mnist_jax.record import reader, writer
from mnist_jax.tracking import protocol, replica
from mnist_jax.tracking.comet import tracker as comet_tracker
from mnist_jax.tracking.neptune import tracker as neptune_tracker
from mnist_jax.view import text as text_view
from tests.helpers import offline_files


@pytest.fixture(scope="module")
def run(finished_run: Path) -> reader.RunRecord:
    return reader.read(finished_run)


@pytest.fixture(scope="module")
def neptune(run: reader.RunRecord) -> tuple[dict, dict]:
    return offline_files.neptune(run.directory / "sync" / "neptune-offline")


@pytest.fixture(scope="module")
def comet(run: reader.RunRecord) -> offline_files.Comet:
    return offline_files.Comet(run.directory / "sync" / "comet-offline" / f"{run.run.id}.zip")


def test_every_sync_is_complete_and_nothing_is_pending(run):
    states = text_view.summary(run.directory)["sync"]
    assert set(states) == {"neptune-offline", "comet-offline"}
    for state in states.values():
        assert (state["state"], state["pending"], state["failed"], state["unsupported"]) == ("complete", 0, 0, 0)
        assert state["sent"] + state["converted"] == len(run.entries)


def test_the_run_has_every_kind_of_event(run):
    kinds = {type(entry.event) for entry in run.entries}
    assert kinds == set(events.KINDS.values()) - {events.Text}


def test_neptune_holds_the_same_series_point_for_point(run, neptune):
    _, series = neptune
    for name, (steps, values) in run.series().items():
        assert series[name] == list(zip(steps, values, strict=True)), name


def test_comet_holds_the_same_series_point_for_point_with_epochs(run, comet):
    per_epoch = run.run.steps_per_epoch
    for name, (steps, values) in run.series().items():
        expected = [(step, value, (step - 1) // per_epoch) for step, value in zip(steps, values, strict=True)]
        assert comet.metrics[name] == expected, name


def test_both_hold_the_hyperparameters(run, neptune, comet):
    (hyper,) = run.of(events.Hyperparameters)
    assert hyper.values["optimizer.learning_rate"] and hyper.values["model.features"]
    for name, value in hyper.values.items():
        stored = json.dumps(value) if isinstance(value, list) else value
        assert neptune[0]["parameters/" + name.replace(".", "/")] == stored
        assert comet.parameters[name] == stored


def test_both_hold_the_data_sets(run, neptune, comet):
    datasets = run.of(events.Dataset)
    assert [data.split for data in datasets] == ["train", "validation", "test"]
    for data in datasets:
        for field in ("name", "version", "digest", "examples", "origin"):
            assert neptune[0][f"datasets/{data.split}/{field}"] == getattr(data, field)
            assert str(comet.others[f"datasets/{data.split}/{field}"]) == str(getattr(data, field))
        assert json.loads(neptune[0][f"datasets/{data.split}/class_counts"]) == list(data.class_counts)
        assert sum(data.class_counts) == data.examples
    assert comet.others["dataset_info"].startswith("mnist-")


def test_both_hold_the_environment_and_the_source(run, neptune, comet):
    (environment,), (source,) = run.of(events.Environment), run.of(events.Source)
    assert {"python", "backend", "device", "threads", "packages/jax", "packages/neptune"} <= set(environment.facts)
    for name, value in environment.facts.items():
        assert neptune[0][f"environment/{name}"] == value
        assert comet.system[name] == value
    assert comet.packages["jax"] == environment.facts["packages/jax"]
    assert {"mnist_jax/train/step.py"} <= {blob.name for blob in source.files}
    import io
    import zipfile
    archive = zipfile.ZipFile(io.BytesIO(neptune[0]["source/files"]))
    for blob in source.files:
        assert archive.read(blob.name) == run.bytes_of(blob)
        assert comet.asset("source_code", blob.name) == run.bytes_of(blob)


def test_both_hold_the_images_as_png_bytes(run, neptune, comet):
    pictures = run.of(events.Image)
    assert {picture.name for picture in pictures} == {"samples", "confusion_matrix", "mistakes", "filters", "learning_curves"}
    for picture in pictures:
        content = run.bytes_of(picture.blob)
        assert content.startswith(b"\x89PNG")
        assert neptune[1][f"images/{picture.name}"] == [(picture.step, content)]
        assert comet.asset("visualization", picture.name) == content


def test_both_hold_the_artifact_and_the_model(run, neptune, comet):
    (artifact,), (model,) = run.of(events.Artifact), run.of(events.Model)
    assert neptune[0][f"artifacts/{artifact.name}"] == run.bytes_of(artifact.blob)
    assert comet.asset("asset", f"artifacts/{artifact.name}") == run.bytes_of(artifact.blob)
    assert neptune[0]["model/file"] == run.bytes_of(model.blob)
    assert comet.asset("model-element", model.blob.name) == run.bytes_of(model.blob)
    assert neptune[0]["model/scores/test/accuracy"] == run.last()["test/accuracy"]


def test_both_know_who_the_run_is(run, neptune, comet):
    assert neptune[0]["run/id"] == comet.experiment["offline_id"] == run.run.id
    assert neptune[0]["run/final_status"] == comet.others["run/final_status"] == "finished"
    assert sorted(neptune[0]["sys/tags"]) == sorted(comet.experiment["tags"]) == sorted(run.run.tags)
    assert neptune[0]["sys/name"] == comet.others["Name"] == run.run.name


@pytest.mark.parametrize("table", [neptune_tracker.SUPPORT, *comet_tracker.SUPPORT.values()])
def test_support_is_declared_for_every_kind(table):
    assert set(table) == set(events.KINDS.values()) and all(support.note for support in table.values())


@pytest.mark.parametrize("name", ["neptune", "comet"])
def test_odd_values_are_stored_or_reported(tmp_path, name):
    """What a backend cannot hold is converted with a note; the record keeps it exactly."""
    directory = tmp_path / "run"
    odd = np.array([1.5, math.nan, math.inf, -math.inf, -0.0, float(np.float32(0.1))])
    steps = np.array([1, 2, 3, 4, 5, 2**40])
    identity = events.RunInfo(writer.new_id(), "Zahl ∞", 0.0, {}, (), tags=("ä",))
    with writer.create(directory, identity) as recorder:
        recorder.append(
            events.Metrics(steps, {"odd/värde": odd}, steps * 1.0),
            events.Hyperparameters({"none": None, "list": [1, 2], "long": "x" * 20_000, "big": 2**70, "nan": math.nan}),
            events.Text("short", 1, "ü"), events.Text("long", 2, "é" * 5_000), events.Text("empty", 3, ""),
            events.Environment({"missing": None, "flag": True}), events.Status(5, "diverged"))
        recorder.close("diverged")
    status = replica.update(directory, protocol.Destination(name, "offline"))
    assert status.state == "complete" and "failed" not in status.counts and status.confirmed == 7
    folder = directory / "sync" / f"{name}-offline"
    if name == "neptune":
        fields, series = offline_files.neptune(folder)
        assert series["odd/värde"] == [(1, 1.5), (5, -0.0), (2**40, float(np.float32(0.1)))]
        assert [text for _, text in series["notes/odd/värde_not_finite"]] == [
            "odd/värde is NaN at step 2", "odd/värde is Infinity at step 3", "odd/värde is -Infinity at step 4"]
        assert fields["parameters/long"] == b"x" * 20_000 and fields["parameters/big"] == str(2**70)
        assert fields["long_texts/long/2"] == ("é" * 5_000).encode() and fields["sys/failed"] is True
        assert any("3 non-finite" in note for note in status.notes)
    else:
        held = offline_files.Comet(folder / f"{identity.id}.zip")
        assert [value for _, value, _ in held.metrics["odd/värde"]] == [1.5, "NaN", "Infinity", "-Infinity", -0.0,
                                                                       float(np.float32(0.1))]
        assert [step for step, _, _ in held.metrics["odd/värde"]] == steps.tolist()
        assert held.asset("asset", "parameters/long.txt") == b"x" * 20_000
        assert held.others["run/final_status"] == "diverged"


def test_neptune_keeps_bytes_and_not_paths(run, tmp_path):
    """A moved folder is still whole: no operation of the log points at a file of this machine."""
    (folder,) = (run.directory / "sync" / "neptune-offline" / ".neptune" / "offline").iterdir()
    for log in folder.glob("data-*.log"):
        assert "file_path" not in log.read_text().replace('"file_path": null', "")
        assert str(run.directory) not in log.read_text()
