"""An image as people hand it over in Python: a file, its bytes, an array, a tensor or an opened image -> RGB."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from locheads.data.image_files import read_image, to_rgb
from locheads.errors import DataError, boundary

AnyImage = Image.Image | np.ndarray | str | os.PathLike[str] | bytes | BinaryIO | Any
"""What `as_image` takes. `Any`: a torch tensor, or another library's array that numpy can read."""

ACCEPTED = "give an array [height, width, 3] of uint8 (0 to 255) or floats (0 to 1), a file, its bytes, or a PIL image."
CHANNELS = (1, 3, 4)
"""Grey, RGB, RGBA (whose alpha is left out)."""
HALF_A_STEP = 0.5 / 255
"""By so much floats may leave [0, 1], as resizing makes them: it rounds away."""


def as_image(source: AnyImage) -> Image.Image:
    """The image as RGB.

    Files and bytes are turned upright as their EXIF says; all else is taken as it is. Arrays are [height, width],
    [height, width, 1 | 3 | 4]; torch tensors, as torchvision makes them, [1 | 3 | 4, height, width] or [height,
    width]. Integers are 0 to 255, floats 0 to 1, channels in the order red, green, blue.

    Raises:
        DataError: it is none of these, and what it is instead; or the file cannot be read.
    """
    if isinstance(source, str) and "://" in source:
        raise DataError(f"The image {source} is an address, and nothing is downloaded here: give a file.")
    if isinstance(source, str | os.PathLike):
        return read_image(Path(source), upright=True)
    if isinstance(source, Image.Image):
        with boundary("The image cannot be read", DataError, "open its file again."):
            return to_rgb(source)
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        with boundary("The bytes cannot be read as an image", DataError, "give a whole file as it is on the disk."):
            stream: Any = source if hasattr(source, "read") else BytesIO(source)
            with Image.open(stream) as image:
                return to_rgb(ImageOps.exif_transpose(image))
    return Image.fromarray(_rgb(*_as_array(source)))


def _as_array(source: Any) -> tuple[np.ndarray, bool]:
    """-> (the pixels, whether they come from a tensor, whose channels are first)."""
    kind = type(source).__name__
    with boundary(f"An image cannot be read from this {kind}", DataError, ACCEPTED):
        if hasattr(source, "detach") and hasattr(source, "cpu"):  # of torch, which need not be imported for this
            tensor = source.detach().cpu()
            return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy()), True
        if hasattr(source, "__array__"):
            return np.asarray(source), False
    raise DataError(f"An image cannot be a {kind}: {ACCEPTED}")


def _rgb(pixels: np.ndarray, tensor: bool) -> np.ndarray:
    """[height, width, 3], uint8."""
    _check_shape(pixels.shape, tensor)
    if pixels.ndim == 3 and tensor:
        pixels = pixels.transpose(1, 2, 0)
    channels = _eight_bits(pixels).reshape(*pixels.shape[:2], -1)[..., :3]
    return np.ascontiguousarray(np.broadcast_to(channels, (*channels.shape[:2], 3)))


def _check_shape(shape: tuple[int, ...], tensor: bool) -> None:
    named = f"The image's {'tensor' if tensor else 'array'} has the shape {list(shape)}"
    if 0 in shape:
        raise DataError(f"{named}, without a pixel: there is nothing to see.")
    if len(shape) == 4:
        raise DataError(f"{named}, which looks like a batch: give one image of it, such as batch[0].")
    if len(shape) == 2:
        return
    first, last = (len(shape) == 3 and shape[end] in CHANNELS for end in (0, 2))
    if first and last:
        raise DataError(f"{named}, in which the first or the last number may be the channels: give a PIL image.")
    if last and tensor:
        raise DataError(
            f"{named}, which looks like channels-last [height, width, {shape[2]}]; a tensor is taken channels-first, "
            "as torchvision makes it: give tensor.permute(2, 0, 1)."
        )
    if first and not tensor:
        raise DataError(
            f"{named}, which looks like channels-first [{shape[0]}, height, width]: give arr.transpose(1, 2, 0)."
        )
    if not (first or last):
        raise DataError(f"{named}: {ACCEPTED}")


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    kind, named = pixels.dtype.kind, f"The image's pixels ({pixels.dtype})"
    if kind not in "iuf":
        raise DataError(f"{named} are neither integers nor floats: {ACCEPTED}")
    if pixels.dtype == np.uint16:
        raise DataError(f"{named} have 16 bits, of which nobody knows how many are used: scale them to uint8.")
    if kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"{named} hold NaN or infinity: replace these values first.")
    low, high = float(pixels.min()), float(pixels.max())
    most, slack = (1, HALF_A_STEP) if kind == "f" else (255, 0)
    if low < -slack or high > most + slack:
        hint = (
            "undo the normalisation" if low < 0 else "floats of 0 to 255 need .astype('uint8')" if kind == "f" else ""
        )
        raise DataError(f"{named} go from {low:g} to {high:g}, not from 0 to {most}: {hint or 'scale them to uint8'}.")
    return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8) if kind == "f" else pixels.astype(np.uint8)
