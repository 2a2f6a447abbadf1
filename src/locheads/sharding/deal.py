"""Deals images to workers, even by the tokens that the model will read."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from locheads.types import ImageGroup

IMAGE_TOKENS = 576
"""Of a square image: 24 x 24 patches."""
PIXELS_PER_TOKEN = 28 * 28
"""Where the model sees the image in its own size (Qwen-VL)."""
CHARACTERS_PER_TOKEN = 4
AFTER_EXPRESSION = 2
"""Full stop, end of turn."""


@dataclass(frozen=True)
class TokenCost:
    """Expected tokens of an image. Only relative sizes matter: a wrong guess costs balance, never correctness."""

    shared: bool
    """Whether the image is read once for all its expressions, or once for each."""
    native: bool = False
    """Whether the model sees the image in its own size."""
    template: int = 0
    """Characters of the prompt around image and expression."""

    def of(self, group: ImageGroup) -> float:
        """Tokens of all forward passes for the image."""
        image = group.width * group.height / PIXELS_PER_TOKEN if self.native else IMAGE_TOKENS
        prefix = image + self.template / CHARACTERS_PER_TOKEN
        suffixes = [len(s.expression) / CHARACTERS_PER_TOKEN + AFTER_EXPRESSION for s in group.samples]
        return (prefix if self.shared else prefix * len(suffixes)) + sum(suffixes)


def deal(costs: Sequence[float], count: int) -> list[int]:
    """Which of `count` shards gets which item: the dearest first, each to the shard with the least so far.

    Depends on nothing but its arguments. The fullest shard exceeds the best possible by a third at most (Graham 1969).
    """
    loads = [(0.0, shard) for shard in range(count)]
    result = [0] * len(costs)
    for item in sorted(range(len(costs)), key=lambda item: (-costs[item], item)):
        load, shard = heapq.heappop(loads)
        result[item] = shard
        heapq.heappush(loads, (load + costs[item], shard))
    return result


def deal_images(groups: Sequence[ImageGroup], count: int, cost: TokenCost) -> list[list[ImageGroup]]:
    """Per shard its images, whole, in their order: so every image has the same forward pass for any `count`."""
    shards: list[list[ImageGroup]] = [[] for _ in range(count)]
    for group, shard in zip(groups, deal([cost.of(group) for group in groups], count), strict=True):
        shards[shard].append(group)
    return shards
