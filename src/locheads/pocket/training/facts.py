"""Facts about the whole scene, answered where an expression is: words of the whole are then needed at its query.

A bare expression has one more kind of right answer: in place of the description of its object the colour and shape of
any other one. So the position that the paper reads must know of all objects, and heads form that look at all of them.
"""

from dataclasses import replace

import numpy as np

from locheads.pocket.language import QUESTION, Exchange
from locheads.pocket.scenes import Scene

FACT = "fact"
"""The kind of such an exchange."""


def true_facts(scene: Scene, target: int) -> list[str]:
    """Every fact that is right after an expression of object `target`."""
    return [f"{item.colour} {item.shape} there" for i, item in enumerate(scene.objects) if i != target]


def with_fact(exchange: Exchange, scene: Scene, rng: np.random.Generator, share: float) -> Exchange:
    """In `share` of the bare expressions with a fact, drawn evenly, as the answer; questions stay as they are."""
    if exchange.kind == QUESTION or exchange.target is None or rng.random() >= share:
        return exchange
    facts = true_facts(scene, exchange.target)
    return replace(exchange, answer=facts[rng.integers(len(facts))], kind=FACT)
