"""Scenes with one large object each, whose place is known because they are drawn here: do the heads point at it?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from locheads.evaluation.metrics import box_iou, inside
from locheads.grounding.boxes import Frames, peaks
from locheads.grounding.config import GroundingConfig
from locheads.grounding.ground_maps import ground_stack
from locheads.models.attend import attend_image
from locheads.models.config import PromptConfig
from locheads.models.findings import Finding, Outcome
from locheads.models.load import Lvlm
from locheads.types import Box, HeadIndex

WIDTH, HEIGHT, SIDE = 480, 360, 132
"""Of a scene and of its object, in pixels."""
GROUND = (205, 205, 205)
COLOURS = {"red": (215, 40, 40), "blue": (40, 70, 215), "green": (30, 150, 60), "yellow": (235, 200, 30)}
SHAPES = ("circle", "square", "triangle", "star")
CORNERS = tuple((x, y) for y in (24, HEIGHT - SIDE - 24) for x in (36, WIDTH - SIDE - 36))
"""Where an object begins. What always points at the same place hits a quarter of the objects."""
LOST = "these are no localization heads of this model, or it is asked in another way than when they were found."
WORDLESS = "these heads hardly follow the words: ask as when they were found, or find others with stage=discover."


@dataclass(frozen=True)
class Scene:
    """An image whose objects are known."""

    image: Image.Image
    expressions: tuple[str, ...]
    boxes: tuple[Box, ...]
    """Of the object of each expression."""


def lone_objects() -> Iterator[Scene]:
    """Eight scenes of one object: every shape, colour and corner twice."""
    for i in range(8):
        yield _scene([(SHAPES[i % 4], list(COLOURS)[(i + i // 4) % 4], CORNERS[(3 * i + i // 4) % 4])])


def four_objects() -> Iterator[Scene]:
    """Four scenes of an object in each corner, no two of one shape or colour."""
    for i in range(4):
        yield _scene(
            [(SHAPES[(i + j) % 4], list(COLOURS)[(3 * i + j) % 4], corner) for j, corner in enumerate(CORNERS)]
        )


def _scene(objects: Sequence[tuple[str, str, tuple[int, int]]]) -> Scene:
    image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    boxes = [(x, y, x + SIDE, y + SIDE) for _, _, (x, y) in objects]
    for (shape, colour, _), box in zip(objects, boxes, strict=True):
        _draw(ImageDraw.Draw(image), shape, box, COLOURS[colour])
    return Scene(image, tuple(f"the {colour} {shape}" for shape, colour, _ in objects), tuple(boxes))


def check_known_answer(
    lvlm: Lvlm, heads: Sequence[HeadIndex], prompt: PromptConfig, grounding: GroundingConfig
) -> list[Finding]:
    """Whether the heads point at the only object, and at the one that is asked for among four, in most of the cases.

    Raises:
        DataError, ModelError: as `attend_image`.
    """
    share = SIDE**2 / (WIDTH * HEIGHT)
    ask = partial(_pointed, lvlm, heads, prompt, grounding)
    return [
        _finding("known answer, one object", ask(lone_objects()), share, LOST),
        _finding("known answer, one of four", ask(four_objects()), 1 / len(CORNERS), WORDLESS),
    ]


def _pointed(
    lvlm: Lvlm, heads: Sequence[HeadIndex], prompt: PromptConfig, grounding: GroundingConfig, of: Iterable[Scene]
) -> list[tuple[bool, float]]:
    """(Whether the heads point at the object, IoU of their box) per expression."""
    found: list[tuple[bool, float]] = []
    for scene in of:
        maps, geometry = attend_image(lvlm, scene.image, scene.expressions, prompt, heads)
        stack = ground_stack(maps, (geometry,) * len(maps), grounding)
        points = peaks(stack.fused, Frames.of([geometry] * len(maps)))
        boxes = np.array(scene.boxes)
        found += zip(inside(points, boxes).tolist(), box_iou(stack.boxes, boxes).tolist(), strict=True)
    return found


def _finding(name: str, found: list[tuple[bool, float]], chance: float, advice: str) -> Finding:
    hits, iou = sum(hit for hit, _ in found), np.mean([iou for _, iou in found])
    text = f"pointed at in {hits} of {len(found)} cases (by chance {len(found) * chance:.1f}), mean IoU {iou:.2f}"
    if 2 * hits > len(found):
        return Finding(name, Outcome.passed, text)
    return Finding(name, Outcome.failed, text, advice)


def _draw(canvas: ImageDraw.ImageDraw, shape: str, box: tuple[int, int, int, int], paint: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    match shape:
        case "circle":
            canvas.ellipse((x0, y0, x1 - 1, y1 - 1), fill=paint)
        case "square":
            canvas.rectangle((x0, y0, x1 - 1, y1 - 1), fill=paint)
        case "triangle":
            canvas.polygon([(x0, y1 - 1), ((x0 + x1) // 2, y0), (x1 - 1, y1 - 1)], fill=paint)
        case "star":
            canvas.polygon(_star(x0, y0, x1 - x0), fill=paint)


def _star(x: int, y: int, side: int) -> list[tuple[float, float]]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = side / 2 * np.where(np.arange(10) % 2, 0.45, 1.0)
    return list(zip(x + side / 2 + radii * np.cos(angles), y + side / 2 + radii * np.sin(angles), strict=True))
