"""gallery.json: the samples that the report shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from locheads.report import parse
from locheads.types import Box

LONG_SIDE = 720
"""Images are reduced to this many pixels before they are drawn: a panel is shown no larger."""


@dataclass(frozen=True)
class GalleryItem:
    """One sample of the evaluated split with its prediction."""

    sample_id: str
    image_id: str
    expression: str
    image: str
    """Path of a copy of the image, relative to the run folder."""
    box: Box | None
    """The predicted box; None where there is none."""
    true_box: Box
    iou: float
    """Of the two boxes; 0 where nothing was predicted."""
    heads: tuple[str, ...]
    width: int
    """Of the original image, in pixels; the boxes' frame."""
    height: int
    error: str | None
    """Why the sample could not be processed."""
    cell_box: Box
    """The patch grid's rectangle in original pixels: beyond a padded image, inside a cropped one."""


@dataclass(frozen=True)
class StepArrays:
    """What steps.npz holds of one sample."""

    smoothed: Float[np.ndarray, "head row col"]
    labels: Int[np.ndarray, "y x"]
    chosen: Bool[np.ndarray, "y x"]
    frame: Box
    """The rectangle of `labels` and `chosen` in original pixels."""
    mask: Bool[np.ndarray, "height width"]
    """The answer's mask; empty where there is none."""


def read_steps(path: Path) -> dict[str, StepArrays]:
    """steps.npz by sample id; its arrays are named "SAMPLE/NAME"."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for full in arrays.files:
            sample_id, _, name = full.rpartition("/")
            found.setdefault(sample_id, {})[name] = arrays[full]
    return {sample_id: _steps(values) for sample_id, values in found.items()}


def _steps(values: dict[str, np.ndarray]) -> StepArrays:
    x0, y0, x1, y1 = (float(v) for v in values["frame"])
    smoothed, labels, chosen = values["smoothed"], values["labels"], values["chosen"]
    if labels.ndim != 2 or labels.shape != chosen.shape or smoothed.ndim != 3 or not (x1 > x0 and y1 > y0):
        raise ValueError("its arrays do not fit together")
    return StepArrays(smoothed, labels.astype(int), chosen.astype(bool), (x0, y0, x1, y1), values["mask"].astype(bool))


def read_items(raw: Any, problems: list[str]) -> tuple[GalleryItem, ...]:
    """Every item that can be read; each of the others adds a sentence to `problems`."""
    items = []
    for position, entry in enumerate(parse.listing(raw, "it")):
        try:
            items.append(_item(parse.mapping(entry, "it")))
        except KeyError as error:
            problems.append(f"gallery.json: sample {position} is left out (no {error}).")
        except (ValueError, TypeError) as error:
            problems.append(f"gallery.json: sample {position} is left out ({error}).")
    return tuple(items)


def load_image(folder: Path, item: GalleryItem) -> UInt8[np.ndarray, "row col 3"] | None:
    """The item's image, reduced to LONG_SIDE; None where it is missing, broken or outside the folder."""
    try:
        with Image.open(parse.own_file(folder, item.image)) as image:
            image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _item(raw: dict[str, Any]) -> GalleryItem:
    width, height = parse.count(raw["width"], "width"), parse.count(raw["height"], "height")
    if width < 1 or height < 1:
        raise ValueError("its width or height is not positive")
    predicted = raw["box"]
    return GalleryItem(
        sample_id=str(raw["sample_id"]),
        image_id=str(raw["image_id"]),
        expression=str(raw["expression"]),
        image=str(raw["picture"]),
        box=None if predicted is None else parse.box(predicted, "box"),
        true_box=parse.box(raw["true_box"], "true_box"),
        iou=parse.optional_number(raw["iou"], "iou") or 0.0,
        heads=tuple(map(str, raw["heads"] or ())),
        width=width,
        height=height,
        error=None if raw["error"] is None else str(raw["error"]),
        cell_box=parse.box(raw["cell_box"], "cell_box"),
    )
