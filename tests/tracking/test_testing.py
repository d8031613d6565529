"""The contract is kept by both real clients offline and by a third party's tracker, and broken by trackers that cheat."""

from pathlib import Path

import pytest

from mnist_jax import events
from mnist_jax.record import reader, writer
from mnist_jax.tracking import protocol, testing
from mnist_jax.tracking.comet import tracker as comet_tracker
from mnist_jax.tracking.neptune import tracker as neptune_tracker
from tests.helpers import list_tracker


def test_a_third_partys_tracker_keeps_the_contract(tmp_path):
    testing.prove(list_tracker.ListTracker, tmp_path)


@pytest.mark.parametrize("backend", [neptune_tracker, comet_tracker])
def test_the_real_clients_keep_the_contract_offline(backend, tmp_path):
    folders = (tmp_path / f"client-{number}" for number in range(100))

    def create() -> protocol.Tracker:
        folder: Path = next(folders)
        folder.mkdir()
        return backend.create(backend.destination("offline"), folder)

    testing.prove(create, tmp_path)


def test_the_record_keeps_what_is_hard_to_hold_exactly(tmp_path):
    with writer.create(tmp_path / "run", events.RunInfo(writer.new_id(), "odd", 0.0, {}, ())) as recorder:
        facts = [*testing.every_kind(recorder), *testing.odd_values(recorder)]
        recorder.append(*facts)
    kept = [entry.event for entry in reader.read(tmp_path / "run").entries]
    assert [repr(fact) for fact in kept] == [repr(fact) for fact in facts]  # NaN is not equal to itself
    assert [fact for fact in kept if isinstance(fact, events.Metrics)] == [
        fact for fact in facts if isinstance(fact, events.Metrics)]  # bit for bit


class SaysTooMuch(list_tracker.ListTracker):
    support = dict.fromkeys(events.KINDS.values(), protocol.Support("unsupported", "no"))


class SaysTooLittle(list_tracker.ListTracker):
    support = dict.fromkeys([events.Metrics], protocol.Support("native", "in a list"))


class SaysNothing(list_tracker.ListTracker):
    support = dict.fromkeys(events.KINDS.values(), protocol.Support("native", ""))


class GivesNoReceipt(list_tracker.ListTracker):
    def write(self, event):
        self.events.append(event)


class RefusesOrdinaryThings(list_tracker.ListTracker):
    def write(self, event):
        if isinstance(event, events.Image):
            raise ValueError("no images")
        return super().write(event)


class NeverConfirms(list_tracker.ListTracker):
    def flush(self, timeout_s):
        return False


class ClosesOnce(list_tracker.ListTracker):
    closed = False

    def close(self, status, timeout_s):
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


@pytest.mark.parametrize(("cheat", "error"), [
    (SaysTooMuch, "unsupported"), (SaysTooLittle, "every kind"), (SaysNothing, "a note"), (GivesNoReceipt, "(?i)receipt"),
    (RefusesOrdinaryThings, "Image"), (NeverConfirms, "did not confirm"), (ClosesOnce, "closed already")])
def test_a_tracker_that_breaks_the_contract_is_told_what_it_broke(cheat, error, tmp_path):
    with pytest.raises(testing.ProtocolError, match=error):
        testing.prove(cheat, tmp_path)
