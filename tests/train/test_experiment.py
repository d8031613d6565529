"""A run from settings to a finished record: what it costs, what it repeats, and what cannot stop it."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mnist_jax import errors, events
from mnist_jax.data import splits
from mnist_jax.record import reader
from mnist_jax.registry import predict
from mnist_jax.tracking import receipts, sync
from mnist_jax.train import config, experiment, step
from mnist_jax.view import text
from tests.helpers import records


def test_the_run_reaches_its_accuracy_and_says_so(finished_run):
    facts = text.summary(finished_run)
    assert facts["status"] == "finished" and facts["steps"] == 2 * (500 // 32)
    assert facts["metrics"]["test/accuracy"] > 0.95
    assert set(facts["datasets"]) == {"train", "validation", "test"}
    for name in ("train/loss", "train/accuracy", "train/epoch_loss", "train/epoch_accuracy", "validation/loss",
                 "validation/accuracy", "test/loss", "system/images_per_second", "system/seconds_to_first_step"):
        assert name in facts["metrics"]


def test_per_step_metrics_have_a_value_for_every_step(finished_run):
    series = records.series_of(reader.read(finished_run))
    assert series["train/loss"][0] == list(range(1, 31))
    assert series["validation/loss"][0] == [15, 30] and series["test/accuracy"][0] == [30]


def test_the_same_settings_give_the_same_bits(tiny, tmp_path):
    runs = [reader.read(experiment.run(tiny, workdir=tmp_path / name, watch=False).directory) for name in "ab"]
    digests = {run.of(events.Model)[0].metadata["parameters_sha256"] for run in runs}
    assert len(digests) == 1
    one, other = map(records.bits_of, runs)
    assert one == other


def test_metrics_cross_to_the_host_once_an_epoch(tiny, tmp_path, monkeypatch):
    crossings = []
    real = jax.device_get

    def device_get(tree):
        crossings.append(tree)
        return real(tree)

    monkeypatch.setattr(jax, "device_get", device_get)
    with jax.transfer_guard("disallow"):
        experiment.run(dataclasses.replace(tiny, epochs=5), workdir=tmp_path / "run", watch=False)
    at_the_end = 4  # the last checkpoint, the test evaluation, the parameters for their digest and for the model file
    assert len(crossings) <= 5 + at_the_end
    epochs = [tree for tree in crossings if isinstance(tree, tuple) and not isinstance(tree, step.Evaluation)]
    assert len(epochs) == 5


def test_a_tracker_changes_nothing(finished_run, tiny, tmp_path):
    alone = reader.read(experiment.run(tiny, workdir=tmp_path / "alone", watch=False).directory)
    tracked = reader.read(finished_run)
    assert alone.of(events.Model)[0].metadata["parameters_sha256"] == tracked.of(events.Model)[0].metadata["parameters_sha256"]
    assert records.bits_of(alone) == records.bits_of(tracked)


def test_a_tracker_that_dies_changes_nothing_and_is_recovered_from(tiny, tmp_path, monkeypatch):
    """The sync is killed as soon as it has begun; another one sends everything afterwards."""
    begin = sync.SyncProcess.__init__

    def begin_and_kill(self, *arguments):
        begin(self, *arguments)
        self.stop()

    monkeypatch.setattr(sync.SyncProcess, "__init__", begin_and_kill)
    result = experiment.run(tiny, tracker="neptune", workdir=tmp_path / "run", watch=False)
    assert result.status == "finished" and result.sync[0].state != "complete"
    (line,) = receipts.incomplete_lines(result.directory, result.sync, result.events) or [""]
    assert "python -m mnist_jax sync" in line
    command = [sys.executable, *line.partition("python ")[2].split()]
    subprocess.run(command, check=True, capture_output=True)
    state = text.summary(result.directory)["sync"]["neptune-offline"]
    assert state["state"] == "complete" and state["pending"] == 0


def test_a_profile_says_where_the_start_up_went(tiny, tmp_path, capsys):
    result = experiment.run(tiny, workdir=tmp_path / "run", watch=False, profile_to=tmp_path / "profile")
    table = (tmp_path / "profile" / "startup.txt").read_text()
    assert table in capsys.readouterr().out and list((tmp_path / "profile").rglob("*.xplane.pb"))
    *parts, whole = [float(line.split()[0]) for line in table.splitlines()]
    assert sum(parts) == pytest.approx(whole, abs=0.05)
    assert whole == pytest.approx(result.metrics["system/seconds_to_first_step"], abs=0.01)


def test_the_data_itself_is_recorded_when_asked(tiny, tmp_path):
    kept = dataclasses.replace(tiny, epochs=1, dataset=dataclasses.replace(tiny.dataset, keep=True))
    recorded = reader.read(experiment.run(kept, workdir=tmp_path / "run", watch=False).directory)
    (artifact,) = [artifact for artifact in recorded.of(events.Artifact) if artifact.kind == "dataset"]
    arrays = np.load(io.BytesIO(recorded.bytes_of(artifact.blob)))
    for fact in recorded.of(events.Dataset):
        again = splits.split(arrays[f"{fact.split}_images"], arrays[f"{fact.split}_labels"])
        assert again.digest == fact.digest == artifact.metadata[f"{fact.split}_digest"]


def test_a_finished_run_started_again_says_what_it_came_to(finished_run, tiny):
    before = (finished_run / "events.jsonl").read_bytes()
    result = experiment.run(tiny, workdir=finished_run)
    assert result.status == "finished" and (finished_run / "events.jsonl").read_bytes() == before


def test_results_are_short_to_look_at(finished_run, tiny):
    recorded = reader.read(finished_run)
    data = splits.load_data(tiny.dataset.name, tiny.dataset.data_dir)
    for value, words in ((recorded, "'tiny'"), (experiment.run(tiny, workdir=finished_run), "finished"), (data, "200 examples"),
                         (predict.load_model(finished_run), "parameters")):
        assert words in repr(value) and len(repr(value)) < 500 and "\n" not in repr(value)
    page = recorded._repr_html_()
    assert page.startswith("<table>") and "test/accuracy" in page and len(page) < 3000


def test_a_run_of_another_config_is_refused_with_the_keys(finished_run, tiny):
    with pytest.raises(errors.UserError, match=r"batch_size \(32 there, 16 here\)"):
        experiment.run(dataclasses.replace(tiny, batch_size=16), workdir=finished_run)


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(tiny, tmp_path):
    wild = dataclasses.replace(tiny, epochs=50, optimizer=dataclasses.replace(
        tiny.optimizer, name="sgd", learning_rate=1e30, schedule="constant"))
    result = experiment.run(wild, workdir=tmp_path / "run", watch=False)
    recorded = reader.read(tmp_path / "run")
    assert result.status == recorded.status == "diverged"
    assert not np.isfinite(recorded.series()["train/loss"][1]).all()
    assert recorded.of(events.Status)[-1].state == "diverged"


def test_an_error_in_training_is_recorded_and_raised(tiny, tmp_path, monkeypatch):
    def evaluate(*_):
        raise RuntimeError("out of memory")

    compiled = step.compiled
    monkeypatch.setattr(step, "compiled", lambda program: compiled(program)._replace(evaluate=evaluate))
    with pytest.raises(RuntimeError, match="out of memory"):
        experiment.run(tiny, workdir=tmp_path / "run", watch=False)
    recorded = reader.read(tmp_path / "run")
    assert recorded.status == "failed" and "out of memory" in recorded.of(events.Text)[0].text


def test_the_model_predicts_what_the_evaluation_recorded(finished_run, tiny):
    model = predict.load_model(finished_run)
    test = splits.load_data(tiny.dataset.name, tiny.dataset.data_dir).test
    guesses = model.probabilities(test.images).argmax(1)
    assert (guesses == test.labels).mean() == pytest.approx(text.summary(finished_run)["metrics"]["test/accuracy"])
    rows = [line.split(",") for line in _artifact(finished_run).splitlines()[1:]]
    assert [int(row[2]) for row in rows] == guesses.tolist()


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_the_model_takes_any_batch(finished_run, rows):
    images = np.random.default_rng(0).integers(0, 256, (rows, 28, 28, 1), np.uint8)
    assert predict.load_model(finished_run).logits(images).shape == (rows, 10)


def test_a_damaged_model_file_is_named(finished_run, tmp_path):
    blob = reader.read(finished_run).of(events.Model)[0].blob
    content = bytearray((finished_run / "blobs" / blob.sha256).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.zip").write_bytes(content)
    with pytest.raises(errors.UserError, match="model.zip"):
        predict.load_model(tmp_path / "model.zip")


def test_secrets_stay_out(tiny, tmp_path, monkeypatch):
    secret = "canary-0123456789"
    monkeypatch.setenv("COMET_API_KEY", secret)
    monkeypatch.setenv("NUM_MEMORY_TOKENS", "12345678")
    result = experiment.run(tiny, workdir=tmp_path / "run", watch=False,
                            command=["run.py", f"--api_key={secret}", f"--url=https://me:{secret}@host/x",
                                     "--num_memory_tokens=12345678"])
    kept = b"".join(path.read_bytes() for path in result.directory.rglob("*") if path.is_file())
    assert secret.encode() not in kept and b"--num_memory_tokens=12345678" in kept
    with pytest.raises(errors.UserError, match="COMET_API_KEY"):
        experiment.run(dataclasses.replace(tiny, name=secret), workdir=tmp_path / "other", watch=False)


def test_the_settings_in_the_record_are_the_settings_that_ran(finished_run, tiny):
    stored = json.loads((finished_run / "run.json").read_text())["config"]
    assert config.from_config(stored) == tiny


def _artifact(directory: Path) -> str:
    recorded = reader.read(directory)
    return recorded.bytes_of(recorded.of(events.Artifact)[0].blob).decode()
