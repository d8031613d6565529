"""What is whole of a damaged run can be read, and becomes a clean run."""

from pathlib import Path

import pytest

import mnist_jax
from mnist_jax import errors
from mnist_jax.cli import main
from mnist_jax.record import columns, reader, repair


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A run of 100 steps and two files; a byte is flipped in the line of step 60, and in one of the files."""
    with mnist_jax.track("mine", workdir=tmp_path / "run") as run:
        run.artifact("whole", b"whole")
        run.artifact("lost", b"lost")
        for step in range(1, 101):
            run.log({"x": step / 3}, step=step)
    journal = tmp_path / "run" / "events.jsonl"
    lines = journal.read_bytes().split(b"\n")
    place = next(number for number, line in enumerate(lines) if b'"steps":[60]' in line)
    lines[place] = lines[place].replace(b"[60]", b"[61]")
    journal.write_bytes(b"\n".join(lines))
    for path in (tmp_path / "run" / "blobs").iterdir():
        if path.read_bytes() == b"lost":
            path.write_bytes(b"lest")
    return tmp_path / "run"


def test_damage_is_named_with_the_command_that_reads_the_rest(damaged, capsys):
    with pytest.raises(errors.RecordError, match=r"line \d+: damaged.*mnist-jax show --salvage"):
        reader.read(damaged)
    assert main.main(["show", str(damaged)]) == 1
    assert "show --salvage" in capsys.readouterr().err
    assert main.main(["show", str(damaged), "--salvage"]) == 0
    assert "damaged" in capsys.readouterr().out


def test_everything_before_the_damage_is_read(damaged):
    record = reader.read(damaged, salvage=True)
    assert record.status == "damaged" and record.series("x")[0].tolist() == list(range(1, 60))
    assert len(record.entries) == record.count


def test_a_clean_run_is_written_from_it(damaged, tmp_path, capsys):
    before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    assert main.main(["repair", str(damaged), f"--workdir={tmp_path / 'saved'}"]) == 0
    assert "1 files lost" in capsys.readouterr().out
    saved = reader.read(tmp_path / "saved")
    assert saved.status == "finished" and saved.series("x")[0].tolist() == list(range(1, 60))
    assert saved.run == reader.read(damaged, salvage=True).run
    assert before == {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    with pytest.raises(errors.UserError, match="found a run in it"):
        repair.repair(damaged, tmp_path / "saved")


def test_the_cache_of_columns_changes_nothing_and_may_be_lost_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "CACHED_FROM", 1_000)
    with mnist_jax.track("mine", workdir=tmp_path / "run") as run:
        for step in range(200):
            run.log({"x": step / 3, "y": float("nan") if step % 7 else step}, step=step)
        run.text("note", "in the middle", step=200)
    cache = tmp_path / "run" / columns.FILE
    plain = reader.read(tmp_path / "run")
    assert cache.exists()
    for change in (lambda data: data, lambda data: data[:-1], lambda data: data[:50] + b"x" + data[51:], lambda _: b""):
        cache.write_bytes(change(cache.read_bytes()))
        again = reader.read(tmp_path / "run")
        assert again.facts == plain.facts
        assert (again.count, again.digest, again.status) == (plain.count, plain.digest, "finished")
        for name, (steps, values) in plain.series().items():
            assert again.series(name)[0].tobytes() == steps.tobytes() and again.series(name)[1].tobytes() == values.tobytes()
    other = mnist_jax.track("mine", workdir=tmp_path / "other")
    other.close()
    cache.rename(tmp_path / "other" / columns.FILE)
    assert reader.read(tmp_path / "other").series() == {}
