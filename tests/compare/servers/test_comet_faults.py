"""The real Comet client while the loopback fails and heals; both live in one guarded process."""

import concurrent.futures

import pytest

from tests.helpers import guarded_process

BOUNDED = {
    "COMET_HTTP_SESSION_RETRY_TOTAL": "0",
    "COMET_GET_OR_ADD_EXPERIMENT_RETRY_TOTAL": "0",
    "COMET_TIMEOUT_HTTP": "1",
    "COMET_TIMEOUT_API": "1",
    "COMET_TIMEOUT_FILE_UPLOAD": "1",
    "COMET_TIMEOUT_CLEANING": "1",
    "COMET_TIMEOUT_UPLOAD": "1",
    "COMET_FALLBACK_STREAMER_CONNECTION_CHECK_INTERVAL": "1",
    "COMET_OFFLINE_SAMPLING_SIZE": "1000000",
    "COMET_LOGGING_CONSOLE": "CRITICAL",
    "MPLBACKEND": "agg",
}

SERVED = """
import contextlib, os, time
from mnist_jax.compare.servers import comet as loopback
from mnist_jax.compare.servers.server import Faults
KEYS = [letter * 32 for letter in "abcdefgh"]
def timed(function, *arguments, **settings):
    began = time.monotonic()
    return [function(*arguments, **settings), time.monotonic() - began]
def until(true, seconds=5):
    began = time.monotonic()
    while not true() and time.monotonic() - began < seconds:
        time.sleep(0.02)
    return true()
stack = contextlib.ExitStack()
running, store = stack.enter_context(loopback.serve())
os.environ.update(loopback.environment(running.url))
"""

OPENED = """
faults = {
    "refuse": Faults(refuse=True), "status 500": Faults(status=500), "status 429": Faults(status=429),
    "stall": Faults(stall=True), "garbage": Faults(garbage=True), "lose answer": Faults(lose_answer=True),
}
felt = {}
for key, (name, fault) in zip(KEYS, faults.items()):
    running.faults = fault
    experiment, seconds = timed(comet_ml.Experiment, experiment_key=key, **QUIET)
    experiment.end()
    felt[name] = [experiment.alive, raised(start, key), seconds]
    running.start()
resumed = type(start(key)).__name__
tell({"felt": felt, "made": [key == made for made in store.experiments], "resumed": resumed})
"""

FLUSHED = """
faults = {
    "none": Faults(), "refuse": Faults(refuse=True), "stall": Faults(stall=True), "garbage": Faults(garbage=True),
    "status 500": Faults(status=500), "lose answer": Faults(lose_answer=True),
}
experiment = start(KEYS[0])
kept = store.experiments[KEYS[0]]
connected = experiment.streamer.has_connection_to_server
felt = {}
for name, fault in faults.items():
    until(connected)
    running.faults = fault
    for step in range(5):
        experiment.log_metric(name, step, step=step, epoch=0)
    flushed, seconds = timed(experiment.flush, timeout=2)
    during = kept.values(name)
    until(lambda: not connected(), 0 if name == "none" else 1.2)
    alive = [experiment.alive, connected()]
    running.start()
    until(connected)
    healed = experiment.flush(timeout=2)
    felt[name] = {"flushed": [flushed, healed], "seconds": seconds, "during": len(during), "alive": alive,
                  "after": kept.values(name)}
path = "batch/logger/experiment/metric"
store.throttle[path] = 0.3
for step in range(50):
    experiment.log_metric("throttled", step, step=step, epoch=0)
slow = [experiment.flush(timeout=1), len(kept.values("throttled"))]
del store.throttle[path]
slow += [experiment.flush(timeout=5), sorted(kept.values("throttled")) == list(range(50))]
kept.throttled = "some points were dropped"
_, ended = timed(experiment.end)
kept_no_archive = not os.path.exists(".cometml-runs")
os.environ |= {"COMET_HTTP_SESSION_RETRY_TOTAL": "2", "COMET_HTTP_SESSION_RETRY_BACKOFF_FACTOR": "0"}
retrying = start(KEYS[1])
running.faults = Faults(lose_answer=True, only="experiment/metric")
retrying.log_metric("loss", 1.0, step=0, epoch=0)
retried = [retrying.flush(timeout=2), store.experiments[KEYS[1]].values("loss")]
tell({"felt": felt, "slow": slow, "ended": ended, "no archive": kept_no_archive, "retried": retried, "errors": running.errors})
"""

UPLOADED = """
open("file", "w").write("content")
experiment = start(KEYS[0])
kept = store.experiments[KEYS[0]]
running.faults = Faults(stall=True, only="/upload")
experiment.log_asset("file", file_name="stalled")
experiment.log_model("net", "file")
experiment.log_image(__import__("numpy").eye(4), name="image", step=1)
silent = [timed(experiment.flush, timeout=5), experiment.streamer.has_upload_failed()]
running.start()
running.faults = Faults(lose_answer=True, only="/upload")
experiment.log_asset("file", file_name="lost answer")
until(lambda: kept.assets)
running.start()
silent.append(experiment.flush(timeout=5))
silent.append(raised(experiment.end))
arrived = [asset.name for asset in kept.assets]
other = start(KEYS[1])
running.faults = Faults(stall=True, only="/upload")
artifact = comet_ml.Artifact("data", "dataset")
artifact.add("file")
other.log_artifact(artifact)
loud = [other.flush(timeout=5), other.streamer.has_upload_failed(), raised(other.end)]
running.start()
loud.append(store.artifact("data").versions[0].state)
tell({"silent": silent, "arrived": arrived, "loud": loud})
"""

ENDED = """
import threading
from comet_ml.scripts import comet
experiment = start(KEYS[0])
experiment.log_metric("loss", 0.0, step=0, epoch=0)
experiment.flush()
running.faults = Faults(die_after=1, only="experiment/metric")
for step in range(1, 2000):
    experiment.log_metric("loss", float(step), step=step, epoch=0)
until(lambda: not experiment.streamer.has_connection_to_server())  # an end before the client knows makes no archive
_, seconds = timed(experiment.end)
arrived = len(store.experiments[KEYS[0]].values("loss"))
again = threading.Thread(target=experiment.flush, kwargs={"timeout": 1}, daemon=True)
again.start()
again.join(1.5)
hung = again.is_alive()
running.start()
archive = ".cometml-runs/" + os.listdir(".cometml-runs")[0]
ends = []
for flags in ([], ["--force-reupload"]):
    try:
        ends.append(comet.main(["upload", *flags, archive]))
    except SystemExit as end:
        ends.append(end.code)
stalled = start(KEYS[1])
running.faults = Faults(stall=True)
stalled.log_metric("loss", 0.0, step=0, epoch=0)
stalled_seconds = timed(stalled.end)[1]
running.start()
first, second = [list(made.values("loss")) for made in store.experiments.values() if made.key != KEYS[1]]
unaware = start(KEYS[2])
unaware.flush()
running.stop()
unaware.log_metric("loss", 0.0, step=0, epoch=0)
unaware_ended = raised(unaware.end)
tell({"seconds": [seconds, stalled_seconds], "hung": hung, "ends": ends, "same": len(first) == arrived,
      "arrived": [len(first), len(second)], "archives": len(os.listdir(".cometml-runs")),
      "lost": [unaware_ended, store.experiments[KEYS[2]].values("loss")]})
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Run every script in a process of its own, all at once because they mostly wait; return what each tells."""

    def run(script):
        # The exit of a client in trouble takes many seconds more.
        code = f"{SERVED}{script}\nos._exit(0)"
        return guarded_process.comet_client(tmp_path_factory.mktemp("client"), "http://127.0.0.1:9", code, **BOUNDED)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = {script: pool.submit(run, script) for script in (OPENED, FLUSHED, UPLOADED, ENDED)}
        yield lambda script: running[script].result()


def test_an_experiment_opened_on_a_faulty_server_is_dead_and_start_says_so(told):
    read = told(OPENED)
    assert {name: error for name, (_, error, _) in read["felt"].items()} == {
        "refuse": "ConnectionError",
        "status 500": "CometRestApiException",
        "status 429": "CometRestApiException",
        "stall": "ConnectionError",
        "garbage": "UnicodeDecodeError",
        "lose answer": "ConnectionError",
    }
    assert not any(alive for alive, _, _ in read["felt"].values())
    assert all(seconds < 4 for _, _, seconds in read["felt"].values()), read["felt"]
    assert read["made"] == [True] and read["resumed"] == "ExistingExperiment"  # the lost answer had made it


def test_flush_says_true_over_points_that_are_late_lost_or_doubled(told):
    read = told(FLUSHED)
    felt = read["felt"]
    assert all(row["flushed"] == [True, True] and row["seconds"] < 4 for row in felt.values()), felt
    assert {name: row["alive"] for name, row in felt.items()} == {
        "none": [True, True],
        "refuse": [True, False],
        "stall": [True, False],
        "garbage": [True, True],
        "status 500": [True, False],
        "lose answer": [True, False],
    }
    once = list(range(5))
    assert {name: row["after"] for name, row in felt.items()} == {
        "none": once,
        "refuse": once,  # late: sent again when the server answers pings
        "stall": once,
        "garbage": [],  # lost: any answer of status 200 counts as delivered
        "status 500": [],  # lost: an answer of any other status is logged as an error, and forgotten
        "lose answer": once + once,  # doubled
    }
    assert {name: row["during"] for name, row in felt.items() if row["during"]} == {"none": 5, "lose answer": 5}
    assert read["slow"] == [False, 0, True, True]  # complete, but in no order
    assert read["ended"] < 3 and read["no archive"] and not read["errors"]
    assert read["retried"] == [True, [1.0, 1.0, 1.0]]  # the client's own retries double as well


def test_a_failed_upload_is_silent_but_for_an_artifact(told):
    read = told(UPLOADED)
    (flushed, seconds), failed, healed, ended = read["silent"]
    assert flushed and seconds < 4 and not failed and healed and ended == "no error but None"
    assert read["arrived"] == ["lost answer", "lost answer"]  # a time-out loses a file, a lost answer doubles it
    assert read["loud"] == [True, True, "ExperimentCleaningException", "ERROR"]


def test_the_end_on_a_dead_server_is_bounded_and_leaves_an_archive_that_makes_a_second_experiment(told):
    read = told(ENDED)
    assert all(seconds < 6 for seconds in read["seconds"]), read["seconds"]
    assert read["hung"]  # a flush after the end never returns, whatever its timeout
    assert read["ends"] == [1, None] and read["same"]
    assert 1 < read["arrived"][0] < 2000 and read["arrived"][1] == 2000  # the archive holds what had arrived, too
    assert read["archives"] == 2  # of the experiment that died and of the one that stalled
    assert read["lost"] == ["no error but None", []]  # gone without a word, for it ended before the client noticed
