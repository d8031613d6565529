"""run.json names a changed byte."""

import json

from mnist_jax import errors
from mnist_jax.record import catalog, run_file


def test_every_changed_byte_of_run_json_is_found_or_means_nothing(run):
    path = run / "run.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1:])
        try:
            fields = run_file.read(run)
        except errors.RecordError as error:
            assert "run.json" in str(error)
        else:
            assert fields == json.loads(whole)  # white space


def test_a_record_of_another_format_is_listed_as_damaged(tmp_path):
    (tmp_path / "old").mkdir()
    body = {"format": 1, "id": "0" * 32, "name": "old", "outcome": "finished", "events": None}
    (tmp_path / "old" / "run.json").write_text(json.dumps({**body, "sha256": run_file.digest(body)}))
    (row,) = catalog.list_runs(tmp_path)
    assert row["status"] == "damaged" and "expected record format 2, found 1" in row["problem"]
