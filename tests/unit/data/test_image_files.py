"""Images come as raw RGB, and a bad one gives one sentence."""

import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refer_files import TinyRefer

from locheads.data.image_files import check_image_folder, open_image, read_image, to_rgb
from locheads.errors import DataError
from locheads.types import ImageGroup


@pytest.fixture
def group(tiny: TinyRefer) -> ImageGroup:
    tiny.write_images()
    return tiny.read()[0]


def test_opens_as_rgb(group: ImageGroup) -> None:
    image = open_image(group)
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert np.abs(np.asarray(image).astype(int) - (9, 100, 200)).max() <= 4


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_other_modes_become_rgb(group: ImageGroup, mode: str) -> None:
    suffix = ".tif" if mode == "CMYK" else ".png"
    other = replace(group, path=group.path.with_suffix(suffix))
    Image.new(mode, (60, 40)).save(other.path)
    assert open_image(other).mode == "RGB"


def test_exif_rotation_is_not_applied(group: ImageGroup) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees when shown"
    Image.fromarray(pixels).save(group.path, quality=95, exif=exif)
    image = np.asarray(open_image(group))
    assert image.shape == (40, 60, 3)
    assert image[:18].min() > 200
    assert image[22:].max() < 50


def test_an_image_is_turned_upright_where_asked(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", upright=True), np.rot90(pixels, -1))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_keep_their_ramp(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(256, dtype=np.uint16)[None].repeat(4, 0) * 257
    Image.fromarray(ramp).save(tmp_path / f"ramp{suffix}")
    for image in (read_image(tmp_path / f"ramp{suffix}"), to_rgb(Image.fromarray(ramp))):
        np.testing.assert_array_equal(image, (ramp // 257)[..., None].repeat(3, 2))


def test_big_endian_16_bits_keep_their_ramp(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=">u2")[None].repeat(4, 0) * 257
    image = Image.frombytes("I;16B", (256, 4), ramp.astype(">u2").tobytes())
    np.testing.assert_array_equal(np.asarray(to_rgb(image))[0, :, 0], np.arange(256))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif has pixels of 32 bits \(mode [IF]\): save it with 8 or 16 bits\.$"):
        read_image(tmp_path / "a.tif")


def _huge_png(path: Path) -> None:
    """A header of 60,000 x 60,000 pixels and next to no data."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:1500])


def _truncated_png(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:900])


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD = {
    "absent": (Path.unlink, r" is not there: check paths\.data and dataset\.images\.$"),
    "empty": (
        lambda path: path.write_bytes(b""),
        r" cannot be read \(the file is empty\): copy or download it again\.$",
    ),
    "text": (
        lambda path: path.write_text("<html>404</html>"),
        r" cannot be read \(it is no image in a known format",
    ),
    "half a header": (lambda path: path.write_bytes(path.read_bytes()[:30]), " cannot be read "),
    "truncated": (_truncate, r" cannot be read \(.*truncated"),
    "truncated png": (_truncated_png, " cannot be read "),
    "bomb": (_huge_png, r" cannot be read \(it claims more pixels than is safe to decode\)"),
    "other size": (
        lambda path: Image.new("RGB", (40, 60)).save(path),
        " has 40 x 60 pixels, but its annotations are for 60 x 40, width and height exchanged: correct the annotations",
    ),
    "directory": (_directory, " cannot be read "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_images(group: ImageGroup, case: str) -> None:
    damage, text = BAD[case]
    damage(group.path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"^The image .*000009\.jpg of image 9" + text) as caught:
            open_image(group)
    assert "\n" not in str(caught.value)


def test_image_folder(tmp_path: Path) -> None:
    check_image_folder(tmp_path)
    with pytest.raises(DataError, match=r"The image folder .*train2014 is not there: set paths\.data"):
        check_image_folder(tmp_path / "train2014")
