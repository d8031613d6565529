"""A tracker's server fails in every way, and heals: a later sync leaves exactly what an undisturbed one leaves."""

import shutil
import time
from pathlib import Path

import pytest

from mnist_jax import events
from mnist_jax.compare.servers.server import Faults
from mnist_jax.record import reader, writer
from mnist_jax.tracking import receipts, sync, testing
from mnist_jax.tracking.comet import tracker as comet_tracker
from mnist_jax.tracking.neptune import tracker as neptune_tracker
from mnist_jax.train import experiment
from tests.helpers import offline_files, records, tracker_servers

BOUNDS = {"OPEN_S": 2.0, "WRITE_S": 3.0, "FLUSH_S": 1.0, "CLOSE_S": 5.0}  # seconds, so that a test need not wait for long
FAULTS = {
    "refuses": Faults(refuse=True), "stalls": Faults(stall=True), "answers 429": Faults(status=429),
    "answers 500": Faults(status=500), "answers garbage": Faults(garbage=True), "loses answers": Faults(lose_answer=True),
}


@pytest.fixture(params=tracker_servers.TRACKERS)
def tracker(request) -> str:
    return request.param


@pytest.fixture
def recorded(finished_run: Path, tmp_path: Path) -> Path:
    """Copy the finished run, without its syncs."""
    shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("sync"))
    return tmp_path / "run"


@pytest.fixture(scope="module")
def undisturbed(finished_run: Path, tmp_path_factory) -> dict:
    """Return, for each tracker, what an undisturbed sync leaves and how many requests it makes."""
    found = {}
    for tracker in tracker_servers.TRACKERS:
        directory = tmp_path_factory.mktemp("undisturbed") / "run"
        shutil.copytree(finished_run, directory, ignore=shutil.ignore_patterns("sync"))
        with tracker_servers.serve(tracker) as served:
            status = served.sync(directory)
            assert status.state == "complete" and not status.counts.get("failed"), (status.error, status.notes)
            support = {"neptune": neptune_tracker.SUPPORT, "comet": comet_tracker.SUPPORT["online"]}[tracker]
            given = [line for line in receipts.lines(directory, status.label) if "event" in line]
            assert len(given) == len(reader.read(directory).entries)
            for line in given:  # the support that is declared is true
                assert line["state"] in testing.LEVELS[support[events.KINDS[line["kind"]]].level], line
            found[tracker] = served.contents(reader.read(directory).run.id), served.server.requests
    return found


def sync_half(served: tracker_servers.TrackerServer, whole: reader.RunRecord,
              recorder: writer.RunWriter) -> list[events.AnyEvent]:
    """Record and sync the first half of a run's events; return the others."""
    shutil.copytree(whole.directory / "blobs", recorder.directory / "blobs")
    facts = [entry.event for entry in whole.entries]
    middle = len(facts) // 2
    recorder.append(*facts[:middle])
    assert served.sync(recorder.directory).confirmed == middle
    return facts[middle:]


def heal_and_compare(served: tracker_servers.TrackerServer, directory: Path, expected: dict) -> None:
    served.server.start()
    status = served.sync(directory)
    assert status.state == "complete" and not status.counts.get("failed"), "\n".join([status.error, *status.notes])
    assert status.confirmed == len(reader.read(directory).entries)
    assert served.contents(reader.read(directory).run.id) == expected


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_from_the_start_is_recovered_from(tracker, fault, recorded, undisturbed):
    with tracker_servers.serve(tracker) as served:
        served.server.faults = FAULTS[fault]
        started = time.monotonic()
        status = served.sync(recorded, bounds=BOUNDS)
        assert status.state == "failed" and status.confirmed == 0 and status.error
        assert time.monotonic() - started < 6
        heal_and_compare(served, recorded, undisturbed[tracker][0])


@pytest.mark.parametrize(("fault", "tenth"), [("dies", 1), ("dies", 4), ("dies", 7), ("dies", 9), ("loses answers", 2),
                                              ("loses answers", 5), ("loses answers", 8), ("loses answers", 9)])
def test_a_server_that_fails_in_the_middle_is_recovered_from(tracker, fault, tenth, recorded, undisturbed):
    """Some of the tenths; benchmarks/faults.py does all of them."""
    contents, requests = undisturbed[tracker]
    with tracker_servers.serve(tracker) as served:
        served.server.faults = Faults(die_after=requests * tenth // 10, lose_last=fault == "loses answers")
        status = served.sync(recorded, bounds=BOUNDS)
        assert status.state == "failed" and 0 <= status.confirmed < len(reader.read(recorded).entries)
        heal_and_compare(served, recorded, contents)


def test_a_bad_key_is_reported_and_recovered_from(tracker, recorded, undisturbed):
    with tracker_servers.serve(tracker) as served:
        status = served.sync(recorded, served.bad_key, BOUNDS)
        assert status.state == "failed" and status.confirmed == 0
        assert not served.contents(reader.read(recorded).run.id)
        heal_and_compare(served, recorded, undisturbed[tracker][0])


def test_a_run_that_grew_is_continued_in_the_same_remote_run(tracker, tmp_path, recorded):
    """Half of the record is synced, then all of it: one remote run, nothing twice."""
    whole, half = reader.read(recorded), tmp_path / "half"
    with tracker_servers.serve(tracker) as served, writer.create(half, whole.run) as recorder:
        rest = sync_half(served, whole, recorder)
        recorder.append(*rest)
        recorder.close("finished")
        status = served.sync(half)
        assert status.state == "complete", status.error
        at_once = served.contents(whole.run.id)
    with tracker_servers.serve(tracker) as served:
        served.sync(recorded)
        assert served.contents(whole.run.id) == at_once


@pytest.mark.parametrize("fault", ["stalls", "refuses", "dies"])
def test_training_beside_a_failing_server_is_bit_identical_and_its_end_bounded(tracker, fault, tiny, finished_run, tmp_path,
                                                                              monkeypatch):
    monkeypatch.setattr(sync, "NO_PROGRESS_S", 1.0)
    waits, finish = [], sync.finish

    def timed(syncs, *bounds):
        started = time.monotonic()
        result = finish(syncs, *bounds)
        waits.append(time.monotonic() - started)
        return result

    monkeypatch.setattr(sync, "finish", timed)
    with tracker_servers.serve(tracker) as served:
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        served.server.faults = FAULTS.get(fault, Faults(die_after=20))
        result = experiment.run(tiny, tracker=tracker, tracker_mode="online", workdir=tmp_path / "run", watch=False)
        (status,) = result.sync
        assert result.status == "finished" and status.state != "complete"
        assert waits[0] < 10.0  # 1.0 s of its own time, on a machine that others use, too
        alone, beside = reader.read(finished_run), reader.read(result.directory)
        assert _trained(alone) == _trained(beside)
        served.server.start()
        (status,) = sync.sync(result.directory, tracker, "online")
        assert status.state == "complete" and not status.counts.get("failed"), status.error
        healed = served.contents(beside.run.id)
    shutil.rmtree(result.directory / "sync")
    with tracker_servers.serve(tracker) as served:
        served.sync(result.directory)
        assert served.contents(beside.run.id) == healed


def _trained(recorded: reader.RunRecord) -> tuple:
    return records.bits_of(recorded), recorded.of(events.Model)[0].metadata["parameters_sha256"]


@pytest.mark.parametrize("file_bytes", [3_000, 12_000, 50_000])
def test_a_full_disk_is_reported_and_recovered_from(tracker, file_bytes, recorded, finished_run):
    """Both clients write in threads of their own, which only log that there is no room."""
    status = tracker_servers.sync_offline_with_a_full_disk(recorded, tracker, file_bytes)
    assert status.state != "complete"
    (status,) = sync.sync(recorded, tracker, "offline")
    assert status.state == "complete" and not status.counts.get("failed")
    if tracker == "neptune":
        fields, series = offline_files.neptune(recorded / "sync" / "neptune-offline")
        usual_fields, usual_series = offline_files.neptune(finished_run / "sync" / "neptune-offline")
        assert series == usual_series and fields.keys() == usual_fields.keys()
    else:
        name = Path("sync") / "comet-offline" / f"{reader.read(recorded).run.id}.zip"
        metrics, usual = (offline_files.Comet(folder / name).metrics for folder in (recorded, finished_run))
        assert {**metrics, "process duration": 0} == {**usual, "process duration": 0}  # that one is the client's own


def test_the_vendors_own_upload_of_our_offline_data_arrives_complete(tracker, finished_run, undisturbed, tmp_path):
    shutil.copytree(finished_run / "sync" / f"{tracker}-offline", tmp_path / "offline")
    with tracker_servers.serve(tracker) as served:
        served.upload(tmp_path / "offline", tmp_path)
        arrived, online_ones = served.contents(reader.read(finished_run).run.id), dict(undisturbed[tracker][0])
        if tracker == "comet":  # what it refuses offline: an artifact is an asset, and no version is registered
            assert [name for _, name, *_ in arrived["assets"] if name == "artifacts/test_predictions"]
            for found in (arrived, online_ones):
                found["artifacts"] = found["registered"] = None
                found["assets"] = [asset for asset in found["assets"] if not asset[1].startswith("artifacts/")]
        else:
            assert len(arrived.pop("run/event_sha256")) == 64  # of the last event: only their offline log needs seals
        assert arrived == online_ones


def test_a_server_that_forgot_everything_is_given_everything_again(tracker, recorded, undisturbed, tmp_path):
    """The server was set up anew at the same address: what had been confirmed is missing there."""
    whole, half = reader.read(recorded), tmp_path / "half"
    with tracker_servers.serve(tracker) as served, writer.create(half, whole.run) as recorder:
        rest = sync_half(served, whole, recorder)
        getattr(served.store, "runs" if tracker == "neptune" else "experiments").clear()
        recorder.append(*rest)
        recorder.close("finished")
        status = served.sync(half)
        if status.state == "failed" and status.confirmed == 0:
            status = served.sync(half)
        assert status.state == "complete", status.error
        assert served.contents(whole.run.id) == undisturbed[tracker][0]


@pytest.mark.parametrize("how", ["a copy", "another spelling", "a copy under another spelling", "damaged receipts"])
def test_nothing_is_sent_twice_from_a_copy_or_under_another_spelling(tracker, how, recorded, undisturbed, tmp_path):
    """The server knows the run, and the receipts of this place do not."""
    with tracker_servers.serve(tracker) as served:
        if how.startswith("a copy"):
            shutil.copytree(recorded, tmp_path / "copy")
        assert served.sync(recorded).state == "complete"
        if how == "damaged receipts":
            (path,) = (recorded / "sync").glob("*.jsonl")
            path.write_bytes(path.read_bytes().replace(b"sent", b"tent", 1))
        status = served.sync(tmp_path / "copy" if how.startswith("a copy") else recorded,
                             served.spelled_otherwise if how.endswith("another spelling") else None)
        assert status.state == "complete" and not status.counts.get("failed"), (status.error, status.notes)
        assert status.confirmed == len(reader.read(recorded).entries)
        assert served.contents(reader.read(recorded).run.id) == undisturbed[tracker][0]


def test_a_copy_that_goes_on_sends_only_what_is_missing(tracker, tmp_path, recorded, undisturbed):
    whole, half = reader.read(recorded), tmp_path / "half"
    with tracker_servers.serve(tracker) as served, writer.create(half, whole.run) as recorder:
        rest = sync_half(served, whole, recorder)
        recorder.append(*rest)
        recorder.close("finished")
        shutil.rmtree(half / "sync")
        status = served.sync(half, served.spelled_otherwise)
        assert status.state == "complete" and not status.counts.get("failed"), (status.error, status.notes)
        assert served.contents(whole.run.id) == undisturbed[tracker][0]


def test_another_project_of_neptune_is_another_replica(recorded):
    with tracker_servers.serve("neptune") as served:
        first = served.sync(recorded)
        second = served.sync(recorded, {**served.environment, "NEPTUNE_PROJECT": "team/other"})
        assert first.label != second.label and first.state == second.state == "complete"
        assert sorted(run.project for run in served.store.runs.values()) == ["team/mnist", "team/other"]


def test_odd_values_arrive_or_are_reported(tracker, tmp_path):
    directory = tmp_path / "run"
    identity = events.RunInfo(writer.new_id(), "odd", 0.0, {}, ())
    with writer.create(directory, identity) as recorder:
        recorder.append(events.Status(0, "running"), events.Text("same", 1, "once"), events.Text("same", 1, "twice"),
                        events.Text("empty", 1, ""), events.Text("long", 1, "é" * 10**6),
                        events.Text("unicode", 1, "数 \u2028 é"))
        recorder.close("failed")
    with tracker_servers.serve(tracker) as served:
        status = served.sync(directory)
    assert status.state == "complete" and not status.counts.get("failed"), (status.error, status.notes)
