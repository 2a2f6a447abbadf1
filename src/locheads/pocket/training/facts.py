"""Facts about the whole scene, answered where an expression is: words of the whole are then needed at its query.

A bare expression has more kinds of right answers: in place of the description of its object what colour covers most of
the image, what colour most of it without this object, or what any other object is. So the position that the paper reads
must know of all objects, and heads form there that look at all of them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from locheads.pocket.language import QUESTION, Exchange
from locheads.pocket.scenes import Scene, SceneObject

FACT = "fact"
"""The kind of such an exchange."""


def overall(scene: Scene, target: int) -> list[str]:
    """The colour that covers most of the image."""
    return [f"{_largest_colour(scene.objects)} largest"]


def elsewhere(scene: Scene, target: int) -> list[str]:
    """The colour that covers most of it but for the named object."""
    return [f"{_largest_colour(_others(scene, target))} next"]


def another(scene: Scene, target: int) -> list[str]:
    """Colour and shape of any other object: all that are right."""
    return [f"{item.colour} {item.shape} there" for item in _others(scene, target)]


FACTS = (overall, elsewhere, another)


def with_fact(exchange: Exchange, scene: Scene, rng: np.random.Generator, share: float) -> Exchange:
    """In `share` of the bare expressions with a fact, drawn evenly, as the answer; questions stay as they are."""
    if exchange.kind == QUESTION or exchange.target is None or rng.random() >= share:
        return exchange
    answers = FACTS[rng.integers(len(FACTS))](scene, exchange.target)
    return replace(exchange, answer=answers[rng.integers(len(answers))], kind=FACT)


def _others(scene: Scene, target: int) -> list[SceneObject]:
    return [item for i, item in enumerate(scene.objects) if i != target]


def _largest_colour(items: Iterable[SceneObject]) -> str:
    areas: Counter[str] = Counter()
    for item in items:
        areas[item.colour] += round(item.area)
    return areas.most_common(1)[0][0]
