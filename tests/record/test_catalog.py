"""Runs are found by the beginning of a name or id, and listed with what became of them."""

import pytest

from mnist_jax import errors, events
from mnist_jax.record import catalog, writer


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a finished run, one whose process died, a member of a sweep and a damaged one."""
    runs = tmp_path / "runs"
    for name, created in (("20260101-cnn", 1.0), ("20260102-mlp", 2.0), ("many/members/00", 3.0), ("broken", 4.0)):
        info = events.RunInfo(f"{created:.0f}" * 32, name.replace("/", "-"), created, {}, ())
        with writer.create(runs / name, info) as recorder:
            recorder.append(events.Text("note", 0, "one"))
            recorder.close("finished")
    with writer.create(runs / "died", events.RunInfo("d" * 32, "died", 5.0, {}, ())) as recorder:
        recorder._closed = True  # as if its process had been killed: nobody says how it ended
        recorder._journal.close()
    lines = (runs / "broken" / "events.jsonl").read_text()
    (runs / "broken" / "events.jsonl").write_text(lines.replace("one", "two"))
    (runs / "notes").mkdir()
    return runs


def test_a_name_or_an_id_can_be_abbreviated(folder):
    assert catalog.find("20260101", folder) == folder / "20260101-cnn"
    assert catalog.find("2222", folder) == folder / "20260102-mlp"
    assert catalog.find(folder / "died") == folder / "died"
    with pytest.raises(errors.UserError, match="found 2 in .*20260101-cnn, 20260102-mlp; give more"):
        catalog.find("2026", folder)
    with pytest.raises(errors.UserError, match="did you mean '20260101-cnn'"):
        catalog.find("20260101-cmm", folder)


def test_every_run_is_listed_oldest_first_and_a_killed_one_is_not_running(folder):
    rows = {row["directory"].removeprefix(f"{folder}/"): row for row in catalog.list_runs(folder)}
    assert list(rows) == ["broken", "20260101-cnn", "20260102-mlp", "many/members/00", "died"]
    assert [row["status"] for row in rows.values()] == ["damaged", "finished", "finished", "finished", "killed"]
    assert "line 1" in rows["broken"]["problem"]
    assert len(catalog.table(catalog.list_runs(folder))) == 5 and catalog.table([]) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.UserError, match="expected a folder of runs"):
        catalog.list_runs(tmp_path / "none")
