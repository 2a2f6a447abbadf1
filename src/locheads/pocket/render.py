"""Draws a scene: blotches, textured objects with contour lines, and dots of which one colour is the most frequent."""

import cv2
import numpy as np

from locheads.pocket.scenes import CANVAS, DOTS, PATCH, Scene, SceneObject, signed_distance

RGB = {
    "red": (215, 45, 40), "green": (40, 160, 60), "blue": (50, 80, 225), "yellow": (235, 215, 50),
    "purple": (150, 50, 190), "cyan": (60, 205, 215),
    "white": (250, 250, 250), "black": (15, 15, 15), "orange": (255, 140, 0), "pink": (255, 150, 200),
}  # fmt: skip
PAD_RGB = (122, 116, 104)  # the mean colour of CLIP's normalisation, with which LLaVA pads
MAJORITY = 0.6  # share of an object's dots that have its dot colour
_DOT_MARGIN = 5.5  # pixels between a dot's centre and the outline, at least
_RING, _LINE = 9.0, 3.0  # pixels from one contour line to the next, and their width
# Contour lines run through the whole object, in a colour per shape: so every patch of it tells its shape, as a patch
# feature of a real vision tower does. A single small vision layer cannot follow an outline from afar.
LINE_RGB = {"circle": (200, 255, 130), "square": (25, 25, 100), "triangle": (120, 30, 20)}
_DARK = 0.5  # brightness of the dark stripes and checks
_NOISE = np.random.default_rng(7).normal(0, 5, (CANVAS * 2, CANVAS * 2, 1)).astype(np.float32)


def render(scene: Scene, majority: float = MAJORITY) -> np.ndarray:
    """The image, uint8 RGB [height, width, 3]. `majority` is the share of the dots with the object's dot colour."""
    rng = np.random.default_rng([scene.seed, 2])
    image = _background(rng, scene.height, scene.width)
    for item in scene.objects:
        _draw(image, item, rng, majority)
    row, column = rng.integers(0, CANVAS, size=2)
    image += _NOISE[row : row + scene.height, column : column + scene.width]
    return np.clip(image, 0, 255).astype(np.uint8)


def pad_to_square(image: np.ndarray) -> np.ndarray:
    """Uint8 [height, width, 3] -> [CANVAS, CANVAS, 3], the image in the middle of bars of the mean colour."""
    height, width = image.shape[:2]
    if height == width:
        return image
    square = np.empty((CANVAS, CANVAS, 3), np.uint8)
    square[:] = PAD_RGB
    y, x = (CANVAS - height) // 2, (CANVAS - width) // 2
    square[y : y + height, x : x + width] = image
    return square


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Float32 [height, width, 3]: greyish blotches."""
    tint = rng.uniform(95, 165) + rng.uniform(-12, 12, size=3)
    blotches = rng.normal(0, 14, size=(9, 9, 1)) + rng.normal(0, 4, size=(9, 9, 3))
    small = (tint + blotches).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _draw(image: np.ndarray, item: SceneObject, rng: np.random.Generator, majority: float) -> None:
    x, y, w, h = item.box
    distance = signed_distance(item.shape, (0, 0, w, h), h, w)
    colour = np.array(RGB[item.colour], np.float32) * rng.uniform(0.9, 1.05)
    fill = np.broadcast_to(colour, (h, w, 3)).copy()
    fill[dark_part(item)] *= _DARK
    fill[distance % _RING < _LINE] = LINE_RGB[item.shape]
    region = image[y : y + h, x : x + w]
    np.copyto(region, fill, where=(distance >= 0)[:, :, None])
    _draw_dots(region, distance, item, rng, majority)


def dark_part(item: SceneObject) -> np.ndarray:
    """Bool [h, w]: the dark part of the texture, stripes or checks of half a patch."""
    x, y, w, h = item.box
    rows = (np.arange(y, y + h) // (PATCH // 2) % 2 == 1)[:, None]
    columns = (np.arange(x, x + w) // (PATCH // 2) % 2 == 1)[None, :]
    parts = {"plain": np.zeros((h, w), bool), "striped": rows & (columns | True), "checked": rows ^ columns}
    return parts[item.texture]


def _draw_dots(
    region: np.ndarray, distance: np.ndarray, item: SceneObject, rng: np.random.Generator, majority: float
) -> None:
    """One dot about the middle of every patch cell that lies well inside the object."""
    x, y, w, h = item.box
    columns = np.arange(-x % PATCH + PATCH // 2 - PATCH, w, PATCH)
    rows = np.arange(-y % PATCH + PATCH // 2 - PATCH, h, PATCH)
    spots = [(c, r) for r in rows for c in columns if 0 <= r < h and 0 <= c < w and distance[r, c] >= _DOT_MARGIN]
    colours = _dot_colours(rng, item.dots, len(spots), majority)
    jitter = rng.integers(-1, 2, size=(len(spots), 2))
    for (c, r), (dx, dy), name in zip(spots, jitter, colours, strict=True):
        region[r + dy - 2 : r + dy + 2, c + dx - 2 : c + dx + 2] = RGB[name]


def _dot_colours(rng: np.random.Generator, main: str, count: int, majority: float) -> list[str]:
    """`count` dot colours in random order: a share `majority` (rounded up) is `main`, the rest evenly among others."""
    others = [name for name in DOTS if name != main]
    exact = int(np.ceil(majority * count))
    names = [main] * exact + [others[i] for i in rng.integers(len(others), size=count - exact)]
    return [names[i] for i in rng.permutation(count)]
