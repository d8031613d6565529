"""Bytes are stored once, whole or not at all, and a changed byte is found."""

import os

import pytest

from mnist_jax import errors, events
from mnist_jax.record import blobs, files, reader, writer
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


@pytest.mark.parametrize("address", ["../../id_rsa", "/etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "", 5, None])
def test_an_address_that_is_no_digest_is_refused(tmp_path, address):
    blob = events.Blob(address, 10, "file")
    for look_up in (lambda: blobs.path(tmp_path, blob), lambda: blobs.read(tmp_path, blob),
                    lambda: blobs.VerifiedPaths(tmp_path)(blob)):
        with pytest.raises(errors.RecordError, match="as its address"):
            look_up()


def _replace(path, what):
    content = path.read_bytes()
    path.unlink()
    match what:
        case "link":
            path.with_name("elsewhere").write_bytes(content)
            path.symlink_to("elsewhere")
        case "folder":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "longer":
            path.write_bytes(content + b"x")
        case "sparse":
            with path.open("wb") as file:
                file.truncate(2**40)
        case "another byte":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize("what", ["link", "folder", "FIFO", "longer", "sparse", "another byte", "nothing"])
def test_what_is_no_file_of_these_bytes_is_refused_by_every_reader(run, what):
    (path,) = (run / "blobs").iterdir()
    blob = reader.read(run).of(events.Artifact)[0].blob
    paths = blobs.VerifiedPaths(run)
    assert blobs.read(run, blob) == paths(blob).read_bytes()
    _replace(path, what)
    for look_up in (lambda: blobs.read(run, blob), lambda: paths(blob), lambda: blobs.VerifiedPaths(run)(blob)):
        with pytest.raises(errors.RecordError, match=r"file\.txt"):
            look_up()


def test_a_large_damaged_file_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_AT_ONCE", 10)
    (tmp_path / "large").write_bytes(b"x" * 1000)
    monkeypatch.setattr(files, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="digest"):
        files.read_verified(tmp_path / "large", "0" * 64)
