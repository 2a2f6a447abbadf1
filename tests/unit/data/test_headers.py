"""Annotations that mean another frame than the stored pixels are found from the images' headers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from locheads.data.headers import check_headers, read_headers
from locheads.data.image_files import image_header
from locheads.errors import DataError
from locheads.types import Box, ImageGroup, Sample

WIDTH, HEIGHT = 60, 40
BOX: Box = (10, 5, 30, 35)


def _stored(path: Path, orientation: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", size).save(path, exif=exif)
    return path


def _group(path: Path, width: int = WIDTH, height: int = HEIGHT, box: Box = BOX) -> ImageGroup:
    return ImageGroup("7", path, width, height, (Sample("s1", "r", "it", box, {}, ""),))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_from_every_format(tmp_path: Path, suffix: str, orientation: int) -> None:
    header = image_header(_stored(tmp_path / f"a{suffix}", orientation))
    assert (header.size, header.orientation) == ((WIDTH, HEIGHT), orientation)
    assert header.upright == ((HEIGHT, WIDTH) if orientation > 4 else (WIDTH, HEIGHT))


def test_a_tiff_comes_upright_from_pillow(tmp_path: Path) -> None:
    path = _stored(tmp_path / "a.tif", 6)
    with Image.open(path) as image:
        assert np.asarray(image).shape[:2] == (WIDTH, HEIGHT)
    header = image_header(path)
    assert (header.size, header.upright, header.orientation) == ((HEIGHT, WIDTH), (HEIGHT, WIDTH), 1)


def test_orientation_is_read_from_xmp(tmp_path: Path) -> None:
    more = PngImagePlugin.PngInfo()
    more.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png", pnginfo=more)
    assert image_header(tmp_path / "a.png").orientation == 6


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_means_nothing_turns_nothing(tmp_path: Path, orientation: int) -> None:
    assert image_header(_stored(tmp_path / "a.jpg", orientation)).orientation == 1


WRONG: dict[str, tuple[int, Callable[[Path], ImageGroup], str]] = {
    "upright size": (6, lambda p: _group(p, HEIGHT, WIDTH), r"as it is shown \(EXIF orientation 6\): boxes are taken"),
    "mirrored and upright size": (7, lambda p: _group(p, HEIGHT, WIDTH), r"\(EXIF orientation 7\)"),
    "exchanged": (1, lambda p: _group(p, HEIGHT, WIDTH), "width and height exchanged: correct the annotations"),
    "turned by half, exchanged": (3, lambda p: _group(p, HEIGHT, WIDTH), "width and height exchanged"),
    "another": (6, lambda p: _group(p, 30, 20), r"are for 30 x 20: put the original image there\.$"),
    "upright boxes": (8, lambda p: _group(p, box=(10, 5, 30, 55)), "sample s1 fits the image as shown only"),
}


@pytest.mark.parametrize("case", WRONG)
def test_contradictions_end_a_run(tmp_path: Path, case: str) -> None:
    orientation, group, sentence = WRONG[case]
    path = _stored(tmp_path / "a.jpg", orientation)
    with pytest.raises(DataError, match=sentence):
        check_headers([group(path)], [tmp_path])
    # The same image with annotations of its stored pixels is none.
    assert len(check_headers([_group(path)], [tmp_path])) == (orientation != 1)


def test_many_contradictions_are_counted(tmp_path: Path) -> None:
    paths = [_stored(tmp_path / f"{n}.jpg", 1) for n in range(9)]
    groups = [_group(path, 30, 20) for path in paths[:5]] + [_group(path) for path in paths[5:]]
    with pytest.raises(DataError, match=r"^5 of 9 images contradict their annotations\. The image .*0.jpg") as caught:
        check_headers(groups, [tmp_path])
    assert str(caught.value).count("The image") == 3


@pytest.mark.parametrize(("orientation", "size"), [(3, (WIDTH, HEIGHT)), (2, (WIDTH, HEIGHT)), (6, (50, 50))])
def test_turned_images_of_the_right_size_are_a_warning(
    tmp_path: Path, orientation: int, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    turned, plain = _stored(tmp_path / "a.jpg", orientation, size), _stored(tmp_path / "b.jpg", 1, size)
    (note,) = check_headers([_group(plain, *size), _group(turned, *size)], [tmp_path])
    assert note.startswith(f"1 of 2 images are turned or mirrored when shown, the first: {turned} (EXIF")
    assert "in the pixels as stored" in note
    assert caplog.messages == [note]
    assert check_headers([_group(plain, *size)], [tmp_path]) == []


def test_images_that_are_not_there_are_taken_on_trust_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    groups = [_group(tmp_path / "a.jpg"), _group(_stored(tmp_path / "b.jpg", 1))]
    assert check_headers(groups, [tmp_path]) == []
    assert caplog.messages[0].startswith("The headers of 1 of 2 images cannot be read, so their sizes")
    assert len(read_headers(groups, [tmp_path]).absent) == 1


def test_only_headers_are_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:700])
    assert check_headers([_group(tmp_path / "a.jpg")], [tmp_path]) == []
