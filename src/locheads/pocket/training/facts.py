"""Facts about the whole scene, answered where an expression is: words of the whole are then needed at its query.

A bare expression has one answer more that is right: instead of a description of its object, one of these facts, drawn
at random. So the position that the paper reads must know of the scene, not only of the object.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from locheads.pocket.language import QUESTION, Exchange
from locheads.pocket.render import background_is_light
from locheads.pocket.scenes import COLOURS, SHAPES, Scene
from locheads.pocket.tokenizer import COUNTS

FACT = "fact"
"""The kind of such an exchange."""


@dataclass(frozen=True)
class Fact:
    """One kind of fact. Both functions take the scene and the index of the object that the expression names."""

    true: Callable[[Scene, int], list[str]]
    """Every answer that is right."""
    possible: Callable[[Scene, int], list[str]]
    """What is right in some scene, all of the same number of words."""


def _objects(scene: Scene, target: int) -> list[str]:
    return [f"{COUNTS[len(scene.objects)]} objects"]


def _tone(scene: Scene, target: int) -> list[str]:
    return [f"{'light' if background_is_light(scene) else 'dark'} background"]


def _alike(scene: Scene, target: int) -> list[str]:
    shape = scene.objects[target].shape
    return [f"{COUNTS[sum(item.shape == shape for item in scene.objects)]} {shape}s"]


def _another(scene: Scene, target: int) -> list[str]:
    others = [item for i, item in enumerate(scene.objects) if i != target]
    return [f"{item.colour} {item.shape} there" for item in others]


FACTS = {
    # How many objects there are.
    "objects": Fact(_objects, lambda *_: [f"{COUNTS[n]} objects" for n in (3, 4, 5)]),
    # Whether the background is light or dark.
    "tone": Fact(_tone, lambda *_: ["light background", "dark background"]),
    # How many objects have the target's shape: needs the expression and the whole scene.
    "alike": Fact(_alike, lambda scene, target: [f"{COUNTS[n]} {scene.objects[target].shape}s" for n in COUNTS]),
    # Colour and shape of another object, whichever: needs the expression and all other objects.
    "another": Fact(_another, lambda *_: [f"{colour} {shape} there" for colour in COLOURS for shape in SHAPES]),
}


def with_fact(
    exchange: Exchange, scene: Scene, rng: np.random.Generator, share: float, names: tuple[str, ...] = tuple(FACTS)
) -> Exchange:
    """In `share` of the bare expressions with one of the named facts as the answer; questions stay as they are."""
    if exchange.kind == QUESTION or exchange.target is None or rng.random() >= share:
        return exchange
    answers = FACTS[names[rng.integers(len(names))]].true(scene, exchange.target)
    answer = answers[0] if len(answers) == 1 else answers[rng.integers(len(answers))]
    return replace(exchange, answer=answer, kind=FACT)
