"""Images as masks: what is not black is the object, whatever the kind of file; anything else is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_files import HEIGHT, WIDTH, decoded, jsonl, make_image, samples_of
from PIL import Image
from refer_files import block_mask

from locheads.data.image_files import read_mask
from locheads.data.jsonl import JsonlDataSet
from locheads.errors import DataError

MASK = block_mask(HEIGHT, WIDTH, (5, 6, 25, 20))
GREY = (MASK * 255).astype(np.uint8)


def _rgba(alpha: np.ndarray | int, grey: np.ndarray = GREY) -> Image.Image:
    return Image.fromarray(np.dstack([grey, grey, grey, np.broadcast_to(np.uint8(alpha), grey.shape)]))


def _palette(indices: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([value for colour in colours for value in colour])
    return image


def _transparent(indices: np.ndarray) -> Image.Image:
    image = _palette(indices, (0, 0, 0), (200, 0, 0))
    image.info["transparency"] = 1  # the object is invisible, and still the object
    return image


GOOD: dict[str, Callable[[], Image.Image]] = {
    "1 bit": lambda: Image.fromarray(MASK),
    "8 bits": lambda: Image.fromarray(GREY),
    "8 bits, 0 and 1": lambda: Image.fromarray(MASK.astype(np.uint8)),
    "16 bits, 0 and 1": lambda: Image.fromarray(MASK.astype(np.uint16)),
    "16 bits": lambda: Image.fromarray((MASK * 65535).astype(np.uint16)),
    "32 bits": lambda: Image.fromarray(MASK.astype(np.int32)),
    "red": lambda: Image.fromarray(np.dstack([GREY, GREY * 0, GREY * 0])),
    "RGBA, opaque": lambda: _rgba(255),
    "RGBA, alpha the other way round": lambda: _rgba(255 - GREY),
    "LA, opaque": lambda: _rgba(255).convert("LA"),
    "palette": lambda: _palette(MASK, (0, 0, 0), (128, 0, 0)),
    "palette, index 0 is the object": lambda: _palette(~MASK, (128, 0, 0), (0, 0, 0)),
    "palette with transparency": lambda: _transparent(MASK),
}


@pytest.mark.parametrize("case", GOOD)
def test_the_object_is_what_is_not_black(tmp_path: Path, case: str) -> None:
    GOOD[case]().save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", (WIDTH, HEIGHT), None, "here"), MASK)


def _void() -> Image.Image:
    """As in VOC: 0, an object, and a border of index 255 in an almost white colour."""
    indices = MASK.astype(np.uint8)
    indices[5:7, 4:26] = 255
    return _palette(indices, *[(0, 0, 0), (128, 0, 0)], *[(0, 0, 0)] * 253, (224, 224, 192))


def _two_objects() -> np.ndarray:
    return MASK + block_mask(HEIGHT, WIDTH, (5, 6, 15, 20)).astype(int)


def _three() -> Image.Image:
    values = GREY.copy()
    values[0, 0] = 1
    return Image.fromarray(values)


BAD: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "void border": (_void, "which holds 3 colours instead of black and one other"),
    "one odd pixel": (_three, "which holds 3 colours"),
    "two objects": (lambda: _palette(_two_objects(), (0, 0, 0), (9, 0, 0), (0, 9, 0)), "which holds 3 colours"),
    "no black": (lambda: Image.fromarray(GREY // 2 + 1), "which holds 2 colours"),
    "shape in alpha, white": (lambda: _rgba(GREY, GREY * 0 + 255), "whose shape is in its alpha channel only"),
    "shape in alpha, black": (lambda: _rgba(GREY, GREY * 0), "whose shape is in its alpha channel only"),
    "another size": (lambda: Image.new("L", (3, 3)), "which has another size than its image"),
}


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused(tmp_path: Path, case: str) -> None:
    image, sentence = BAD[case]
    image().save(tmp_path / "m.png")
    with pytest.raises(DataError, match=rf"^here names the mask .*m\.png, {sentence}.*\.$"):
        read_mask(tmp_path / "m.png", (WIDTH, HEIGHT), None, "here")


def test_noise_of_jpeg_is_refused_or_thresholded(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "m.jpg", quality=60)
    with pytest.raises(DataError, match=r"colours instead of black and one other .* dataset\.mask_threshold"):
        read_mask(tmp_path / "m.jpg", (WIDTH, HEIGHT), None, "here")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.jpg", (WIDTH, HEIGHT), 127, "here"), MASK)


@pytest.mark.parametrize(("threshold", "count"), [(0, 3), (1, 2), (127, 2), (128, 1), (254, 1), (255, 0)])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_threshold_is_exceeded(tmp_path: Path, threshold: int, count: int, bits: int) -> None:
    values = np.array([[0, 1], [128, 255]])
    kind, factor = (np.uint8, 1) if bits == 8 else (np.uint16, 257)
    Image.fromarray((values * factor).astype(kind)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", (2, 2), threshold, "here").sum() == count


def test_fractions_are_refused(tmp_path: Path) -> None:
    Image.fromarray(MASK.astype(np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(DataError, match="pixels of 32 bits"):
        read_mask(tmp_path / "m.tif", (WIDTH, HEIGHT), None, "here")


def test_a_damaged_mask_is_one_sentence(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400), dtype=np.uint8)).save(tmp_path / "m.png")
    (tmp_path / "m.png").write_bytes((tmp_path / "m.png").read_bytes()[:5000])
    with pytest.raises(DataError, match=r"m\.png of here cannot be read \(.*\): copy or download it again\.$"):
        read_mask(tmp_path / "m.png", (400, 300), None, "here")


def _with_mask(root: Path, mask: str, **more: object) -> JsonlDataSet:
    make_image(root / "own" / "images" / "a.jpg")
    (root / "own" / "val.jsonl").write_text(f'{{"image": "a.jpg", "expression": "it", "mask": "{mask}"}}')
    return jsonl(root / "own", **more)


@pytest.mark.parametrize("name", ["../m.png", "x/../../m.png", "{root}/m.png", "../images/../../m.png"])
def test_no_name_of_a_mask_leads_out(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / "m.png")
    data = _with_mask(tmp_path, name.format(root=tmp_path))
    with pytest.raises(DataError, match=r"line 1 names the mask .*m\.png, which does not lie in .*own: write its name"):
        data.read("val")


def test_no_link_of_a_mask_leads_out_but_to_named_folders(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Image.fromarray(GREY).save(tmp_path / "elsewhere" / "m.png")
    for mask, link, target in (("m.png", "m.png", "m.png"), ("masks/m.png", "masks", "")):
        data = _with_mask(tmp_path, mask)
        (tmp_path / "own" / link).symlink_to(tmp_path / "elsewhere" / target)
        with pytest.raises(DataError, match=rf"the mask .*{mask} is a link to .*elsewhere/m\.png, outside of the data"):
            data.read("val")
        (sample,) = samples_of(_with_mask(tmp_path, mask, links=[str(tmp_path / "elsewhere")]).read("val"))
        np.testing.assert_array_equal(decoded(sample), MASK)


def test_links_within_the_folder_and_the_folder_itself_are_followed(tmp_path: Path) -> None:
    data = _with_mask(tmp_path, "m.png")
    Image.fromarray(GREY).save(tmp_path / "own" / "store.png")
    (tmp_path / "own" / "m.png").symlink_to("store.png")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    linked = jsonl(tmp_path / "link")
    for each in (data, linked):
        np.testing.assert_array_equal(decoded(samples_of(each.read("val"))[0]), MASK)
