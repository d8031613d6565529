"""A checkpoint is what its contents say, wherever it lies and whatever it is called."""

import hashlib
import json
import shutil
from typing import Any

import numpy as np
import pytest

from mnist_jax import errors
from mnist_jax.record import arrays, checkpoint

ORIGIN = checkpoint.Origin("a" * 32, {"lowered": "1"}, {"train": "2"})
STATE = {"state/step": np.array(7, np.int32), "state/weights": np.arange(4.0)}


def put(directory, contents: bytes, step: int = 10):
    """Write a file of arrays, with these bytes in place of its checkpoint.json, under its own digest."""
    data = arrays.pack(STATE, {"checkpoint.json": contents})
    path = directory / "checkpoints" / f"{step:010d}-{hashlib.sha256(data).hexdigest()}.zip"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_checkpoint_names_run_step_program_and_data(tmp_path):
    path = checkpoint.save(tmp_path, 7, STATE, ORIGIN, keep=2)
    saved = checkpoint.read(path)
    assert (saved.step, saved.origin, saved.sha256) == (7, ORIGIN, hashlib.sha256(path.read_bytes()).hexdigest())
    assert saved.arrays["state/weights"].tolist() == [0, 1, 2, 3]


def test_a_checkpoint_renamed_to_another_step_is_not_believed(tmp_path):
    first = checkpoint.save(tmp_path, 7, STATE, ORIGIN, keep=2)
    second = checkpoint.save(tmp_path, 8, {**STATE, "state/weights": np.zeros(4)}, ORIGIN, keep=2)
    renamed = first.rename(first.with_name(f"0000000099{first.name[10:]}"))
    with pytest.raises(errors.RecordError, match="expected a checkpoint of step 99, as its name says, found one of step 7"):
        checkpoint.read(renamed)
    saved, (line,) = checkpoint.newest(tmp_path, checkpoint.Expected(ORIGIN.run))
    assert saved and saved.path == second and str(renamed) in line


def test_a_checkpoint_of_another_run_is_skipped_unless_the_run_starts_from_it(tmp_path):
    own = checkpoint.save(tmp_path, 7, STATE, ORIGIN, keep=2)
    foreign = checkpoint.save(tmp_path, 9, STATE, ORIGIN._replace(run="b" * 32), keep=2)
    saved, (line,) = checkpoint.newest(tmp_path, checkpoint.Expected(ORIGIN.run))
    assert saved and saved.path == own
    assert line == f"{foreign}: expected a checkpoint of run {'a' * 32}, found one of run {'b' * 32}"
    start, lines = checkpoint.newest(tmp_path, checkpoint.Expected(ORIGIN.run, start=foreign.name[11:75]))
    assert start and start.path == foreign and not lines
    assert checkpoint.newest(tmp_path, checkpoint.Expected("c" * 32))[0] is None
    within, lines = checkpoint.newest(tmp_path, checkpoint.Expected(ORIGIN.run, reached=8))
    assert within and within.path == own and not lines


def test_at_the_same_step_the_own_one_is_taken(tmp_path):
    """A file of another run may sort before or after it."""
    own = checkpoint.save(tmp_path, 7, STATE, ORIGIN, keep=9)
    (tmp_path / "others").mkdir()
    for number in range(4):
        other = checkpoint.save(tmp_path / "others", 7, STATE, ORIGIN._replace(run=f"{number}" * 32), keep=9)
        shutil.copy(other, own.parent)
    saved, _ = checkpoint.newest(tmp_path, checkpoint.Expected(ORIGIN.run))
    assert saved and saved.path == own


def test_common_is_the_latest_step_that_every_run_has_of_its_own(tmp_path):
    runs = [tmp_path / "one", tmp_path / "two"]
    ids = ["1" * 32, "2" * 32]
    for directory, run_id in zip(runs, ids, strict=True):
        directory.mkdir()
        for step in (5, 6):
            checkpoint.save(directory, step, STATE, ORIGIN._replace(run=run_id), keep=3)
    (last,) = [path for path in checkpoint.paths(runs[1]) if path.name.startswith("0000000006")]
    last.unlink()
    checkpoint.save(runs[1], 6, STATE, ORIGIN._replace(run=ids[0]), keep=3)
    found, (line,) = checkpoint.common(runs, [checkpoint.Expected(run_id) for run_id in ids])
    assert [(each.step, each.origin.run) for each in found] == [(5, ids[0]), (5, ids[1])] and ids[0] in line


def test_keep_counts_what_the_run_has_saved_itself(tmp_path):
    """A file of a later step, put there by somebody, does not push out the run's own."""
    late = checkpoint.save(tmp_path, 99, STATE, ORIGIN._replace(run="b" * 32), keep=1)
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, STATE, ORIGIN, keep=1)
    assert [int(path.name[:10]) for path in checkpoint.paths(tmp_path)] == [3, 99] and late.exists()
    checkpoint.save(tmp_path, 4, STATE, ORIGIN, keep=2)
    assert [int(path.name[:10]) for path in checkpoint.paths(tmp_path)] == [3, 4, 99]


GOOD: dict[str, Any] = {"run": "a" * 32, "step": 10, "program": {"lowered": "1"}, "data": {"train": "2"}}


@pytest.mark.parametrize("contents", [
    b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", *(json.dumps(changed).encode() for changed in (
        {key: value for key, value in GOOD.items() if key != "run"}, {**GOOD, "run": None}, {**GOOD, "step": "10"},
        {**GOOD, "step": True}, {**GOOD, "step": 10.0}, {**GOOD, "program": []}, {**GOOD, "program": {"lowered": {"a": 1}}},
        {**GOOD, "data": {"train": 3}}, {**GOOD, "data": None}))])
def test_contents_that_name_nothing_are_damage_in_one_line(tmp_path, contents):
    path = put(tmp_path, contents)
    with pytest.raises(errors.RecordError, match="damaged") as raised:
        checkpoint.read(path)
    assert "\n" not in str(raised.value)
    assert checkpoint.read(put(tmp_path, json.dumps(GOOD).encode())).step == 10


def test_a_checkpoint_without_its_identity_is_damaged(tmp_path):
    data = arrays.pack(STATE, {"run.txt": b"a" * 32})
    path = tmp_path / f"0000000007-{hashlib.sha256(data).hexdigest()}.zip"
    path.write_bytes(data)
    with pytest.raises(errors.RecordError, match="does not say run, step, program and data"):
        checkpoint.read(path)


def test_a_checkpoint_is_a_regular_file(tmp_path):
    path = checkpoint.save(tmp_path, 7, STATE, ORIGIN, keep=2)
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(errors.RecordError):
        checkpoint.read(path)
