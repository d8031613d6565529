"""Bytes are stored once, whole or not at all, and a changed byte is found."""

import os

import pytest

from mnist_jax import errors, events
from mnist_jax.record import files, reader, writer
from tests.helpers import records


def test_a_changed_blob_is_found(run):
    (blob,) = (run / "blobs").iterdir()
    blob.write_bytes(b"bytez")
    recorded = reader.read(run)
    with pytest.raises(errors.RecordError, match=r"file\.txt"):
        recorded.bytes_of(recorded.of(events.Artifact)[0].blob)


def test_the_same_bytes_are_kept_once(run, tmp_path):
    with writer.create(tmp_path / "other", records.info()) as recorder:
        assert recorder.blob(b"x", "a").sha256 == recorder.blob(b"x", "b").sha256
    assert len(os.listdir(tmp_path / "other" / "blobs")) == 1


def test_an_atomic_write_leaves_no_partial_file(tmp_path):
    files.write_atomically(tmp_path / "file", b"one")
    files.write_atomically(tmp_path / "file", b"two")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"two"
