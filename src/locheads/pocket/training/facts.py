"""Facts about the whole scene, answered where an expression is: words of the whole are then needed at its query.

A bare expression has two more right answers: in place of the description of its object the colour that covers most of
the image, or most of it without this object. So the position that the paper reads must know of all objects, and heads
form there that look at others than the named one.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from locheads.pocket.language import QUESTION, Exchange
from locheads.pocket.scenes import Scene, SceneObject

FACT = "fact"
"""The kind of such an exchange."""


def overall(scene: Scene, target: int) -> str:
    """The colour that covers most of the image."""
    return f"{_largest_colour(scene.objects)} largest"


def elsewhere(scene: Scene, target: int) -> str:
    """The colour that covers most of it but for the named object."""
    return f"{_largest_colour(item for i, item in enumerate(scene.objects) if i != target)} next"


FACTS = (overall, elsewhere)


def with_fact(exchange: Exchange, scene: Scene, rng: np.random.Generator, share: float) -> Exchange:
    """In `share` of the bare expressions with one of the facts as the answer; questions stay as they are."""
    if exchange.kind == QUESTION or exchange.target is None or rng.random() >= share:
        return exchange
    fact = FACTS[rng.integers(len(FACTS))]
    return replace(exchange, answer=fact(scene, exchange.target), kind=FACT)


def _largest_colour(items: Iterable[SceneObject]) -> str:
    areas: Counter[str] = Counter()
    for item in items:
        areas[item.colour] += round(item.area)
    return areas.most_common(1)[0][0]
