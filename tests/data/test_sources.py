"""Data from IDX files, TFDS or the network is the same data, decoded once, and what cannot be had is named."""

import dataclasses
import gzip
import hashlib
import http.server
import multiprocessing
import threading
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import errors
from mnist_jax.data import idx
from tests.helpers import datasets


def test_gzipped_files_and_another_order_are_the_same_data(idx_folder, tmp_path, cache):
    plain = datasets.load(idx_folder)
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    order = np.random.default_rng(1).permutation(600)
    for split, rows in (("train", order), ("test", np.arange(200))):
        images, labels = idx.read(*(idx.find(idx_folder) or {})[split])
        for name, array in zip(idx.FILES[split], (images[rows, ..., 0], labels[rows]), strict=True):
            datasets.write_idx(shuffled / f"{name}.gz", array)
    assert datasets.digests(datasets.load(shuffled)) == datasets.digests(plain)
    assert (plain.origin, plain.version) == ("idx", "unknown")


def test_files_are_decoded_once(idx_folder, cache, monkeypatch):
    before = datasets.digests(datasets.load(idx_folder))
    monkeypatch.setattr(idx, "read", lambda *_: pytest.fail("decoded again"))
    assert datasets.digests(datasets.load(idx_folder)) == before


def test_a_damaged_cache_is_made_again_at_every_position(idx_folder, cache):
    before = datasets.digests(datasets.load(idx_folder))
    (path,) = cache.glob("*.npz")
    whole = path.read_bytes()
    for position in [*np.random.default_rng(0).integers(0, len(whole), 40).tolist(), 0, len(whole) - 1]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1:])
        assert datasets.digests(datasets.load(idx_folder)) == before
    path.write_bytes(whole[:len(whole) // 2])
    assert datasets.digests(datasets.load(idx_folder)) == before


def test_a_cache_that_cannot_be_written_is_no_error(idx_folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MNIST_JAX_CACHE", str(tmp_path / "file" / "cache"))
    assert len(datasets.load(idx_folder).test) == 200


def _digests_of(folder: Path) -> list[str]:
    return datasets.digests(datasets.load(folder))


def test_processes_may_start_at_once_on_an_empty_cache(idx_folder, cache):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        found = pool.map(_digests_of, [idx_folder] * 4, chunksize=1)
    assert all(result == found[0] for result in found)
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


def test_a_folder_without_data_is_named(tmp_path, cache):
    with pytest.raises(errors.UserError, match="found neither in"):
        datasets.load(tmp_path)


def test_the_digits_are_embedded_and_always_the_same():
    loaded = datasets.load("", name="digits", validation_examples=180)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (1257, 180, 360)
    assert loaded.test.images.shape == (360, 28, 28, 1) and loaded.test.images.dtype == np.uint8
    assert loaded.test.digest == "31f5a15f27dfe81a232a5c1f1f4ac45a4fc648dce93c90787efb26db42634247"
    assert min(loaded.train.class_counts()) > 100


@pytest.fixture
def published(idx_folder, cache, monkeypatch):
    """Publish the small data set on a server of this machine, as the TFDS builder's address with its checksums."""
    import tensorflow_datasets as tfds

    files = {f"/{path.name}.gz": gzip.compress(path.read_bytes(), mtime=0) for path in idx_folder.iterdir()}
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[self.path])))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(files[self.path])

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    builder = tfds.builder_cls("mnist")
    address = f"http://127.0.0.1:{server.server_port}/"
    some = next(iter(builder.url_infos.values()))
    infos = {address + name[1:]: dataclasses.replace(some, size=len(content), checksum=hashlib.sha256(content).hexdigest(),
                                                     filename=name[1:]) for name, content in files.items()}
    monkeypatch.setattr(builder, "URL", address)
    monkeypatch.setattr(builder, "url_infos", infos)
    monkeypatch.setenv("HOME", str(cache.parent))
    yield files, asked, server
    server.shutdown()
    server.server_close()


def test_what_is_not_on_disk_is_downloaded_once(published, idx_folder):
    _, asked, _ = published
    loaded = datasets.load("")
    assert loaded.origin == "download" and loaded.version == "3.0.1"
    assert datasets.digests(loaded) == datasets.digests(datasets.load(idx_folder))
    asked.clear()
    assert datasets.digests(datasets.load("")) == datasets.digests(loaded) and not asked


def test_a_download_with_another_checksum_is_refused(published):
    files, _, _ = published
    name = "/t10k-labels-idx1-ubyte.gz"
    files[name] = files[name][:-1] + b"x"
    with pytest.raises(errors.UserError, match="published checksum") as caught:
        datasets.load("")
    assert name[1:] in str(caught.value) and "TFDS_DATA_DIR" in str(caught.value)


def test_a_server_that_is_gone_names_the_ways_out(published):
    _, _, server = published
    server.shutdown()
    server.server_close()
    with pytest.raises(errors.UserError, match="TFDS_DATA_DIR.*data_dir.*digits"):
        datasets.load("")


@pytest.fixture
def tfds_folder(idx_folder, tmp_path) -> Path:
    datasets.write(tmp_path / "tfds", {split: idx.read(*files) for split, files in idx.find(idx_folder).items()})
    return tmp_path / "tfds"


def shard(folder: Path, split: str) -> Path:
    (found,) = (folder / "mnist" / datasets.VERSION).glob(f"mnist-{split}.array_record-*")
    return found


def test_what_tfds_prepared_is_the_same_data_as_idx_files(tfds_folder, idx_folder, cache):
    there, files = datasets.load(tfds_folder), datasets.load(idx_folder)
    assert datasets.digests(there) == datasets.digests(files)
    assert (there.origin, there.version, files.version) == ("tfds", datasets.VERSION, "unknown")


def test_tfds_is_looked_for_where_tfds_looks(tfds_folder, cache, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_folder))
    assert datasets.load("").origin == "tfds"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_cut_shard_of_tfds_is_named(tfds_folder, cache, share):
    content = shard(tfds_folder, "test").read_bytes()
    shard(tfds_folder, "test").write_bytes(content[:int(len(content) * share)])
    with pytest.raises(errors.UserError, match="TFDS mnist.*prepare it again"):
        datasets.load(tfds_folder)


def test_a_missing_shard_of_tfds_is_named(tfds_folder, cache):
    shard(tfds_folder, "train").unlink()
    with pytest.raises(errors.UserError, match="TFDS mnist.*prepare it again"):
        datasets.load(tfds_folder)


def test_pictures_of_another_kind_in_tfds_are_named(idx_folder, tmp_path, cache):
    arrays = {split: idx.read(*files) for split, files in idx.find(idx_folder).items()}
    datasets.write(tmp_path / "tfds", {split: (images[:, ::2], labels) for split, (images, labels) in arrays.items()})
    with pytest.raises(errors.UserError, match=r"28x28 bytes, found uint8 of \(14, 28\)"):
        datasets.load(tmp_path / "tfds")


def test_labels_of_other_classes_in_tfds_are_named(idx_folder, tmp_path, cache):
    arrays = {split: idx.read(*files) for split, files in idx.find(idx_folder).items()}
    datasets.write(tmp_path / "tfds", {split: (images, labels + 1) for split, (images, labels) in arrays.items()})
    with pytest.raises(errors.UserError, match="labels from 0 to 9, found 1 to 10"):
        datasets.load(tmp_path / "tfds")
