"""A sweep is its members: each is, bit for bit, the run that it would be alone, and is recorded as such."""

import json
import os
import signal

import ml_collections
import pytest

from mnist_jax import errors
from mnist_jax.record import checkpoint, reader
from mnist_jax.train import config_file, experiment, loop, progress, reproduce, search, sweep, vectorize
from tests.helpers import kills


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
    return sweep.run(config, workdir=tmp_path_factory.mktemp("sweep") / "run", watch=False)


def test_a_mapped_member_is_the_run_that_it_would_be_alone(whole, config, finished_run, tmp_path):
    assert [(member.seed, member.optimizer.learning_rate) for member in whole.members] == [
        (0, 0.01), (1, 0.01), (0, 0.02), (1, 0.02)]
    assert kills.facts_of(whole.members[2].directory) == kills.facts_of(finished_run)
    alone = experiment.run(search.members(config)[1], workdir=tmp_path / "alone", watch=False).directory
    assert kills.facts_of(whole.members[1].directory) == kills.facts_of(alone)
    assert reader.read(whole.members[2].directory).run.config == reader.read(finished_run).run.config


def test_members_side_by_side_are_close_to_it(whole, config, tmp_path, monkeypatch):
    monkeypatch.setattr(vectorize, "strategy", lambda members, platform: vectorize.side_by_side)
    vmapped = sweep.run(config, workdir=tmp_path / "run", watch=False)
    # At ten times the rate of the config files a difference of 1e-7 grows; test_devices holds 1e-5 at their rate.
    for mapped, beside in zip(whole.members, vmapped.members, strict=True):
        verdict = reproduce.compare(reader.read(mapped.directory), reader.read(beside.directory), steps=30, tolerance=1e-3)
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


def test_an_interrupted_population_goes_on(whole, config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_S", 0.0)
    monkeypatch.setattr(loop, "FIRST_CHUNK", 3)
    stopped = []

    def stop(done: int, *_: float) -> None:
        if done >= 20 and not stopped:
            stopped.append(os.kill(os.getpid(), signal.SIGTERM))

    monkeypatch.setattr(progress, "bar", lambda *_: stop)
    with pytest.raises(SystemExit):
        sweep.run(config, workdir=tmp_path / "run")
    places = sorted((tmp_path / "run" / "members").iterdir())
    assert [reader.read(place).status for place in places] == ["interrupted"] * 4
    checkpoint.paths(places[1])[-1].write_bytes(b"damaged")
    assert sweep.run(config, workdir=tmp_path / "run", watch=False).status == "finished"
    for place, member in zip(places, whole.members, strict=True):
        assert kills.facts_of(place) == kills.facts_of(member.directory)


def test_every_member_is_delivered_as_a_run(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.epochs, config.sweep.learning_rate = 1, ()
    result = sweep.run(config, tracker="comet", workdir=tmp_path / "run", watch=False)
    assert [replica.state for replica in result.sync] == ["complete"] * 2
    assert len(list((tmp_path / "run").glob("members/*/sync/comet-offline/*.zip"))) == 2


@pytest.mark.parametrize(("changes", "said"), [
    ({"sweep.search": "gird"}, "did you mean 'grid'"), ({"sweep.seeds": 0}, "from 1"),
    ({"sweep.samples": 3}, "0 in a grid"), ({"sweep.search": "random"}, "1 or more"),
    ({"sweep.learning_rate": (0.1, -1.0)}, "above 0"), ({"sweep.learning_rate": 0.1}, "a list of numbers")])
def test_a_mistaken_population_is_one_line(config, changes, said):
    config = config.copy_and_resolve_references()
    for path, value in changes.items():
        group, key = path.split(".")
        with config[group].unlocked(), config[group].ignore_type():
            config[group][key] = value
    with pytest.raises(errors.UserError, match=said):
        search.members(config)


def test_a_random_search_stays_between_the_values(config):
    config = config.copy_and_resolve_references()
    config.sweep.search, config.sweep.samples, config.sweep.learning_rate = "random", 50, (1e-4, 1e-1)
    found = [member.optimizer.learning_rate for member in search.members(config)]
    assert len(found) == 100 and len(set(found)) == 50 and 1e-4 < min(found) < 1e-3 and 1e-2 < max(found) < 1e-1
    assert found == [member.optimizer.learning_rate for member in search.members(config)]
