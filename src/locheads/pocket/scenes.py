"""Scenes as data: which objects lie where. Everything follows from a seed; nothing here draws a pixel.

Pixels are (x right, y down), pixel (0, 0) covers [0, 1) x [0, 1). The long side of every scene is `CANVAS` pixels."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

CIRCLE_VERTICES = 48


def signed_distance(shape: str, box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """Float32 [height, width]: distance in pixels from a pixel's centre to the outline, positive inside.

    `box` is x, y, width, height of the tight box in pixels. Outside of a corner the value is a lower bound.
    """
    x0, y0, w, h = box
    x = np.arange(width, dtype=np.float32)[None, :] + 0.5 - (x0 + w / 2)
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5 - (y0 + h / 2)
    if shape == "circle":
        return w / 2 - np.sqrt(x * x + y * y)
    if shape == "square":
        return w / 2 - np.maximum(np.abs(x), np.abs(y))
    # isosceles triangle, tip up: the base, and both flanks at once by |x|
    slant = np.hypot(h, w / 2)
    flank = ((w / 2) * (y + h / 2) - h * np.abs(x)) / slant
    return np.minimum(flank, h / 2 - y)


def vertices(shape: str, box: tuple[int, int, int, int]) -> list[tuple[float, float]]:
    """Outline of the shape as (x, y) in pixels, rounded to 0.01."""
    x, y, w, h = box
    if shape == "square":
        return [(float(x), float(y)), (float(x + w), float(y)), (float(x + w), float(y + h)), (float(x), float(y + h))]
    if shape == "triangle":
        return [(x + w / 2, float(y)), (float(x + w), float(y + h)), (float(x), float(y + h))]
    angles = np.arange(CIRCLE_VERTICES) * (2 * np.pi / CIRCLE_VERTICES)
    points = np.stack([x + w / 2 + w / 2 * np.cos(angles), y + h / 2 + h / 2 * np.sin(angles)], axis=1)
    return [(round(float(a), 2), round(float(b), 2)) for a, b in points]


CANVAS = 192
FEW_COLOURS = 0.4
PATCH = 8
SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SIZES = ("small", "large")
TINY = "tiny"
TEXTURES = ("plain", "striped", "checked")
DOTS = ("white", "black", "orange", "pink")
# width, height of the tight box in pixels: (lowest, highest) by size and shape
EXTENT = {
    ("small", "circle"): ((56, 60), (56, 60)),
    ("small", "square"): ((52, 56), (52, 56)),
    ("small", "triangle"): ((68, 72), (62, 66)),
    ("large", "circle"): ((84, 90), (84, 90)),
    ("large", "square"): ((76, 82), (76, 82)),
    ("large", "triangle"): ((100, 106), (90, 96)),
    # Of scenes that the model was not trained on (`sample_small_scene`).
    ("tiny", "circle"): ((28, 32), (28, 32)),
    ("tiny", "square"): ((26, 30), (26, 30)),
    ("tiny", "triangle"): ((34, 38), (30, 34)),
}
_GAP = 4  # pixels that stay free between two objects, about
_COARSE = 4  # pixels per cell of the occupancy map


@dataclass(frozen=True)
class SceneObject:
    """One object. `box` is x, y, width, height in pixels (whole numbers). `size` is never named in words."""

    shape: str
    colour: str
    size: str
    texture: str
    dots: str
    box: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box, x and y in pixels."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2

    @property
    def area(self) -> float:
        """Square pixels."""
        _, _, width, height = self.box
        return width * height * {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5}[self.shape]

    @property
    def polygon(self) -> list[tuple[float, float]]:
        """Outline as (x, y) pixels, rounded to 0.01."""
        return vertices(self.shape, self.box)

    def mask(self, height: int, width: int) -> np.ndarray:
        """Bool [height, width]: pixels whose centre lies in the object."""
        return signed_distance(self.shape, self.box, height, width) >= 0


@dataclass(frozen=True)
class Scene:
    """An image before it is drawn. `width` and `height` in pixels, the longer one is `CANVAS`."""

    seed: int
    width: int
    height: int
    objects: tuple[SceneObject, ...]


def sample_scene(seed: int, counts: tuple[int, ...] = (3, 4, 5)) -> Scene:
    """The scene of `seed`, with a number of objects drawn evenly from `counts` (1 to 5).

    A share `FEW_COLOURS` of the scenes has two or three colours only.
    """
    rng = np.random.default_rng([seed, 1])
    count = int(rng.choice(counts))
    larges = int(rng.choice(3, p=(0.2, 0.45, 0.35) if count < 5 else (0.25, 0.75, 0.0)))
    few = 3 if count > 3 else 2
    colours = few if rng.random() < FEW_COLOURS else len(COLOURS)
    sizes = tuple(SIZES[i < larges] for i in range(count))
    return _scene(seed, rng, sizes, colours, square=count > 4)


def sample_small_scene(seed: int, counts: tuple[int, ...] = (8,)) -> Scene:
    """As `sample_scene`, of objects half as wide, of which more find room (up to 8): 1 to 3 % of the image each."""
    rng = np.random.default_rng([seed, 5])
    count = int(rng.choice(counts))
    colours = 3 if rng.random() < FEW_COLOURS else len(COLOURS)
    return _scene(seed, rng, (TINY,) * count, colours, square=False)


def _scene(seed: int, rng: np.random.Generator, sizes: tuple[str, ...], colours: int, square: bool) -> Scene:
    count = len(sizes)
    while True:
        width, height = _canvas(rng, square)
        looks = _looks(rng, sizes, colours)
        boxes = _place(rng, looks, width, height)
        if boxes is not None:
            break
    dots = [DOTS[i] for i in rng.integers(len(DOTS), size=count)]
    objects = [SceneObject(*look, dots=dot, box=box) for look, dot, box in zip(looks, dots, boxes, strict=True)]
    return Scene(seed, width, height, tuple(objects[i] for i in rng.permutation(count)))


def _canvas(rng: np.random.Generator, square: bool) -> tuple[int, int]:
    kind = 0 if square else int(rng.choice([0, 0, 1, 2]))
    return ((CANVAS, CANVAS), (CANVAS, CANVAS - 32), (CANVAS - 32, CANVAS))[kind]


def _looks(rng: np.random.Generator, sizes: tuple[str, ...], colours: int) -> list[tuple[str, str, str, str]]:
    """(shape, colour, size, texture) of an object of each size, distinct without it, in `colours` colours."""
    palette = rng.choice(len(COLOURS), size=colours, replace=False)
    looks: list[tuple[str, str, str]] = []
    while len(looks) < len(sizes):
        look = (SHAPES[rng.integers(3)], COLOURS[rng.choice(palette)], TEXTURES[rng.integers(3)])
        if look not in looks:
            looks.append(look)
    return [(shape, colour, size, texture) for (shape, colour, texture), size in zip(looks, sizes, strict=True)]


def _place(
    rng: np.random.Generator, looks: list[tuple[str, str, str, str]], width: int, height: int
) -> list[tuple[int, int, int, int]] | None:
    """Boxes of objects that do not touch, or None where this order of draws leaves no room."""
    occupied = np.zeros((height // _COARSE, width // _COARSE), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    for shape, _, size, _ in looks:
        (w_low, w_high), (h_low, h_high) = EXTENT[size, shape]
        w = int(rng.integers(w_low // 2, w_high // 2 + 1)) * 2
        h = w if shape != "triangle" else int(rng.integers(h_low // 2, h_high // 2 + 1)) * 2
        kernel = _footprint(shape, w, h)
        # correlation: cell (r, c) counts the occupied cells under the footprint whose first cell is (r, c)
        hits = cv2.filter2D(occupied, cv2.CV_16S, kernel, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        rows, columns = (height - h) // _COARSE + 1, (width - w) // _COARSE + 1
        spots = np.flatnonzero(hits[:rows, :columns] == 0)
        if spots.size == 0:
            return None
        row, column = divmod(int(rng.choice(spots)), columns)
        x = column * _COARSE + int(rng.integers(0, min(width - w - column * _COARSE, _COARSE - 1) + 1))
        y = row * _COARSE + int(rng.integers(0, min(height - h - row * _COARSE, _COARSE - 1) + 1))
        boxes.append((x, y, w, h))
        region = occupied[row : row + kernel.shape[0], column : column + kernel.shape[1]]
        region |= kernel[: region.shape[0], : region.shape[1]]
    return boxes


@lru_cache(maxsize=1024)
def _footprint(shape: str, width: int, height: int) -> np.ndarray:
    """Uint8, coarse cells: what a shape may touch whose box starts anywhere in the first cell, plus half the gap."""
    columns, rows = -(-width // _COARSE) + 1, -(-height // _COARSE) + 1
    box = (_COARSE // 2, _COARSE // 2, width, height)
    near = signed_distance(shape, box, rows * _COARSE, columns * _COARSE) >= -(_COARSE // 2 + _GAP / 2)
    blocks = near.reshape(rows, _COARSE, columns, _COARSE)
    return np.asarray(blocks.any(axis=(1, 3)), dtype=np.uint8)
