"""What shows no digit is named."""


import pytest
from PIL import Image

from mnist_jax import errors
from mnist_jax.data import pictures


def test_a_blank_picture_is_reported(tmp_path):
    Image.new("L", (100, 100), 255).save(tmp_path / "blank.png")
    with pytest.raises(errors.UserError, match="blank"):
        pictures.read(tmp_path / "blank.png")
