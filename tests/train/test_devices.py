"""Many devices, many processes: the same experiment to the last bits, one record, and a way from one number to another."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import errors, events
from mnist_jax.record import reader
from mnist_jax.train import devices
from tests.helpers import records

ROOT = Path(__file__).parents[2]


def train(idx_folder: Path, directory: Path, count: int, *flags: str) -> subprocess.Popen:
    """Start to train 50 steps and more of the CNN on virtual devices."""
    command = [sys.executable, str(ROOT / "run.py"), "--config=configs/cnn.py", "--config.epochs=4", "--config.batch_size=32",
               "--config.model.features=(4,8)", "--config.model.hidden=32", f"--config.dataset.data_dir={idx_folder}",
               "--config.dataset.validation_examples=100", "--config.checkpoint.every_s=0.0", f"--workdir={directory}", *flags]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "JAX_NUM_CPU_DEVICES": str(count)}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def done(process: subprocess.Popen) -> None:
    _, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems


@pytest.fixture(scope="module")
def alone(idx_folder, tmp_path_factory) -> reader.RunRecord:
    directory = tmp_path_factory.mktemp("alone") / "run"
    done(train(idx_folder, directory, 1))
    return reader.read(directory)


def same_within(one: reader.RunRecord, other: reader.RunRecord, bound: float, steps: int = 50) -> None:
    for name in ("train/loss",):
        mine, theirs = (run.series()[name][1][:steps] for run in (one, other))
        assert len(mine) == len(theirs) == steps
        np.testing.assert_allclose(mine, theirs, atol=bound)


def test_eight_devices_do_what_one_does(alone, idx_folder, tmp_path):
    done(train(idx_folder, tmp_path / "run", 8))
    eight = reader.read(tmp_path / "run")
    same_within(alone, eight, 1e-5)
    assert abs(alone.last()["test/accuracy"] - eight.last()["test/accuracy"]) < 0.05
    assert eight.of(events.Environment)[0].facts["devices"] == 8


def test_two_processes_do_what_one_does_and_make_one_run(alone, idx_folder, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [f"--coordinator=127.0.0.1:{port}", "--processes=2"]
    processes = [train(idx_folder, tmp_path / "run", 1, *flags, f"--process_index={index}") for index in range(2)]
    for process in processes:
        done(process)
    two = reader.read(tmp_path / "run")
    same_within(alone, two, 1e-5)
    assert two.status == "finished" and len(list(tmp_path.rglob("run.json"))) == 1


def test_a_run_resumes_with_another_number_of_devices(alone, idx_folder, tmp_path):
    first = train(idx_folder, tmp_path / "run", 4)
    while first.poll() is None and not list((tmp_path / "run").glob("checkpoints/*.zip")):
        pass
    first.kill()
    first.communicate()
    done(train(idx_folder, tmp_path / "run", 2))
    resumed = reader.read(tmp_path / "run")
    same_within(alone, resumed, 1e-5)
    assert records.series_of(resumed)["train/loss"][0] == records.series_of(alone)["train/loss"][0]
    assert any("devices changed from 4 to 2" in text.text for text in resumed.of(events.Text))


def test_as_many_devices_as_divide_the_batch(monkeypatch):
    monkeypatch.setattr("jax.device_count", lambda: 8)
    monkeypatch.setattr("jax.devices", lambda: list(range(8)))
    monkeypatch.setattr(devices, "Mesh", lambda used, axes: len(used))
    assert [devices.mesh(size) for size in (128, 4, 12, 1, 7)] == [8, 4, 4, None, None]
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(errors.UserError, match="a multiple of the 8 devices, found 12"):
        devices.mesh(12)


def test_flags_that_lack_one_another_are_refused():
    with pytest.raises(errors.UserError, match="together"):
        devices.connect("127.0.0.1:1", 2, None)
    with pytest.raises(errors.UserError, match="from 0 to 1, found 2"):
        devices.connect("127.0.0.1:1", 2, 2)
    devices.connect(environment={})


def test_devices_share_the_members_of_a_sweep(idx_folder, tmp_path):
    """Eight vectorized members on four devices: each device holds two, and each member is the run that it is alone."""
    script = """
import jax, numpy as np
from mnist_jax.train import config as configs
from mnist_jax.train import config_file, devices, loop, step, vectorize
config = config_file.load_config("configs/cnn.py")
config.update_from_flattened_dict({"batch_size": 32, "precision": "highest", "model.features": (4, 8), "model.hidden": 32})
chosen = configs.from_config(config)
images = np.random.default_rng(0).integers(0, 256, (640, 28, 28, 1), np.uint8)
single = step.program(chosen, 640, "gpu")._replace(mesh=None)
results = {}
for name, program, strategy in (("alone", single, loop.sequential),
                                ("shared", vectorize.over_devices(single, 8, "gpu"), vectorize.vectorized)):
    data = devices.everywhere(program.mesh, step.Data(images, (images[:, 14, 14, 0] % 10).astype(np.int32)))
    hyper, init = devices.everywhere(program.mesh, step.hyper(chosen.optimizer)), step.compiled(program).init
    members = strategy.gather(program, [
        loop.Member(hyper, seed, devices.everywhere(program.mesh, init(hyper, seed)), loop.no_metrics(program))
        for seed in devices.everywhere(program.mesh, [np.uint32(seed) for seed in range(8)])])
    rows = []
    for epoch in range(3):
        orders = strategy.orders(members, 640, np.int32(epoch))
        members, _ = strategy.train(program, strategy.begin_epoch(program, members), data, orders, np.int32(20))
        rows.append(np.stack([np.asarray(each)[:, 0] for each in strategy.metrics(members)]))
    scores = [np.asarray(score) for score in strategy.evaluate(program, members, data)]
    results[name] = np.concatenate(rows, 1), np.array(scores)
    if name == "shared":
        leaf = jax.tree.leaves(members.state.parameters)[0]
        assert len(leaf.sharding.device_set) == 4 and leaf.addressable_shards[0].data.shape[0] == 2
np.testing.assert_allclose(results["shared"][0][:, :50], results["alone"][0][:, :50], atol=1e-5)
np.testing.assert_allclose(results["shared"][1], results["alone"][1], atol=0.02)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
                           capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
