"""run.json names a changed byte."""

import json

from mnist_jax import errors
from mnist_jax.record import run_file


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
