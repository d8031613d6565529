"""The real Neptune client while the loopback fails and heals; both live in one guarded process."""

from tests.helpers import guarded_process


def test_faults_are_felt_and_healed_in_sync_mode(tmp_path):
    read = guarded_process.client(
        tmp_path,
        None,  # the server is in the process of the client, so that faults come at the right moment
        """
import time
from mnist_jax.compare.servers import neptune as loopback
from mnist_jax.compare.servers.server import Faults
faults = {
    "refuse": Faults(refuse=True), "status 500": Faults(status=500), "status 429": Faults(status=429),
    "stall": Faults(stall=True), "lose answer": Faults(lose_answer=True), "garbage": Faults(garbage=True),
}
def timed(function, *arguments, **settings):
    began = time.monotonic()
    return [raised(function, *arguments, **settings), time.monotonic() - began]
with loopback.serve() as (running, store):
    run = start(mode="sync", custom_run_id="x", api_token=loopback.token(running.url))
    felt = {}
    for name, fault in faults.items():
        running.faults = fault
        felt[name] = timed(run["value"].assign, name)
        running.start()
    run["healed"] = True
    kept = [store.run("x").value(name) for name in ("value", "healed")]
    run.stop()
for name in ("refuse", "status 500"):
    with loopback.serve() as (running, store):
        running.faults = faults[name]
        felt["open, " + name] = timed(start, mode="sync", api_token=loopback.token(running.url))
tell({"felt": felt, "kept": kept})
""",
        NEPTUNE_RETRIES_TIMEOUT="1",
        NEPTUNE_REQUEST_TIMEOUT="1",
    )
    lost = "NeptuneConnectionLostException"
    assert {name: error for name, (error, _) in read["felt"].items()} == {
        "refuse": lost, "status 500": lost, "status 429": lost, "stall": lost, "lose answer": lost,
        "garbage": "JSONDecodeError", "open, refuse": lost, "open, status 500": lost,
    }  # fmt: skip
    assert all(seconds < 5 for _, seconds in read["felt"].values()), read["felt"]
    assert read["kept"] == ["lose answer", True]


def test_an_async_run_survives_a_death_and_a_lost_answer_without_doubling(tmp_path):
    read = guarded_process.client(
        tmp_path,
        None,
        """
import os, pathlib, time
from mnist_jax.compare.servers import neptune as loopback
from mnist_jax.compare.servers.server import Faults
def left():
    return [folder.name.split("__")[1] for folder in pathlib.Path(".neptune/async").iterdir()]
def until(true):
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < 20
        time.sleep(0.02)
    return time.monotonic() - began
with loopback.serve() as (running, store):
    os.environ["NEPTUNE_API_TOKEN"] = loopback.token(running.url)
    run = start(custom_run_id="x", flush_period=0.1)
    run["loss"].append(0.0, step=0)
    run.wait()
    running.faults = Faults(die_after=1, only="executeOperations")
    for step in range(1, 2000):
        run["loss"].append(float(step), step=step)
    until(lambda: running.faults.refuse)
    dead = raised(start, custom_run_id="y", mode="sync")
    arrived = len(store.run("x").value("loss"))
    running.start()
    run.wait()
    healed = len(store.run("x").value("loss"))
    running.faults = Faults(lose_answer=True, only="executeOperations")
    run["loss"].append(2000.0, step=2000)
    until(lambda: len(store.run("x").value("loss")) == 2001)
    running.start()
    run.wait()
    doubled = [len(store.run("x").value("loss")), len(store.run("x").rejected)]
    running.faults = Faults(stall=True, only="executeOperations")
    run["loss"].append(2001.0, step=2001)
    run_stopped = time.monotonic()
    run.stop(seconds=1)
    seconds = time.monotonic() - run_stopped
    running.start()
    again = start(custom_run_id="x")
    again.wait()
    last = again["loss"].fetch_last()
    again.stop()
    tell({"dead": dead, "arrived": arrived, "healed": healed, "doubled": doubled, "seconds": seconds,
                      "last": last, "left": left() == [store.run("x").id]})
    os._exit(0)  # the stalled thread of the client would hold the exit
""",
        NEPTUNE_RETRIES_TIMEOUT="1",
        NEPTUNE_REQUEST_TIMEOUT="30",
    )
    assert read["dead"] == "NeptuneConnectionLostException"
    assert 1 < read["arrived"] < 2000
    assert read["healed"] == 2000
    assert read["doubled"] == [2001, 1]
    assert read["seconds"] < 3
    assert read["last"] == 2000.0 and read["left"]  # the queue on disk stays, and a resumed run does not send it
