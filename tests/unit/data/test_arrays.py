"""Images as people hand them over in Python give the same pixels, or a sentence that says what they are."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from locheads.data.arrays import as_image
from locheads.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def _png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


class Wrapped:
    """Another library's array."""

    def __array__(self, dtype=None, copy=None):
        return RGB


@pytest.mark.parametrize(
    "given",
    [
        RGB,
        RGB.astype(np.int64),
        RGB / 255,
        (RGB / 255).astype(np.float32),
        (RGB / 255 * (1 + 1e-6)).astype(np.float32),
        np.dstack([RGB, np.full_like(GREY, 7)]),
        np.asfortranarray(RGB),
        RGB[:, ::-1][:, ::-1],
        torch.tensor(RGB.transpose(2, 0, 1)),
        torch.tensor(RGB.transpose(2, 0, 1) / 255, requires_grad=True),
        Image.fromarray(RGB),
        _png(RGB),
        bytearray(_png(RGB)),
        io.BytesIO(_png(RGB)),
        Wrapped(),
    ],
)
def test_every_form_gives_the_same_pixels(given):
    image = as_image(given)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), RGB)


@pytest.mark.parametrize(
    "given",
    [GREY, GREY[..., None], GREY / 255, torch.tensor(GREY), torch.tensor(GREY[None]), Image.fromarray(GREY)],
)
def test_grey_becomes_rgb(given):
    np.testing.assert_array_equal(np.asarray(as_image(given)), np.dstack([GREY] * 3))


def test_a_16_bit_image_keeps_its_greys():
    deep = Image.fromarray((GREY.astype(np.uint16) << 8) + 5)
    np.testing.assert_array_equal(np.asarray(as_image(deep)), np.dstack([GREY] * 3))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (RGB.transpose(2, 0, 1), "channels-first [3, height, width]: give arr.transpose(1, 2, 0)"),
        (torch.tensor(RGB), "channels-last [height, width, 3]; a tensor is taken channels-first"),
        (RGB[None], "looks like a batch"),
        (torch.tensor(RGB.transpose(2, 0, 1))[None], "looks like a batch"),
        (RGB[:3], "the first or the last number may be the channels"),
        (torch.zeros(3, 20, 3), "the first or the last number may be the channels"),
        (RGB[..., :2], "has the shape [20, 30, 2]: give an array [height, width, 3]"),
        (RGB.ravel(), "has the shape [1800]: give an array"),
        (np.uint8(3), "has the shape []: give an array"),
        (RGB[:0], "without a pixel"),
        (RGB.astype(np.float32), "go from 0 to 255, not from 0 to 1: floats of 0 to 255 need .astype"),
        ((RGB / 127.5 - 1), "go from -1 to 1, not from 0 to 1: undo the normalisation"),
        (np.where(RGB > 9, np.nan, 0.5), "hold NaN or infinity"),
        (np.where(RGB > 9, np.inf, 0.5), "hold NaN or infinity"),
        (RGB.astype(np.int64) * 2, "not from 0 to 255: scale them to uint8"),
        (RGB.astype(np.int64) - 9, "go from -9 to 246, not from 0 to 255"),
        (RGB.astype(np.uint16), "(uint16) have 16 bits"),
        (RGB > 9, "(bool) are neither integers nor floats"),
        (RGB.astype(object), "(object) are neither integers nor floats"),
        (RGB.astype(complex), "(complex128) are neither integers nor floats"),
        (RGB.astype(str), "are neither integers nor floats"),
        (RGB.tolist(), "An image cannot be a list: give an array [height, width, 3]"),
        (None, "An image cannot be a NoneType"),
        (7, "An image cannot be a int"),
        (b"", "The bytes cannot be read as an image"),
        (b"\x89PNG", "The bytes cannot be read as an image"),
        (_png(RGB)[:-900], "The bytes cannot be read as an image"),
        (io.StringIO("text"), "The bytes cannot be read as an image"),
        ("https://host/a.jpg", "is an address, and nothing is downloaded here"),
        ("gone.jpg", "gone.jpg is not there"),
        (Path("gone.jpg"), "gone.jpg is not there"),
        ("a\0b.jpg", "cannot be read"),
        (Image.new("F", (3, 4)), "pixels of 32 bits"),
        (torch.zeros(3, 20, 30, device="meta"), "An image cannot be read from this Tensor"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_by_name(given, says):
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        as_image(given)
    assert "\n" not in str(caught.value)
