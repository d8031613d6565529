"""A sweep is its members: each is, bit for bit, the run that it would be alone, and is recorded as such."""

import json
import os
import signal

import ml_collections
import pytest

from mnist_jax import errors
from mnist_jax.record import checkpoint, reader
from mnist_jax.train import config_file, experiment, loop, progress, reproduce, sweep, vectorize
from tests.helpers import killed_runs


@pytest.fixture(scope="module")
def config(tiny) -> ml_collections.ConfigDict:
    """Return a sweep of the tiny settings: two learning rates, two seeds."""
    config = config_file.load_config("configs/sweep.py")
    config.update_from_flattened_dict({
        "name": "tiny", "epochs": 2, "batch_size": 32, "model.features": (4, 8), "model.hidden": 32,
        "optimizer.learning_rate": 0.02, "dataset.data_dir": tiny.dataset.data_dir, "dataset.validation_examples": 100,
        "sweep.seeds": 2, "sweep.learning_rate": (0.01, 0.02)})
    return config


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> sweep.SweepResult:
    return sweep.sweep(config, workdir=tmp_path_factory.mktemp("sweep") / "run", watch=False)


def test_a_sequential_member_is_the_run_that_it_would_be_alone(whole, config, finished_run, tmp_path):
    assert [(member.seed, member.optimizer.learning_rate) for member in whole.members] == [
        (0, 0.01), (1, 0.01), (0, 0.02), (1, 0.02)]
    assert killed_runs.facts_of(whole.members[2].directory) == killed_runs.facts_of(finished_run)
    alone = experiment.run(sweep.member_configs(config)[1], workdir=tmp_path / "alone", watch=False).directory
    assert killed_runs.facts_of(whole.members[1].directory) == killed_runs.facts_of(alone)
    assert reader.read(whole.members[2].directory).run.config == reader.read(finished_run).run.config


def test_vectorized_members_are_close_to_it(whole, config, tmp_path, monkeypatch):
    monkeypatch.setattr(vectorize, "strategy", lambda members, platform: vectorize.vectorized)
    vectorized = sweep.sweep(config, workdir=tmp_path / "run", watch=False)
    # At ten times the rate of the config files a difference of 1e-7 grows; test_devices holds 1e-5 at their rate.
    for one, other in zip(whole.members, vectorized.members, strict=True):
        verdict = reproduce.compare(reader.read(one.directory), reader.read(other.directory), steps=30, tolerance=1e-3)
        assert verdict.holds, verdict.lines()


def test_the_summary_has_mean_interval_and_the_best(whole):
    facts = json.loads((whole.directory / "sweep.json").read_text())
    assert facts == json.loads(json.dumps(sweep.summary(whole.members)))
    assert facts["members"] == 4 and [row["members"] for row in facts["points"]] == [2, 2]
    best = max(whole.members, key=lambda member: member.metrics["validation/accuracy"])
    assert facts["best"]["metrics"]["validation/accuracy"] == best.metrics["validation/accuracy"]
    scores = [member.metrics["test/accuracy"] for member in whole.members[:2]]
    row = next(row for row in facts["points"] if row["learning_rate"] == 0.01)
    assert row["test/accuracy"]["mean"] == pytest.approx(sum(scores) / 2)
    assert row["test/accuracy"]["interval"] == pytest.approx(12.706 * abs(scores[0] - scores[1]) / 2, rel=1e-3)


def test_its_result_is_short_to_look_at(whole):
    assert "finished, 4 members" in repr(whole) and len(repr(whole)) < 300


def test_an_interrupted_sweep_resumes(whole, config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_S", 0.0)
    monkeypatch.setattr(loop, "FIRST_CHUNK", 3)
    signals = [signal.SIGTERM]

    def stop(done: int, *_: float) -> None:
        if done >= 20 and signals:
            os.kill(os.getpid(), signals.pop())

    monkeypatch.setattr(progress, "bar", lambda *_: stop)
    with pytest.raises(SystemExit):
        sweep.sweep(config, workdir=tmp_path / "run")
    directories = sorted((tmp_path / "run" / "members").iterdir())
    assert [reader.read(directory).status for directory in directories] == ["interrupted"] * 4
    checkpoint.paths(directories[1])[-1].write_bytes(b"damaged")
    assert sweep.sweep(config, workdir=tmp_path / "run", watch=False).status == "finished"
    for directory, member in zip(directories, whole.members, strict=True):
        assert killed_runs.facts_of(directory) == killed_runs.facts_of(member.directory)


def test_every_member_is_synced_as_a_run(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.epochs, config.sweep.learning_rate = 1, ()
    result = sweep.sweep(config, tracker="comet", workdir=tmp_path / "run", watch=False)
    assert [status.state for status in result.sync] == ["complete"] * 2
    assert len(list((tmp_path / "run").glob("members/*/sync/comet-offline/*.zip"))) == 2


@pytest.mark.parametrize(("changes", "message"), [
    ({"sweep.search": "gird"}, "did you mean 'grid'"), ({"sweep.seeds": 0}, "from 1"),
    ({"sweep.samples": 3}, "0 in a grid"), ({"sweep.search": "random"}, "1 or more"),
    ({"sweep.learning_rate": (0.1, -1.0)}, "above 0"), ({"sweep.learning_rate": 0.1}, "a list of numbers")])
def test_a_mistaken_sweep_is_one_line(config, changes, message):
    config = config.copy_and_resolve_references()
    for path, value in changes.items():
        group, key = path.split(".")
        with config[group].unlocked(), config[group].ignore_type():
            config[group][key] = value
    with pytest.raises(errors.UserError, match=message):
        sweep.member_configs(config)


def test_a_random_search_stays_between_the_values(config):
    config = config.copy_and_resolve_references()
    config.sweep.search, config.sweep.samples, config.sweep.learning_rate = "random", 50, (1e-4, 1e-1)
    rates = [member.optimizer.learning_rate for member in sweep.member_configs(config)]
    assert len(rates) == 100 and len(set(rates)) == 50 and 1e-4 < min(rates) < 1e-3 and 1e-2 < max(rates) < 1e-1
    assert rates == [member.optimizer.learning_rate for member in sweep.member_configs(config)]
