"""How much goes into one forward pass, and what happens when it was too much."""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from locheads.models.adapters.base import PreparedInput
from locheads.models.packing import Strip, fit_together, halves

log = logging.getLogger(__name__)

T = TypeVar("T")

TOKENS_ON_CUDA = 16_384
"""Enough to fill a large GPU with a 7B model."""
TOKENS_OF_ONE_IMAGE = 4096


@dataclass
class Budget:
    """The tokens of one forward pass, padding included. A single strip always passes, however long."""

    tokens: int
    one_image: int = TOKENS_OF_ONE_IMAGE
    """Where several strips of one image may share a pass, because it is then looked at once."""

    @classmethod
    def of(cls, setting: int | None, device: torch.device) -> "Budget":
        """What `engine.token_budget` says; without a word one image at a time on a CPU, where more is no faster."""
        return cls(setting or (TOKENS_ON_CUDA if device.type == "cuda" else 1))

    def admits(self, strips: Sequence[Strip]) -> bool:
        """Whether these may share a forward pass."""
        tokens = tokens_of(strips)
        alone = all(strip.image is strips[0].image for strip in strips)
        return len(strips) <= 1 or tokens <= self.tokens or (alone and tokens <= self.one_image)

    def shrink(self, tokens: int) -> None:
        """No later pass has more."""
        self.tokens, self.one_image = (max(1, min(size, tokens)) for size in (self.tokens, self.one_image))


def tokens_of(strips: Sequence[Strip]) -> int:
    """Tokens of the batch, padding included."""
    return len(strips) * max(len(strip) for strip in strips)


def chunks(strips: Sequence[Strip], budget: Budget) -> Iterator[list[Strip]]:
    """The strips in order, in batches within the budget whose images' tensors fit together."""
    batch: list[Strip] = []
    for strip in strips:
        if batch and not (budget.admits([*batch, strip]) and fit_together(batch[0].image, strip.image)):
            yield batch
            batch = []
        batch.append(strip)
    if batch:
        yield batch


def gather(
    items: Iterable[tuple[T, PreparedInput]], strips_of: Callable[[PreparedInput], list[Strip]], budget: Budget
) -> Iterator[list[tuple[T, PreparedInput]]]:
    """Images in order, as many at a time as the budget admits in one forward pass (at least one)."""
    batch: list[tuple[T, PreparedInput]] = []
    strips: list[Strip] = []
    for item in items:
        own = strips_of(item[1])
        if batch and not (budget.admits([*strips, *own]) and fit_together(batch[0][1], item[1])):
            yield batch
            batch, strips = [], []
        batch.append(item)
        strips += own
    if batch:
        yield batch


def with_halving(forward: Callable[[list[Strip]], list[T]], strips: list[Strip], budget: Budget) -> list[T | None]:
    """`forward` of the strips, which gives one result per expression; None for one that does not fit even alone.

    When memory runs out, the halves are tried one after the other, down to a single expression, and the budget
    shrinks for what comes later: nothing that fits is lost.
    """
    try:
        return list(forward(strips))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler: the error's traceback kept the failed pass's tensors alive.
    free_memory()
    parts = halves(strips)
    if parts is None:
        log.warning("Memory ran out on a single expression of %d tokens: it is recorded as failed.", len(strips[0]))
        return [None]
    budget.shrink(tokens_of(strips) // 2)
    expressions = sum(len(strip.suffixes) for strip in strips)
    log.warning("Memory ran out on %d expressions (%d tokens): trying the halves.", expressions, tokens_of(strips))
    return [result for part in parts for result in with_halving(forward, part, budget)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, on a GPU or on the CPU."""
    text = str(error).lower()
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "out of memory" in text or "can't allocate memory" in text


def free_memory() -> None:
    """Lets go of what a pass that failed has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
