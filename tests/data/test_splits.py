"""The same data has the same digest whichever files it came from, is decoded once, and damage is named."""

import dataclasses
import gzip
import hashlib
import http.server
import multiprocessing
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import errors
from mnist_jax.data import idx, splits
from mnist_jax.train import config_file
from tests.helpers import datasets
from tests.helpers.datasets import write_idx

REAL = Path(__file__).parents[3] / "shared"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MNIST_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(folder: Path | str, name: str = "mnist", validation_examples: int = 100, split_seed: int = 0) -> splits.Splits:
    return splits.load_data(name, str(folder), validation_examples, split_seed)


def digests(loaded: splits.Splits) -> list[str]:
    return [split.digest for split in (loaded.train, loaded.validation, loaded.test)]


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_gzipped_files_and_another_order_are_the_same_data(idx_folder, tmp_path, cache):
    plain = load(idx_folder)
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    order = np.random.default_rng(1).permutation(600)
    for split, rows in (("train", order), ("test", np.arange(200))):
        images, labels = idx.read(*idx.find(idx_folder)[split])
        for name, array in zip(idx.FILES[split], (images[rows, ..., 0], labels[rows]), strict=True):
            write_idx(shuffled / f"{name}.gz", array)
    assert digests(load(shuffled)) == digests(plain)
    assert (plain.origin, plain.version) == ("idx", "unknown")


def test_one_changed_pixel_is_other_data(idx_folder, tmp_path, cache):
    before = digests(load(idx_folder))
    changed = copy(idx_folder, tmp_path / "changed")
    content = bytearray((changed / "t10k-images-idx3-ubyte").read_bytes())
    content[-1] ^= 1
    (changed / "t10k-images-idx3-ubyte").write_bytes(content)
    after = digests(load(changed))
    assert after[:2] == before[:2] and after[2] != before[2]


def test_the_held_out_examples_depend_on_their_own_seed_alone(idx_folder, cache):
    loaded = load(idx_folder)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (500, 100, 200)
    rows = [row.tobytes() for part in (loaded.train, loaded.validation) for row in part.images]
    assert len(set(rows)) == 600
    assert digests(load(idx_folder)) == digests(loaded)
    assert digests(load(idx_folder, split_seed=1))[1] != digests(loaded)[1]
    assert len(load(idx_folder, validation_examples=0).train) == 600
    with pytest.raises(errors.UserError, match="fewer than the 600"):
        load(idx_folder, validation_examples=600)


def test_files_are_decoded_once(idx_folder, cache, monkeypatch):
    before = digests(load(idx_folder))
    monkeypatch.setattr(idx, "read", lambda *_: pytest.fail("decoded again"))
    assert digests(load(idx_folder)) == before


def test_a_damaged_cache_is_made_again_at_every_position(idx_folder, cache):
    before = digests(load(idx_folder))
    (path,) = cache.glob("*.npz")
    whole = path.read_bytes()
    for position in [*np.random.default_rng(0).integers(0, len(whole), 40).tolist(), 0, len(whole) - 1]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1:])
        assert digests(load(idx_folder)) == before
    path.write_bytes(whole[:len(whole) // 2])
    assert digests(load(idx_folder)) == before


def test_a_cache_that_cannot_be_written_is_no_error(idx_folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MNIST_JAX_CACHE", str(tmp_path / "file" / "cache"))
    assert len(load(idx_folder).test) == 200


def _digests_of(folder: Path) -> list[str]:
    return digests(load(folder))


def test_processes_may_start_at_once_on_an_empty_cache(idx_folder, cache):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        found = pool.map(_digests_of, [idx_folder] * 4, chunksize=1)
    assert all(result == found[0] for result in found)
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


@pytest.mark.parametrize(("name", "change", "said"), [
    ("train-images-idx3-ubyte", lambda content: content[:-1], "truncated"),
    ("train-images-idx3-ubyte", lambda content: content[:6], "begins with"),
    ("train-images-idx3-ubyte", lambda content: b"", "nothing"),
    ("train-images-idx3-ubyte", lambda content: content + b"x", "not whole"),
    ("train-labels-idx1-ubyte", lambda content: b"\x00\x00\x08\x03" + content[4:], "begins with 0x0801"),
    ("train-labels-idx1-ubyte", lambda content: content[:-1] + b"\x0a", "from 0 to 9"),
    ("train-labels-idx1-ubyte", lambda content: gzip.compress(content)[:-9], "damaged or truncated"),
    ("t10k-labels-idx1-ubyte", lambda content: content[:7] + b"\x05" + content[8:13], "a label for each"),
    ("t10k-images-idx3-ubyte", lambda content: content[:11] + b"\x0e" + content[12:16 + 200 * 14 * 28], "28x28"),
])
def test_a_damaged_file_is_named(idx_folder, tmp_path, cache, name, change, said):
    folder = copy(idx_folder, tmp_path / "damaged")
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(errors.UserError, match=said) as caught:
        load(folder)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_data_is_named(tmp_path, cache):
    with pytest.raises(errors.UserError, match="found neither in"):
        load(tmp_path)


def test_the_digits_are_embedded_and_always_the_same():
    loaded = load("", name="digits", validation_examples=180)
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
    loaded = load("")
    assert loaded.origin == "download" and loaded.version == "3.0.1"
    assert digests(loaded) == digests(load(idx_folder))
    asked.clear()
    assert digests(load("")) == digests(loaded) and not asked


def test_a_download_with_another_checksum_is_refused(published):
    files, _, _ = published
    name = "/t10k-labels-idx1-ubyte.gz"
    files[name] = files[name][:-1] + b"x"
    with pytest.raises(errors.UserError, match="published checksum") as caught:
        load("")
    assert name[1:] in str(caught.value) and "TFDS_DATA_DIR" in str(caught.value)


def test_a_server_that_is_gone_names_the_ways_out(published):
    _, _, server = published
    server.shutdown()
    server.server_close()
    with pytest.raises(errors.UserError, match="TFDS_DATA_DIR.*data_dir.*digits"):
        load("")


@pytest.fixture
def tfds_folder(idx_folder, tmp_path) -> Path:
    datasets.write(tmp_path / "tfds", {split: idx.read(*files) for split, files in idx.find(idx_folder).items()})
    return tmp_path / "tfds"


def shard(folder: Path, split: str) -> Path:
    (found,) = (folder / "mnist" / datasets.VERSION).glob(f"mnist-{split}.array_record-*")
    return found


def test_what_tfds_prepared_is_the_same_data_as_idx_files(tfds_folder, idx_folder, cache):
    there, files = load(tfds_folder), load(idx_folder)
    assert digests(there) == digests(files)
    assert (there.origin, there.version, files.version) == ("tfds", datasets.VERSION, "unknown")


def test_tfds_is_looked_for_where_tfds_looks(tfds_folder, cache, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_folder))
    assert load("").origin == "tfds"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_cut_shard_of_tfds_is_named(tfds_folder, cache, share):
    content = shard(tfds_folder, "test").read_bytes()
    shard(tfds_folder, "test").write_bytes(content[:int(len(content) * share)])
    with pytest.raises(errors.UserError, match="TFDS mnist.*prepare it again"):
        load(tfds_folder)


def test_a_missing_shard_of_tfds_is_named(tfds_folder, cache):
    shard(tfds_folder, "train").unlink()
    with pytest.raises(errors.UserError, match="TFDS mnist.*prepare it again"):
        load(tfds_folder)


def test_pictures_of_another_kind_in_tfds_are_named(idx_folder, tmp_path, cache):
    arrays = {split: idx.read(*files) for split, files in idx.find(idx_folder).items()}
    datasets.write(tmp_path / "tfds", {split: (images[:, ::2], labels) for split, (images, labels) in arrays.items()})
    with pytest.raises(errors.UserError, match=r"28x28 bytes, found uint8 of \(14, 28\)"):
        load(tmp_path / "tfds")


def test_labels_of_other_classes_in_tfds_are_named(idx_folder, tmp_path, cache):
    arrays = {split: idx.read(*files) for split, files in idx.find(idx_folder).items()}
    datasets.write(tmp_path / "tfds", {split: (images, labels + 1) for split, (images, labels) in arrays.items()})
    with pytest.raises(errors.UserError, match="labels from 0 to 9, found 1 to 10"):
        load(tmp_path / "tfds")


if REAL.is_dir():  # real MNIST lies beside the checkout: then these run, too

    def test_real_mnist_is_the_same_from_tfds_and_from_idx(cache):
        prepared = load(REAL / "tensorflow_datasets", validation_examples=5_000)
        files = load(REAL / "mnist_idx", validation_examples=5_000)
        assert digests(prepared) == digests(files) and prepared.version == files.version == "3.0.1"
        assert (prepared.origin, files.origin) == ("tfds", "idx")
        assert (len(prepared.train), len(prepared.validation), len(prepared.test)) == (55_000, 5_000, 10_000)

    def test_real_mnist_is_learned(tmp_path, tiny):
        from mnist_jax.train import experiment
        config = config_file.load_config("configs/mlp.py")
        config.epochs = 1
        config.dataset.data_dir = str(REAL / "mnist_idx")
        result = experiment.run(config, workdir=tmp_path / "run", watch=False)
        assert result.metrics["test/accuracy"] > 0.96
