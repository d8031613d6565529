"""A summary says what the record says, or is not used."""

import math

import pytest

import mnist_jax
from mnist_jax import errors
from mnist_jax.record import catalog, summary


@pytest.fixture
def run(tmp_path):
    with mnist_jax.track("mine", {"lr": 0.1}, workdir=tmp_path / "runs" / "a", tags=("good",)) as run:
        for step in range(1, 11):
            run.log({"x": -step, "odd": math.nan if step == 10 else step}, step=step)
    return run.directory


def test_a_list_needs_no_events_where_the_summary_fits(run, monkeypatch):
    first = catalog.list_runs(run.parent)
    assert (run / summary.FILE).exists() and first[0]["metrics"]["x"] == -10 and math.isnan(first[0]["metrics"]["odd"])
    assert first[0]["tags"] == ["good"] and first[0]["steps"] == 10
    series = summary.read(run)["series"]
    assert (series["x"]["min"], series["x"]["max"], series["x"]["count"]) == (-10, -1, 10) and series["odd"]["max"] == 9
    monkeypatch.setattr("mnist_jax.record.reader.read", None)
    assert repr(catalog.list_runs(run.parent)) == repr(first)


def test_a_run_that_grows_is_read_again(tmp_path):
    with mnist_jax.track("mine", workdir=tmp_path / "a") as run:
        run.log({"x": 1.0}, step=1)
        assert summary.read(tmp_path / "a")["status"] == "running" and summary.read(tmp_path / "a")["steps"] == 1
        run.log({"x": 2.0}, step=2)
        assert summary.read(tmp_path / "a")["series"]["x"]["last"] == 2.0
    assert summary.read(tmp_path / "a")["status"] == "finished"


@pytest.mark.parametrize("change", [b"", b"{", b"[" * 100_000, b'{"format": 2}', b"null"])
def test_a_damaged_summary_is_not_used(run, change):
    before = repr(catalog.list_runs(run.parent))
    (run / summary.FILE).write_bytes(change)
    assert repr(catalog.list_runs(run.parent)) == before


def test_a_summary_of_another_run_is_not_used(run, tmp_path):
    catalog.list_runs(run.parent)
    with mnist_jax.track("other", workdir=tmp_path / "other") as other:
        other.log({"y": 1.0}, step=1)
    (other.directory / summary.FILE).write_bytes((run / summary.FILE).read_bytes())
    assert list(summary.read(other.directory)["series"]) == ["y"]


def test_a_journal_that_run_json_does_not_seal_is_damaged_whatever_the_summary_says(run):
    catalog.list_runs(run.parent)
    lines = (run / "events.jsonl").read_bytes().split(b"\n")
    (run / "events.jsonl").write_bytes(b"\n".join([*lines[:-2], b""]))
    with pytest.raises(errors.RecordError, match="seals"):
        summary.read(run)
    assert catalog.list_runs(run.parent)[0]["status"] == "damaged"
