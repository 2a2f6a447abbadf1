"""Opens the image of a group, or says in one sentence why not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from locheads.errors import DataError
from locheads.text import reason
from locheads.types import ImageGroup

_TURNING = {5, 6, 7, 8}
"""EXIF orientations that exchange width and height."""
_TAGGED = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""Where Pillow keeps what may hold an orientation."""


class Header(NamedTuple):
    """What an image's file says before its pixels."""

    size: tuple[int, int]
    """(width, height) as stored."""
    orientation: int
    """EXIF's; 1 where viewers show the pixels as they are stored."""

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) as viewers show the image."""
        return self.size[::-1] if self.orientation in _TURNING else self.size


def open_image(group: ImageGroup) -> Image.Image:
    """The group's image, or its part of the image, RGB, of exactly group.width x group.height pixels; raises DataError
    as `read_image`.

    Raises DataError also where it has another size than the annotations say, or does not hold the part.
    """
    if group.crop is None:
        return read_image(group.path, group)
    image, (_, _, right, bottom) = read_image(group.path), group.crop
    if right > image.width or bottom > image.height:
        raise DataError(f"The image {group.path} is smaller than its part {group.image_id}: put the original there.")
    return image.crop(group.crop)


def read_image(path: Path, group: ImageGroup | None = None, *, upright: bool = False) -> Image.Image:
    """An image as RGB: the pixel array as it is stored, or `upright`, as viewers show it.

    Annotated images are not turned as their EXIF says, because COCO's boxes and masks refer to the raw array.
    Raises DataError where the file is absent, empty, damaged, truncated or suspiciously large (Pillow's limit against
    decompression bombs), and as `to_rgb`.
    """
    of = "" if group is None else f"image {group.image_id}"
    with opened(path, of) as image:
        # Before the pixels are decoded: a header that lies about the size costs nothing then.
        if group is not None and (problem := size_problem(group, Header(image.size, _orientation(image)))):
            raise DataError(problem)
        # Orientation first: what is converted may have lost its EXIF.
        return to_rgb(ImageOps.exif_transpose(image) if upright else image, _named(path, of))


@contextmanager
def opened(path: Path, of: str = "") -> Iterator[Image.Image]:
    """The image, of which the header is read only; `of` names the record that it belongs to.

    Raises DataError for what goes wrong with it within, too.
    """
    name = _named(path, of)
    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        backslashes = "its name is written with backslashes, as on Windows, so write / instead"
        advice = backslashes if "\\" in path.name else "check paths.data and dataset.images"
        raise DataError(f"The image {name} is not there: {advice}.") from error
    # Pillow's decoders raise nearly anything on a damaged file (OSError, SyntaxError, ValueError, ...).
    except Exception as error:
        raise DataError(
            f"The image {name} cannot be read ({_reason(path, error)}): copy or download it again."
        ) from error


def to_rgb(image: Image.Image, name: str = "") -> Image.Image:
    """RGB of 8 bits; of 16 bits of grey the upper 8, which Pillow would clip to white.

    Raises DataError for pixels of 32 bits, of which nobody knows what is black and what is white.
    """
    if image.mode in ("I", "F"):
        raise DataError(
            f"The {f'image {name}'.strip()} has pixels of 32 bits (mode {image.mode}): save it with 8 or 16 bits."
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def image_header(path: Path, where: str = "") -> Header:
    """The size and orientation from the image's header. `where` names the record that asks for it.

    Raises DataError as `read_image`.
    """
    with opened(path, where) as image:
        return Header(image.size, _orientation(image))


def read_mask(path: Path, size: tuple[int, int], threshold: int | None, where: str) -> np.ndarray:
    """A mask image -> [height, width], True on the object: where it is not black, or brighter than `threshold`.

    Brightness is the largest of red, green and blue, 0 to 255 (of 16 bits: a 257th). Palettes are read as their
    colours, and alpha is never part of the mask. Raises DataError where the image has another size, or, without a
    threshold, anything but black and one other colour: JPEG's noise, a void border or a second object would all become
    the object.
    """
    named = f"{where} names the mask {path}, "
    with opened(path, where) as image:
        if image.size != size:
            raise DataError(f"{named}which has another size than its image: replace it.")
        if image.mode == "F" or (image.mode == "I" and threshold is not None):
            to_rgb(image, _named(path, where))  # raises: of 32 bits nobody knows what is bright
        values, shaped_by_alpha = _values(image), _shaped_by_alpha(image)
    if threshold is not None:
        return np.asarray(values.max(axis=2) // (257 if values.dtype == np.uint16 else 1) > threshold)
    # One number for a colour; a grey one is its own.
    colours = np.unique(values.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])[-values.shape[2] :])
    if len(colours) == 1 and shaped_by_alpha:
        raise DataError(f"{named}whose shape is in its alpha channel only: save it as an image of black and white.")
    if len(colours) > 2 or (len(colours) == 2 and colours[0] != 0):
        raise DataError(
            f"{named}which holds {len(colours)} colours instead of black and one other (JPEG adds noise, VOC borders): "
            "save it as PNG with black and white, or choose dataset.mask_threshold, such as 127: brighter pixels of 0 "
            "to 255 are the object."
        )
    return np.asarray(values.any(axis=2))


def read_heat(path: Path) -> np.ndarray:
    """A true heat map -> [height, width], 0 to 1: an image of 8 bits, a colour one by its brightness.

    Raises DataError where it cannot be read, and where it has one value everywhere: nothing could be found by it.
    """
    with opened(path) as image:
        if image.mode == "F" or image.mode.startswith("I"):
            raise DataError(f"The heat map {path} has pixels of more than 8 bits (mode {image.mode}): save it with 8.")
        heat = np.asarray(image.convert("L"), dtype=np.float64) / 255
    if np.ptp(heat) == 0:
        raise DataError(f"The heat map {path} has one value everywhere, so it says nothing: take it anew or remove it.")
    return heat


def _values(image: Image.Image) -> np.ndarray:
    """[height, width, 3 or 1], whole numbers, without alpha."""
    if image.mode in ("L", "I") or image.mode.startswith("I;16"):
        return np.asarray(image)[..., None]
    plain = {"RGBa": "RGBA", "La": "LA"}.get(image.mode, image.mode)
    return np.asarray(image.convert(plain).convert("RGB"))


def _shaped_by_alpha(image: Image.Image) -> bool:
    return image.has_transparency_data and len(set(image.convert("RGBA").getchannel("A").getextrema())) > 1


def check_image_folder(images: Path) -> None:
    """Raises DataError where the folder is absent: one sentence instead of a failure per sample."""
    if not images.is_dir():
        raise DataError(
            f"The image folder {images} is not there: set paths.data, or the data set's image folder, to "
            "where the images (for RefCOCO: COCO train2014) lie."
        )


def size_problem(group: ImageGroup, header: Header) -> str | None:
    """One sentence where the image has another size than the annotations say, with the reason where it shows."""
    annotated, stored = (group.width, group.height), header.size
    if annotated == stored:
        return None
    has = f"The image {group.path} of image {group.image_id} has {stored[0]} x {stored[1]} pixels"
    differs = f", but its annotations are for {annotated[0]} x {annotated[1]}"
    if annotated == header.upright:
        return (
            f"{has} as stored{differs}, as it is shown (EXIF orientation {header.orientation}): boxes are taken in the "
            "pixels as stored, so save the image upright."
        )
    if annotated == stored[::-1]:
        return f"{has}{differs}, width and height exchanged: correct the annotations, or put the original image there."
    return f"{has}{differs}: put the original image there."


def _named(path: Path, of: str) -> str:
    name = str(path) if len(str(path)) < 300 else f"{str(path)[:300]}..."
    return f"{name} of {of}" if of else name


def _reason(path: Path, error: Exception) -> str:
    if os.path.isfile(path) and path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no image in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "it claims more pixels than is safe to decode"
    return reason(error)


def _orientation(image: Image.Image) -> int:
    # Without this, asking a PNG for its EXIF decodes all of it. Pillow itself turns a TIFF, whose size is then upright.
    if not _TAGGED & image.info.keys() or image.format == "TIFF":
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF, on which viewers turn nothing
        return 1
    return value if value in range(2, 9) else 1
