"""explorer.json, explorer/maps.bin and explorer/pictures/: what the run keeps for the explorer."""

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import UInt8
from pydantic import AliasChoices, Field, PrivateAttr, StrictBool, StrictFloat, model_validator

from locheads.errors import StoreError
from locheads.records.gallery_file import BeyondFirstLook, SeveralBoxes
from locheads.records.record_base import (
    Count,
    FloatGrid,
    HeadName,
    Iou,
    PixelBox,
    Record,
    Size,
    check_grids,
    own_file,
)
from locheads.text import reason

MAPS = "explorer/maps.bin"
VERSION = 1


def image_name(number: int) -> str:
    """Path of an image in the run folder. Made from a number, so that no record can name another file."""
    return f"explorer/pictures/{number:04d}.webp"


class ExplorerSample(SeveralBoxes, BeyondFirstLook):
    """One sample of the evaluated split."""

    sample_id: str
    image_id: str
    expression: str
    width: Size
    """Of the original image in pixels; the frame of the boxes."""
    height: Size
    rows: Size
    cols: Size
    scale: tuple[StrictFloat, StrictFloat]
    """Cells per pixel, (x, y); see Geometry."""
    offset: tuple[StrictFloat, StrictFloat]
    """Cell coordinate of the image's top-left corner, (x, y)."""
    true_box: PixelBox | None
    """None where the truth is a heat map."""
    box: PixelBox | None
    """The run's own answer; None where the truth is a heat map, too."""
    iou: Iou
    """Of the run's own box with the true box."""
    error: str | None
    own: tuple[HeadName, ...]
    """The heads that grounded it in the run."""
    heads: tuple[HeadName, ...]
    """Whose maps are there, the most wanted first."""
    scales: tuple[StrictFloat, ...]
    """Largest value of each map."""
    at: Count
    """Where its codes begin in maps.bin, in bytes."""
    same_box: StrictBool | None
    """Whether grounding its 8-bit maps gives the run's own box; None without maps, and where more than they decided."""
    image: Count | None = Field(validation_alias=AliasChoices("picture"), serialization_alias="picture")
    """Number of its image; None where it could not be read."""
    heat: Count | None = None
    """Number of the image of its true heat map, where the truth is one."""

    @property
    def cells(self) -> int:
        """Bytes of one map."""
        return self.rows * self.cols

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.heads) != len(self.scales):
            raise ValueError(f"the sizes of sample {self.sample_id} contradict each other")
        return self


class ExplorerFile(Record):
    """explorer.json: what the explorer shows, and what was left out."""

    FILE: ClassVar[str] = "explorer.json"

    version: Count
    n_split: Count
    """Expressions of the evaluated split."""
    layers: Size
    heads_per_layer: Size
    localization: tuple[HeadName, ...]
    best_rec: tuple[HeadName, ...] = ()
    # Earlier versions called them the oracle.
    best_iou: tuple[HeadName, ...] = Field(validation_alias=AliasChoices("best_iou", "oracle"))
    grounding: dict[str, Any]
    """The run's settings from maps to box."""
    entropy: FloatGrid | None
    """Mean spatial entropy over the discovery samples in nats; NaN where no map had a component."""
    samples: tuple[ExplorerSample, ...]
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.version != VERSION:
            raise ValueError(f"its version is {self.version}, not {VERSION}")
        check_grids(self, (self.layers, self.heads_per_layer))
        return self

    @classmethod
    def read(cls, folder: Path) -> Self:
        """As every record; remembers where its maps and images are."""
        found = super().read(folder)
        found._folder = folder
        return found

    @property
    def folder(self) -> Path:
        """The run folder from which it was read."""
        return self._folder

    def codes(self, sample: ExplorerSample, n_heads: int | None = None) -> bytes:
        """8-bit maps of the sample's first heads (all for None), one after the other, row by row.

        Raises StoreError where maps.bin is absent or too short.
        """
        wanted = sample.cells * len(sample.heads[:n_heads])
        content = self._bytes(MAPS, sample.at, wanted)
        if len(content) != wanted:
            raise StoreError(f"{self.folder / MAPS} is too short: evaluate the run again.")
        return content

    def maps(self, sample: ExplorerSample) -> UInt8[np.ndarray, "head row col"]:
        """The codes as an array."""
        codes = np.frombuffer(self.codes(sample), dtype=np.uint8)
        return codes.reshape(len(sample.heads), sample.rows, sample.cols)

    def image(self, number: int) -> bytes:
        """The image as WebP. Raises StoreError where it is absent."""
        return self._bytes(image_name(number))

    def _bytes(self, name: str, start: int = 0, size: int = -1) -> bytes:
        try:
            with own_file(self.folder, name).open("rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            raise StoreError(
                f"{self.folder / name} cannot be read ({reason(error)}): evaluate the run again."
            ) from error
