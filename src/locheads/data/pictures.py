"""Opens the picture of a group, or says in one sentence why not."""

import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from locheads.errors import DataError
from locheads.types import ImageGroup


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
                _check_size(picture, group)
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
    return picture_header(path, where)[0]


def picture_header(path: Path, where: str = "") -> tuple[tuple[int, int], bool]:
    """As `picture_size`, and whether viewers turn or mirror the picture, because its EXIF says so."""
    of = f" of {where}" if where else ""
    try:
        with Image.open(path) as picture:
            return picture.size, _is_turned(picture)
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


def _check_size(picture: Image.Image, group: ImageGroup) -> None:
    if picture.size != (group.width, group.height):
        raise DataError(
            f"The picture {group.path} of image {group.image_id} has {picture.width} x {picture.height} "
            f"pixels, but its annotations are for {group.width} x {group.height}: put the original picture "
            "there."
        )


def _reason(path: Path, error: Exception) -> str:
    if os.path.isfile(path) and path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "it claims more pixels than is safe to decode"
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


def _is_turned(picture: Image.Image) -> bool:
    # Without this, asking a PNG for its EXIF decodes all of it.
    if "exif" not in picture.info and picture.format != "TIFF":
        return False
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
    except Exception:  # damaged EXIF, on which viewers turn nothing
        return False
