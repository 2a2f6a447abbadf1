"""gallery.json, gallery.npz and steps.npz: the samples that the page shows."""

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from pydantic import AliasChoices, Field, StrictBool, StrictFloat

from locheads.records.record_base import HeadName, Iou, Part, PixelBox, Record, Size, decode_json, own_file
from locheads.types import Box

MAPS, STEPS = "gallery.npz", "steps.npz"
LONG_SIDE = 720
"""Images are reduced to this many pixels before they are drawn: a panel is shown no larger."""


class SeveralBoxes(Part):
    """What a sample has besides where expressions may name several objects, or none."""

    true_boxes: tuple[PixelBox, ...] | None = None
    """Of every object that is named; None where an expression names one, whose box is `true_box`."""
    boxes: tuple[PixelBox, ...] | None = None
    """Of the whole answer; none where it is that nothing is there."""
    right: StrictBool | None = None
    """Whether each object has its box and no box is left over."""


class BeyondFirstLook(Part):
    """What an answer rests on besides the maps of the first look, which are those that are shown."""

    views: tuple[PixelBox, ...] = ()
    """The parts of the image that were looked at after the first look, in that order."""
    absence: StrictFloat | None = None
    """The score of absence that decided; None where there is none. From the run's threshold on the answer is "none"."""


class GalleryItem(SeveralBoxes, BeyondFirstLook):
    """One sample of the evaluated split with its prediction."""

    sample_id: str
    image_id: str
    expression: str
    image: str | None = Field(validation_alias=AliasChoices("picture"), serialization_alias="picture")
    """Path of a copy of the image, relative to the run folder; None where it could not be opened."""
    box: PixelBox | None
    """The predicted box; None where there is none."""
    true_box: PixelBox | None
    """None where the truth is a heat map."""
    iou: Iou
    """Of the two boxes; 0 where nothing was predicted, or the truth is a heat map."""
    heads: tuple[HeadName, ...]
    width: Size
    """Of the original image, in pixels; the boxes' frame."""
    height: Size
    error: str | None
    """Why the sample could not be processed."""
    grid: tuple[Size, Size] | None = None
    """(rows, columns) of the maps."""
    cell_box: PixelBox
    """The patch grid's rectangle in original pixels: beyond a padded image, inside a cropped one."""
    heat: str | None = None
    """Path of a copy of the true heat map, relative to the run folder; such a sample is shown without boxes."""

    @property
    def truth(self) -> tuple[Box, ...]:
        """The true boxes: one, several or none."""
        one = () if self.true_box is None else (self.true_box,)
        return one if self.true_boxes is None else self.true_boxes

    @property
    def answer(self) -> tuple[Box, ...]:
        """The predicted boxes: one, several or none."""
        one = () if self.box is None else (self.box,)
        return one if self.boxes is None else self.boxes

    @property
    def hit(self) -> bool:
        """Whether the answer is right: by its box, or by all its boxes."""
        return self.iou >= 0.5 if self.right is None else self.right

    @property
    def measured(self) -> str:
        """How good the answer is, in words; nothing where the truth is a heat map."""
        if self.heat:
            return ""
        if self.true_boxes is None:
            return f"IoU {self.iou:.2f}"
        return f"{len(self.boxes or ())} boxes for {len(self.true_boxes)} objects"


class GalleryFile(Record):
    """gallery.json."""

    FILE: ClassVar[str] = "gallery.json"
    LIST: ClassVar[str] = "items"

    items: tuple[GalleryItem, ...]

    @classmethod
    def readable(cls, content: bytes) -> tuple[Self, list[str]]:
        """-> (the items that can be read, a sentence per other one). Raises ValueError where the file is no list."""
        items, problems = [], []
        values = decode_json(content)
        if not isinstance(values, list):
            raise ValueError("it is not a list")
        for position, value in enumerate(values):
            try:
                items.append(GalleryItem.parse(value))
            except ValueError as error:
                problems.append(f"{cls.FILE}: sample {position} is left out ({error}).")
        return cls(items=tuple(items)), problems


def load_image(folder: Path, item: GalleryItem) -> UInt8[np.ndarray, "row col 3"] | None:
    """The item's image, reduced to LONG_SIDE; None where it is missing, broken or outside the folder."""
    try:
        with Image.open(own_file(folder, item.image or "")) as image:
            image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def load_heat(folder: Path, item: GalleryItem) -> Float[np.ndarray, "row col"] | None:
    """The item's true heat map, 0 to 1; None where it has none, or it is missing, broken or outside the folder."""
    try:
        with Image.open(own_file(folder, item.heat or "")) as image:
            return np.asarray(image.convert("L"), dtype=np.float64) / 255
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def read_maps(content: bytes) -> dict[str, Float[np.ndarray, "map row col"]]:
    """gallery.npz: per sample id the fused map, then one per head. Raises what numpy does for a damaged file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name], dtype=np.float32) for name in arrays.files}


@dataclass(frozen=True)
class StepArrays:
    """What steps.npz holds of one sample."""

    smoothed: Float[np.ndarray, "head row col"]
    labels: Int[np.ndarray, "y x"]
    """The component of each cell; 0 is none."""
    chosen: Bool[np.ndarray, "y x"]
    frame: Box
    """The rectangle of `labels` and `chosen` in original pixels."""
    mask: Bool[np.ndarray, "height width"]
    """The answer's mask; empty where there is none."""

    def named(self, sample_id: str) -> dict[str, np.ndarray]:
        """Its arrays under their names in steps.npz, "SAMPLE/NAME"."""
        return {f"{sample_id}/{field.name}": np.asarray(getattr(self, field.name)) for field in fields(self)}


def read_steps(content: bytes) -> dict[str, StepArrays]:
    """steps.npz by sample id. Raises KeyError, ValueError or what numpy does for a damaged file."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for full in arrays.files:
            sample_id, _, name = full.rpartition("/")
            found.setdefault(sample_id, {})[name] = arrays[full]
    return {sample_id: _steps(values) for sample_id, values in found.items()}


def _steps(values: dict[str, Any]) -> StepArrays:
    x0, y0, x1, y1 = (float(v) for v in values["frame"])
    smoothed, labels, chosen = values["smoothed"], values["labels"], values["chosen"]
    if labels.ndim != 2 or labels.shape != chosen.shape or smoothed.ndim != 3 or not (x1 > x0 and y1 > y0):
        raise ValueError("its arrays do not fit together")
    return StepArrays(smoothed, labels.astype(int), chosen.astype(bool), (x0, y0, x1, y1), values["mask"].astype(bool))
