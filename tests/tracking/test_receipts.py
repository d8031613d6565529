"""Receipts are sealed and contiguous: whatever happens to their file, a status comes, and damaged ones are not believed."""

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from mnist_jax import errors
from mnist_jax.cli import main
from mnist_jax.record import journal
from mnist_jax.tracking import protocol, receipt_writer, receipts, replica
from mnist_jax.view import text
from tests.helpers import list_tracker, records

LABEL = "list-object"


@pytest.fixture
def synced(tmp_path: Path) -> Path:
    """Return a run that a tracker object holds."""
    directory = records.short_run(tmp_path / "run")
    update(directory)
    return directory


def update(directory: Path) -> list_tracker.ListTracker:
    tracker = list_tracker.ListTracker()
    replica.update(directory, protocol.Destination("list", "object"), tracker=tracker)
    return tracker


def test_flipped_bits_are_found_or_change_nothing(synced):
    """1,500 flips: a flip of the newline at the end makes a torn line, which was confirmed once more; all others are found."""
    path = receipts.log_path(synced, LABEL)
    whole, chance = path.read_bytes(), random.Random(16)
    expected = receipts.sync_status(synced, LABEL)
    assert expected.state == "complete" and expected.confirmed == 6
    for _ in range(1_500):
        content = bytearray(whole)
        place = chance.randrange(len(content))
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        status = receipts.sync_status(synced, LABEL)
        if place == len(content) - 1:
            assert status.state == "open" and status.confirmed == 6, place
        else:
            assert status.damaged and status.state == "failed" and status.confirmed == 0, place
            assert "mnist_jax.sync(" in status.error and "\n" not in status.error


def test_no_command_ends_in_a_traceback_because_of_receipts(synced, capsys, tmp_path):
    path = receipts.log_path(synced, LABEL)
    whole, chance = path.read_bytes(), random.Random(0)
    for number in range(30):
        content = bytearray(whole)
        content[chance.randrange(len(content) - 1)] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        assert text.summary(synced)["sync"][LABEL]["state"] in ("failed", "open")
        if number < 3:
            assert main.main(["show", str(synced)]) == 0
            assert main.main(["list", str(tmp_path)]) == 0
            assert main.main(["report", str(synced), f"--html={tmp_path / 'report.html'}"]) == 0
            assert "the receipts are not used" in (tmp_path / "report.html").read_text()
    assert "Traceback" not in "".join(capsys.readouterr())


def _write(path: Path, lines: list[dict]) -> None:
    path.unlink(missing_ok=True)
    opened = journal.Journal(path)
    opened.append(lines)
    opened.close()


def _lines(path: Path) -> list[dict]:
    return [{name: value for name, value in line.items() if name != "sequence"} for line in journal.JournalReader(path).new()]


@pytest.mark.parametrize(("change", "problem"), [
    (lambda lines: lines.pop(4), "expected the receipt of event"), (lambda lines: lines.insert(4, lines[4]), "of event"),
    (lambda lines: lines[3].update(event="0"), "of event"), (lambda lines: lines[3].update(event=True), "of event"),
    (lambda lines: lines[3].update(state="perhaps"), "perhaps"), (lambda lines: lines[3].update(count=-1), "a count"),
    (lambda lines: lines[3].update(count="x"), "a count"), (lambda lines: lines[3].pop("kind"), "kind"),
    (lambda lines: lines[3].update(note=[1]), "a text"), (lambda lines: lines[1].update(run="0" * 32), "of the run"),
    (lambda lines: lines[1].update(label="list-elsewhere"), "of list-object"),
    (lambda lines: lines[2].update(opened=5), "a text"),
    (lambda lines: lines[2].update(seconds=5), "damaged"), (lambda lines: lines[2].update(seconds={"open": "x"}), "a number"),
    (lambda lines: lines[0].update(at="noon"), "a number"), (lambda lines: lines[0].pop("at"), "at")])
def test_sealed_lines_that_no_sync_writes_are_damage(synced, change, problem):
    path = receipts.log_path(synced, LABEL)
    lines = [{"at": 1.0, "requested": LABEL}, *_lines(path)]
    _write(path, lines)
    assert receipts.sync_status(synced, LABEL).state == "complete"
    change(lines)
    _write(path, lines)
    status = receipts.sync_status(synced, LABEL)
    assert status.damaged and problem in status.error, status.error


@pytest.mark.parametrize("what", ["flip", "repeat", "FIFO", "folder", "device", "deep", "binary", "another run's"])
def test_damaged_receipts_are_set_aside_and_the_replica_is_asked_anew(synced, tmp_path, what):
    path = receipts.log_path(synced, LABEL)
    content = path.read_bytes()
    match what:
        case "flip":
            path.write_bytes(content.replace(b"sent", b"tent", 1))
        case "repeat":
            lines = _lines(path)
            _write(path, [*lines[:4], *lines[3:]])
        case "FIFO":
            path.unlink()
            os.mkfifo(path)
        case "folder":
            path.unlink()
            path.mkdir()
        case "device":
            path.unlink()
            path.symlink_to("/dev/zero")
        case "deep":
            path.write_bytes(b"[" * 100_000 + b"\n")
        case "binary":
            path.write_bytes(random.Random(0).randbytes(10_000))
        case "another run's":
            other = records.short_run(tmp_path / "other")
            update(other)
            shutil.copy(receipts.log_path(other, LABEL), path)
    assert receipts.sync_status(synced, LABEL).state == "failed"
    tracker = update(synced)
    status = receipts.sync_status(synced, LABEL)
    assert status.state == "complete" and status.confirmed == 6, status.error
    assert tracker.earlier is None and len(tracker.events) == 6
    assert os.path.lexists(f"{path}.damaged-1") and [each.label for each in receipts.sync_statuses(synced)] == [LABEL]


def test_a_torn_last_line_is_no_damage(synced):
    path = receipts.log_path(synced, LABEL)
    path.write_bytes(path.read_bytes()[:-20])
    assert receipts.sync_status(synced, LABEL).state == "open"
    assert update(synced).earlier is not None
    assert receipts.sync_status(synced, LABEL).state == "complete"


def test_a_reader_reads_only_what_is_new_and_notices_new_receipts(synced, monkeypatch):
    reader = receipts.ReceiptsReader(synced, LABEL)
    first = reader.status()
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("it read a line again"))
    assert reader.status() == first
    monkeypatch.undo()
    receipts.log_path(synced, LABEL).rename(synced / "aside")
    assert reader.status().state == "pending"
    with receipt_writer.locked(synced, LABEL) as log:
        log.write(requested=LABEL)
    assert reader.status().lines == 1


def test_a_folder_of_receipts_that_is_a_link_is_refused(synced, tmp_path):
    (synced / "sync").rename(tmp_path / "elsewhere")
    (synced / "sync").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.RecordError, match="found a link"), receipt_writer.locked(synced, LABEL):
        pass


def test_a_long_log_is_folded_quickly(synced):
    path = receipts.log_path(synced, LABEL)
    lines = _lines(path)
    receipt = next(line for line in lines if "event" in line)
    _write(path, [lines[0], *({**receipt, "event": number, "state": "failed"} for number in range(20_000))])
    started = time.process_time()
    assert receipts.sync_status(synced, LABEL).counts == {"failed": 20_000}
    assert time.process_time() - started < 5
