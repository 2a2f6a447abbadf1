"""Facts about the whole scene, answered where an expression is: words of the whole are then needed at its query.

A bare expression has one answer more that is right: instead of a description of its object, one of these facts, drawn
at random. So the position that the paper reads must know of the scene, not only of the object.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from locheads.pocket.language import QUESTION, Exchange
from locheads.pocket.render import background_is_light
from locheads.pocket.scenes import Scene
from locheads.pocket.tokenizer import COUNTS

FACT = "fact"
"""The kind of such an exchange."""


def count_objects(scene: Scene, target: int) -> str:
    """How many objects there are."""
    return f"{COUNTS[len(scene.objects)]} objects"


def tone(scene: Scene, target: int) -> str:
    """Whether the background is light or dark."""
    return f"{'light' if background_is_light(scene) else 'dark'} background"


def count_alike(scene: Scene, target: int) -> str:
    """How many objects have the target's shape: needs the expression and the whole scene."""
    shape = scene.objects[target].shape
    return f"{COUNTS[sum(item.shape == shape for item in scene.objects)]} {shape}s"


Fact = Callable[[Scene, int], str]
FACTS: tuple[Fact, ...] = (count_objects, tone, count_alike)


def fact_answers(fact: Fact, scene: Scene, target: int) -> list[str]:
    """What a fact may answer about some scene with an object of the target's shape."""
    if fact is tone:
        return ["light background", "dark background"]
    noun = fact(scene, target).split()[1]
    return [f"{COUNTS[n]} {noun}" for n in ((3, 4, 5) if fact is count_objects else (1, 2, 3))]


def with_fact(exchange: Exchange, scene: Scene, rng: np.random.Generator, share: float) -> Exchange:
    """In `share` of the bare expressions with a fact as the answer; questions stay as they are."""
    if exchange.kind == QUESTION or exchange.target is None or rng.random() >= share:
        return exchange
    fact = FACTS[rng.integers(len(FACTS))]
    return replace(exchange, answer=fact(scene, exchange.target), kind=FACT)
