"""A damaged IDX file is named."""

import gzip
import shutil

import pytest

from mnist_jax import errors
from tests.helpers import datasets


@pytest.mark.parametrize(("name", "change", "message"), [
    ("train-images-idx3-ubyte", lambda content: content[:-1], "truncated"),
    ("train-images-idx3-ubyte", lambda content: content[:6], "begins with"),
    ("train-images-idx3-ubyte", lambda content: b"", "nothing"),
    ("train-images-idx3-ubyte", lambda content: content + b"x", "truncated or damaged"),
    ("train-labels-idx1-ubyte", lambda content: b"\x00\x00\x08\x03" + content[4:], "begins with 0x0801"),
    ("train-labels-idx1-ubyte", lambda content: content[:-1] + b"\x0a", "from 0 to 9"),
    ("train-labels-idx1-ubyte", lambda content: gzip.compress(content)[:-9], "damaged or truncated"),
    ("t10k-labels-idx1-ubyte", lambda content: content[:7] + b"\x05" + content[8:13], "a label for each"),
    ("t10k-images-idx3-ubyte", lambda content: content[:11] + b"\x0e" + content[12:16 + 200 * 14 * 28], "28x28"),
])
def test_a_damaged_file_is_named(idx_folder, tmp_path, cache, name, change, message):
    folder = shutil.copytree(idx_folder, tmp_path / "damaged")
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(errors.UserError, match=message) as caught:
        datasets.load(folder)
    assert name in str(caught.value) and "\n" not in str(caught.value)
