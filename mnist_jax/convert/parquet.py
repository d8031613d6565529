"""Exports a record as parquet in the published schema of neptune-exporter: one row a value, and files.

The layout is that exporter's: `data/<project>/<run>_part_<n>.parquet` and `files/<project>/<run>/...`, each name made
safe, with a digest of the original. Its loaders move such a folder to MLflow, W&B, Comet and others.
"""

from __future__ import annotations

import decimal
import hashlib
import itertools
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_jax import errors, events
from mnist_jax.record import reader

PROJECT = "mnist-jax/runs"
_ROWS = 100_000  # in one batch
_FILE_BYTES = 50 * 2**20  # a larger parquet file is complete
_NAME_CHARACTERS = 120
_LAST_SECOND = 253_402_300_799  # of the year 9999, beyond which readers of a timestamp fail
_STEP_DIGITS = decimal.Decimal("0.000001")
_STEP_LIMIT = 10**12  # decimal(18, 6) holds no larger step

_Row = dict[str, Any]


def export_parquet(directory: Path | str, folder: Path | str, project: str = PROJECT) -> list[Path]:
    """Write a run's record as parquet; return the parquet files. An earlier export of the run is replaced.

    Args:
      directory: the run's directory.
      folder: receives `data/` and `files/`.
      project: what the schema calls project_id.

    Raises:
      UserError: pyarrow is not installed, there is no run, or the folder cannot be written.
      RecordError: the record is damaged.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise errors.UserError("parquet: expected the package pyarrow, found that it is not installed; "
                               "run: pip install 'mnist-jax[parquet]'") from None
    if len(project) > _NAME_CHARACTERS:
        raise errors.UserError(f"parquet: expected a project of at most {_NAME_CHARACTERS} characters, found {len(project)}")
    record = reader.read(directory)
    folder = Path(folder)
    data, files = folder / "data" / _safe(project), folder / "files" / _safe(project) / _safe(record.run.id)
    try:
        data.mkdir(parents=True, exist_ok=True)
        for old in data.glob(f"{_safe(record.run.id)}_part_*.parquet*"):
            old.unlink()
        schema = _schema(pyarrow)
        paths: list[Path] = []
        rows = _rows(record, files, folder / "files")
        while batch := _batch(rows, {"project_id": project, "run_id": record.run.id}):
            path = data / f"{_safe(record.run.id)}_part_{len(paths)}.parquet.tmp"
            # A file, since pyarrow takes no path with bytes that are not UTF-8.
            with path.open("wb") as file, pyarrow.parquet.ParquetWriter(file, schema, compression="snappy") as writer:
                while batch:
                    writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))
                    if path.stat().st_size > _FILE_BYTES:
                        break
                    batch = _batch(rows, {"project_id": project, "run_id": record.run.id})
            paths.append(path)
        for path in reversed(paths):  # the first last, since a loader takes it for the sign of a complete run
            path.rename(path.with_suffix(""))
    except OSError as error:
        raise errors.UserError(f"{folder}: expected a folder to write to, found: {error.strerror or error}") from error
    finally:
        for path in data.glob(f"{_safe(record.run.id)}_part_*.parquet.tmp"):
            path.unlink()
    return [path.with_suffix("") for path in paths]


def _schema(pyarrow: Any) -> Any:
    """Return neptune-exporter's schema (its model.py, Apache-2.0)."""
    text, number, moment = pyarrow.string(), pyarrow.float64(), pyarrow.timestamp("ms", tz="UTC")
    histogram = pyarrow.struct([("type", text), ("edges", pyarrow.list_(number)), ("values", pyarrow.list_(number))])
    return pyarrow.schema([
        ("project_id", text), ("run_id", text), ("attribute_path", text), ("attribute_type", text),
        ("step", pyarrow.decimal128(18, 6)), ("timestamp", moment), ("int_value", pyarrow.int64()), ("float_value", number),
        ("string_value", text), ("bool_value", pyarrow.bool_()), ("datetime_value", moment),
        ("string_set_value", pyarrow.list_(text)), ("file_value", pyarrow.struct([("path", text)])),
        ("histogram_value", histogram)])


def _batch(rows: Iterator[_Row], identity: _Row) -> list[_Row]:
    return [{name: _text(value) for name, value in {**identity, **row}.items()}
            for row in itertools.islice(rows, _ROWS)]


def _rows(record: reader.RunRecord, files: Path, root: Path) -> Iterator[_Row]:
    """Yield a row for every value of a run, under the paths of our Neptune tracker."""
    run = record.run
    yield from _field("sys/custom_run_id", run.id)
    yield from _field("sys/name", run.name)
    yield from _field("sys/description", run.description)
    yield from _field("sys/failed", record.status != "finished")
    yield {"attribute_path": "sys/creation_time", "attribute_type": "datetime", "datetime_value": _milliseconds(run.created)}
    yield {"attribute_path": "sys/tags", "attribute_type": "string_set", "string_set_value": list(run.tags)}
    yield from _fields("run", {"id": run.id, "command": list(run.command), "parent": run.parent, "config": dict(run.config),
                               "steps_per_epoch": run.steps_per_epoch, "status": record.status})
    for entry in record.entries:
        yield from _event(record, entry, files, root)


def _event(record: reader.RunRecord, entry: reader.Entry, files: Path, root: Path) -> Iterator[_Row]:
    def file(path: str, blob: events.Blob, **more: Any) -> _Row:
        place = files / _safe(path) / (_safe(str(more["step"])) if "step" in more else "") / _file_name(blob.name)
        _write(place, record.bytes_of(blob))
        more = {"attribute_type": "file", **more}
        return {"attribute_path": path, "file_value": {"path": place.relative_to(root).as_posix()}, **more}

    def series(path: str, step: int, kind: str, **value: Any) -> _Row:
        return {"attribute_path": path, "attribute_type": kind, "step": _decimal(step), "timestamp": _milliseconds(entry.time),
                **value}

    match entry.event:
        case events.Environment(facts=facts):
            yield from _fields("environment", facts)
        case events.Source(commit=commit, branch=branch, remote=remote, dirty=dirty, patch=patch, files=sources):
            yield from _fields("source", {"commit": commit, "branch": branch, "remote": remote, "dirty": dirty})
            if patch is not None:
                yield file("source/patch", patch)
            yield from (file(f"source/files/{blob.name}", blob) for blob in sources)
        case events.Dataset() as data:
            facts = {name: getattr(data, name) for name in ("name", "version", "digest", "examples", "origin")}
            yield from _fields(f"datasets/{data.split}", {**facts, "shape": data.shape, "class_counts": data.class_counts})
        case events.Hyperparameters(values=values):
            yield from _fields("parameters", {name.replace(".", "/"): value for name, value in values.items()})
        case events.Metrics(steps=steps, values=values, times=times):
            for name, column in values.items():
                for step, value, time in zip(steps.tolist(), column.tolist(), times.tolist(), strict=True):
                    yield {"attribute_path": name, "attribute_type": "float_series", "step": _decimal(step),
                           "timestamp": _milliseconds(time), "float_value": value}
        case events.Image(name=name, step=step, blob=blob):
            yield file(f"images/{name}", blob, **series("", step, "file_series")) | {"attribute_path": f"images/{name}"}
        case events.Artifact(name=name, blob=blob, kind=kind, metadata=metadata):
            yield file(f"artifacts/{name}", blob)
            yield from _fields(f"artifacts_metadata/{name}", {"kind": kind, "sha256": blob.sha256, **metadata})
        case events.Model(name=name, blob=blob) as model:
            yield file(f"models/{name}/{model.version}", blob)
            origin: dict[str, Any] = {"step": model.step, "sha256": blob.sha256, "datasets": model.datasets,
                                      "parents": model.parents}
            yield from _fields(f"models_metadata/{name}/{model.version}",
                               {**origin, **{f"scores/{score}": value for score, value in model.scores.items()},
                                **{f"metadata/{key}": value for key, value in model.metadata.items()}})
        case events.Text(name=name, step=step, text=text):
            yield series(f"texts/{name}", step, "string_series", string_value=text)
        case events.Status(step=step, state=state):
            yield series("run/status", step, "string_series", string_value=state)


def _fields(prefix: str, values: Any) -> Iterator[_Row]:
    for name, value in values.items():
        yield from _field(f"{prefix}/{name}", value)


def _field(path: str, value: Any) -> Iterator[_Row]:
    if isinstance(value, bool):
        kind = "bool"
    elif isinstance(value, int) and abs(value) < 2**63:
        kind = "int"
    elif isinstance(value, float):
        kind = "float"
    else:
        kind, value = "string", value if isinstance(value, str) else json.dumps(value)
    yield {"attribute_path": path, "attribute_type": kind, f"{kind}_value": value}


def _text(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value  # no lone surrogates


def _decimal(step: int) -> decimal.Decimal:
    if abs(step) >= _STEP_LIMIT:
        raise errors.UserError(f"parquet: expected steps below {_STEP_LIMIT}, which the schema holds; found {step}")
    return decimal.Decimal(step).quantize(_STEP_DIGITS)


def _milliseconds(time: float) -> int | None:
    return round(time * 1000) if abs(time) < _LAST_SECOND else None


def _safe(part: str) -> str:
    """Return a name as that exporter makes it: other characters become underscores, and a digest follows."""
    clean = "".join(character if character.isalnum() or character in "_-" else "_" for character in part)
    return f"{clean[:_NAME_CHARACTERS]}-{hashlib.blake2b(part.encode(errors='replace'), digest_size=8).hexdigest()}"


def _file_name(name: str) -> str:
    """Return the last part of a blob's name, safe in a folder; its suffix tells loaders an image from another file."""
    stem, dot, suffix = name.replace("\\", "/").rpartition("/")[2].rpartition(".")
    return f"{_safe(stem or suffix)}{dot}{''.join(filter(str.isalnum, suffix))[:16]}" if dot and stem else _safe(name)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(4)}.partial")
    partial.write_bytes(data)
    os.replace(partial, path)
