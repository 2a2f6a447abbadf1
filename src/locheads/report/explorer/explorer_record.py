"""explorer.json, explorer/maps.bin and explorer/pictures/: what the run kept for the explorer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from locheads.errors import StoreError
from locheads.report import parse
from locheads.text import reason
from locheads.types import Box

INDEX = "explorer.json"
MAPS = "explorer/maps.bin"
VERSION = 1


def image_name(number: int) -> str:
    """Path of an image in the run folder. Made from a number, so that no record can name another file."""
    return f"explorer/pictures/{number:04d}.webp"


@dataclass(frozen=True)
class ExplorerSample:
    """One sample of the evaluated split."""

    sample_id: str
    image_id: str
    expression: str
    image: int | None
    """Number of its image; None where it could not be read."""
    width: int
    """Of the original image in pixels; the frame of the boxes."""
    height: int
    rows: int
    cols: int
    scale: tuple[float, float]
    """Cells per pixel, (x, y); see Geometry."""
    offset: tuple[float, float]
    """Cell coordinate of the image's top-left corner, (x, y)."""
    true_box: Box
    box: Box | None
    """The run's own answer."""
    iou: float
    """Of the run's own box with the true box."""
    error: str | None
    own: tuple[str, ...]
    """The heads that grounded it in the run."""
    heads: tuple[str, ...]
    """Whose maps are there, the most wanted first."""
    scales: tuple[float, ...]
    """Largest value of each map."""
    at: int
    """Where its codes begin in maps.bin, in bytes."""
    same_box: bool | None
    """Whether grounding its 8-bit maps gives the run's own box; None without maps."""

    @property
    def cells(self) -> int:
        """Bytes of one map."""
        return self.rows * self.cols


@dataclass(frozen=True)
class ExplorerRecord:
    """What the explorer shows, and what was left out."""

    folder: Path
    n_split: int
    """Expressions of the evaluated split."""
    layers: int
    heads_per_layer: int
    localization: tuple[str, ...]
    best_rec: tuple[str, ...]
    best_iou: tuple[str, ...]
    grounding: dict[str, Any]
    """The run's settings from maps to box."""
    entropy: Float[np.ndarray, "layer head"] | None
    """Mean spatial entropy over the discovery samples in nats; NaN where no map had a component."""
    samples: tuple[ExplorerSample, ...]

    def codes(self, sample: ExplorerSample, n_heads: int | None = None) -> bytes:
        """8-bit maps of the sample's first heads (all for None), one after the other, row by row.

        Raises StoreError where maps.bin is absent or too short.
        """
        wanted = sample.cells * len(sample.heads[:n_heads])
        path = self.folder / MAPS
        try:
            with parse.own_file(self.folder, MAPS).open("rb") as file:
                file.seek(sample.at)
                content = file.read(wanted)
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}): evaluate the run again.") from error
        if len(content) != wanted:
            raise StoreError(f"{path} is too short: evaluate the run again.")
        return content

    def maps(self, sample: ExplorerSample) -> UInt8[np.ndarray, "head row col"]:
        """The codes as an array."""
        codes = np.frombuffer(self.codes(sample), dtype=np.uint8)
        return codes.reshape(len(sample.heads), sample.rows, sample.cols)

    def image(self, number: int) -> bytes:
        """The image as WebP. Raises StoreError where it is absent."""
        path = self.folder / image_name(number)
        try:
            return parse.own_file(self.folder, image_name(number)).read_bytes()
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}): evaluate the run again.") from error


def read_explorer(folder: Path) -> ExplorerRecord | None:
    """None where the run kept nothing for the explorer. Raises StoreError where what it kept is broken."""
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        text = parse.own_file(folder, INDEX).read_text(encoding="utf-8")
        return _record(folder, parse.mapping(json.loads(text), "it"))
    except KeyError as error:
        raise StoreError(f"{INDEX} is incomplete (no {error}).") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"{INDEX} cannot be read ({reason(error)}).") from error


def _record(folder: Path, raw: dict[str, Any]) -> ExplorerRecord:
    if raw["version"] != VERSION:
        raise ValueError(f"its version is {raw['version']!r}, not {VERSION}")
    shape = parse.count(raw["layers"], "layers"), parse.count(raw["heads_per_layer"], "heads_per_layer")
    return ExplorerRecord(
        folder=folder,
        n_split=parse.count(raw["n_split"], "n_split"),
        layers=shape[0],
        heads_per_layer=shape[1],
        localization=_names(raw["localization"], "localization"),
        best_rec=_names(raw.get("best_rec", []), "best_rec"),
        # Earlier versions called them the oracle.
        best_iou=_names(raw["oracle"] if "oracle" in raw else raw["best_iou"], "best_iou"),
        grounding=parse.mapping(raw["grounding"], "grounding"),
        entropy=None if raw["entropy"] is None else parse.grid(raw["entropy"], "entropy", shape),
        samples=tuple(_sample(parse.mapping(s, "a sample")) for s in parse.listing(raw["samples"], "samples")),
    )


def _sample(raw: dict[str, Any]) -> ExplorerSample:
    sizes = {key: parse.count(raw[key], key) for key in ("width", "height", "rows", "cols")}
    heads, scales = _names(raw["heads"], "heads"), _numbers(raw["scales"], "scales")
    at = parse.count(raw["at"], "at")
    if min(sizes.values()) < 1 or len(heads) != len(scales) or at < 0:
        raise ValueError(f"the sizes of sample {raw['sample_id']} contradict each other")
    box, same = raw["box"], raw["same_box"]
    return ExplorerSample(
        sample_id=str(raw["sample_id"]),
        image_id=str(raw["image_id"]),
        expression=str(raw["expression"]),
        image=None if raw["picture"] is None else parse.count(raw["picture"], "picture"),
        **sizes,
        scale=_pair(raw["scale"], "scale"),
        offset=_pair(raw["offset"], "offset"),
        true_box=parse.box(raw["true_box"], "true_box"),
        box=None if box is None else parse.box(box, "box"),
        iou=parse.optional_number(raw["iou"], "iou") or 0.0,
        error=None if raw["error"] is None else str(raw["error"]),
        own=_names(raw["own"], "own"),
        heads=heads,
        scales=scales,
        at=at,
        same_box=None if same is None else bool(same),
    )


def _names(value: Any, name: str) -> tuple[str, ...]:
    return tuple(map(str, parse.listing(value, name)))


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    return tuple(parse.number(v, name) for v in parse.listing(value, name))


def _pair(value: Any, name: str) -> tuple[float, float]:
    numbers = _numbers(value, name)
    if len(numbers) != 2 or not np.isfinite(numbers).all():
        raise ValueError(f"{name} is not a pair of finite numbers")
    return numbers[0], numbers[1]
