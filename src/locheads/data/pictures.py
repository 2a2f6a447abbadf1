"""Opens the picture of a group, or says in one sentence why not."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from locheads.errors import DataError
from locheads.types import ImageGroup

_TURNING = {5, 6, 7, 8}
"""EXIF orientations that exchange width and height."""
_TAGGED = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""Where Pillow keeps what may hold an orientation."""


class Header(NamedTuple):
    """What a picture's file says before its pixels."""

    size: tuple[int, int]
    """(width, height) as stored."""
    orientation: int
    """EXIF's; 1 where viewers show the pixels as they are stored."""

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) as viewers show the picture."""
        return self.size[::-1] if self.orientation in _TURNING else self.size


def open_picture(group: ImageGroup) -> Image.Image:
    """The group's picture, RGB, of exactly group.width x group.height pixels; raises DataError as `read_picture`.

    Raises DataError also where it has another size than the annotations say.
    """
    return read_picture(group.path, group)


def read_picture(path: Path, group: ImageGroup | None = None, *, upright: bool = False) -> Image.Image:
    """A picture as RGB: the pixel array as it is stored, or `upright`, as viewers show it.

    Annotated pictures are not turned as their EXIF says, because COCO's boxes and masks refer to the raw array.
    Raises DataError where the file is absent, empty, damaged, truncated or suspiciously large (Pillow's limit against
    decompression bombs), and as `to_rgb`.
    """
    name = str(path) if group is None else f"{path} of image {group.image_id}"
    try:
        with Image.open(path) as picture:
            # Before the pixels are decoded: a header that lies about the size costs nothing then.
            if group is not None:
                _check_size(Header(picture.size, _orientation(picture)), group)
            # Orientation first: what is converted may have lost its EXIF.
            return to_rgb(ImageOps.exif_transpose(picture) if upright else picture, name)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(
            f"The picture {name} is not there: check paths.data and the data set's picture folder."
        ) from error
    # Pillow's decoders raise nearly anything on a damaged file (OSError, SyntaxError, ValueError,
    # struct.error, ...).
    except Exception as error:
        raise DataError(
            f"The picture {name} cannot be read ({_reason(path, error)}): copy or download it again."
        ) from error


def to_rgb(picture: Image.Image, name: str = "") -> Image.Image:
    """RGB of 8 bits; of 16 bits of grey the upper 8, which Pillow would clip to white.

    Raises DataError for pixels of 32 bits, of which nobody knows what is black and what is white.
    """
    if picture.mode in ("I", "F"):
        named = f"picture {name}" if name else "picture"
        raise DataError(f"The {named} has pixels of 32 bits (mode {picture.mode}): save it with 8 or 16 bits.")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert("RGB")


def picture_size(path: Path, where: str = "") -> tuple[int, int]:
    """(width, height) in pixels from the picture's header, as stored. `where` names the record that asks for it.

    Raises DataError as `read_picture`.
    """
    return picture_header(path, where).size


def picture_header(path: Path, where: str = "") -> Header:
    """As `picture_size`, with the EXIF orientation."""
    of = f" of {where}" if where else ""
    try:
        with Image.open(path) as picture:
            return Header(picture.size, _orientation(picture))
    except FileNotFoundError as error:
        raise DataError(f"The picture {path}{of} is not there: check paths.data and dataset.images.") from error
    except Exception as error:
        name, reason = (text if len(text) < 300 else text[:300] + "..." for text in (str(path), _reason(path, error)))
        raise DataError(f"The picture {name}{of} cannot be read ({reason}): copy or download it again.") from error


def check_picture_folder(images: Path) -> None:
    """Raises DataError where the folder is absent: one sentence instead of a failure per sample."""
    if not images.is_dir():
        raise DataError(
            f"The picture folder {images} is not there: set paths.data, or the data set's picture folder, to "
            "where the pictures (for RefCOCO: COCO train2014) lie."
        )


def size_problem(group: ImageGroup, header: Header) -> str | None:
    """One sentence where the picture has another size than the annotations say, with the reason where it shows."""
    annotated, stored = (group.width, group.height), header.size
    if annotated == stored:
        return None
    has = f"The picture {group.path} of image {group.image_id} has {stored[0]} x {stored[1]} pixels"
    differs = f", but its annotations are for {annotated[0]} x {annotated[1]}"
    if annotated == header.upright:
        return (
            f"{has} as stored{differs}, as it is shown (EXIF orientation {header.orientation}): boxes are taken in the "
            "pixels as stored, so save the picture upright."
        )
    if annotated == stored[::-1]:
        return (
            f"{has}{differs}, width and height exchanged: correct the annotations, or put the original picture there."
        )
    return f"{has}{differs}: put the original picture there."


def _check_size(header: Header, group: ImageGroup) -> None:
    if (problem := size_problem(group, header)) is not None:
        raise DataError(problem)


def _reason(path: Path, error: Exception) -> str:
    if os.path.isfile(path) and path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "it claims more pixels than is safe to decode"
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


def _orientation(picture: Image.Image) -> int:
    # Without this, asking a PNG for its EXIF decodes all of it. Pillow itself turns a TIFF, whose size is then upright.
    if not _TAGGED & picture.info.keys() or picture.format == "TIFF":
        return 1
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF, on which viewers turn nothing
        return 1
    return value if value in range(2, 9) else 1
