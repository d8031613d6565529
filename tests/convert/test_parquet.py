"""The parquet of a run: the published schema, every value in it, every file beside it."""

import builtins
import decimal
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from mnist_jax import errors, events
from mnist_jax.convert import parquet
from mnist_jax.record import reader, writer
from tests.helpers import odd_record, records

# neptune-exporter's src/neptune_exporter/model.py, as published.
SCHEMA = pa.schema([
    ("project_id", pa.string()), ("run_id", pa.string()), ("attribute_path", pa.string()), ("attribute_type", pa.string()),
    ("step", pa.decimal128(18, 6)), ("timestamp", pa.timestamp("ms", tz="UTC")), ("int_value", pa.int64()),
    ("float_value", pa.float64()), ("string_value", pa.string()), ("bool_value", pa.bool_()),
    ("datetime_value", pa.timestamp("ms", tz="UTC")), ("string_set_value", pa.list_(pa.string())),
    ("file_value", pa.struct([("path", pa.string())])),
    ("histogram_value", pa.struct([("type", pa.string()), ("edges", pa.list_(pa.float64())),
                                   ("values", pa.list_(pa.float64()))]))])
TYPES = {"float", "int", "string", "bool", "datetime", "string_set", "float_series", "string_series", "histogram_series",
         "file", "file_series"}


def rows_of(paths: list[Path]) -> list[dict]:
    """Read as neptune-exporter's ParquetReader does: with its schema."""
    return [row for path in paths for row in pyarrow.parquet.read_table(path, schema=SCHEMA).to_pylist()]


def test_every_value_of_a_run_is_a_row_and_every_file_lies_beside_it(finished_run, tmp_path):
    run = reader.read(finished_run)
    paths = parquet.export_parquet(finished_run, tmp_path, "team/mnist")
    rows = rows_of(paths)
    assert pyarrow.parquet.read_schema(paths[0]).equals(SCHEMA)
    assert {row["attribute_type"] for row in rows} <= TYPES
    assert {(row["project_id"], row["run_id"]) for row in rows} == {("team/mnist", run.run.id)}
    for name, (steps, values) in records.series_of(run).items():
        points = [(int(row["step"]), row["float_value"]) for row in rows if row["attribute_path"] == name]
        assert points == list(zip(steps, values, strict=True)), name
    held = {row["attribute_path"]: row for row in rows}
    (hyper,) = run.of(events.Hyperparameters)
    assert held["parameters/optimizer/learning_rate"]["float_value"] == hyper.values["optimizer.learning_rate"]
    assert held["sys/custom_run_id"]["string_value"] == run.run.id and held["sys/failed"]["bool_value"] is False
    expected = {blob.sha256 for entry in run.entries for blob in events.blobs(entry.event)}
    found = [tmp_path / "files" / row["file_value"]["path"] for row in rows if row["file_value"]]
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in found} == expected


def test_the_layout_is_that_of_the_exporter(finished_run, tmp_path):
    run = reader.read(finished_run).run
    (path,) = parquet.export_parquet(finished_run, tmp_path, "team/mnist")
    digest = hashlib.blake2b(run.id.encode(), digest_size=8).hexdigest()
    project = f"team_mnist-{hashlib.blake2b(b'team/mnist', digest_size=8).hexdigest()}"
    assert path == tmp_path / "data" / project / f"{run.id}-{digest}_part_0.parquet"
    assert parquet.export_parquet(finished_run, tmp_path, "team/mnist") == [path]  # written again, not doubled
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_odd_values_are_kept(tmp_path):
    run = odd_record.write(tmp_path / "run")
    rows = rows_of(parquet.export_parquet(tmp_path / "run", tmp_path / "out"))
    odd = [row for row in rows if row["attribute_path"] == "odd/v"]
    assert str([row["float_value"] for row in odd]) == str([1.5, float("nan"), float("inf"), float("-inf"), -0.0,
                                                            float(run.series()["odd/v"][1][-1])])
    assert odd[-1]["step"] == decimal.Decimal(2**39)
    files = (tmp_path / "out" / "files").resolve()
    for row in rows:
        if row["file_value"]:
            assert (files / row["file_value"]["path"]).resolve().is_relative_to(files)


def test_names_cannot_lead_out_of_the_folder(tmp_path):
    identity = events.RunInfo(writer.new_id(), "x", 0.0, {}, ())
    with writer.create(tmp_path / "run", identity) as recorder:
        blob = recorder.blob(b"x", "../../../outside.txt")
        recorder.append(events.Artifact("../../..", blob, "../x", {"\ud800": "\ud800"}), events.Status(0, "finished"))
        recorder.close("finished")
    parquet.export_parquet(tmp_path / "run", tmp_path / "deep" / "out", "../../up")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "deep"}
    assert {path.name for path in (tmp_path / "deep" / "out").iterdir()} == {"data", "files"}


def test_a_missing_package_is_one_line_with_the_command(finished_run, tmp_path, monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: (_ for _ in ()).throw(ImportError(name))
                        if name.startswith("pyarrow") else real(name, *rest))
    with pytest.raises(errors.UserError, match=r"pip install 'mnist-jax\[parquet\]'"):
        parquet.export_parquet(finished_run, tmp_path)


def test_a_large_run_is_cut_into_parts(tmp_path, monkeypatch):
    run = odd_record.write(tmp_path / "run")
    monkeypatch.setattr(parquet, "_FILE_BYTES", 1)
    monkeypatch.setattr(parquet, "_ROWS", 100)
    paths = parquet.export_parquet(tmp_path / "run", tmp_path / "out")
    assert len(paths) > 3
    points = [(int(row["step"]), row["float_value"]) for row in rows_of(paths) if row["attribute_path"] == "m"]
    assert points == list(zip(*records.series_of(run)["m"], strict=True))
