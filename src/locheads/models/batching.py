"""Prompts become the rows of a batch: several expressions of an image in one strip, several strips in one forward.

A strip is [prefix with the image | suffix 1 | suffix 2 | ...]. With the image before the text and a causal decoder,
nothing before the expression depends on it, so the LVLM reads the image once. Exact: a block mask keeps the suffixes
apart, and their positions start again after the prefix, so every suffix sees what it would see alone. Where a family
cannot share, a strip holds one suffix and the family makes its own mask.

How much goes into one forward pass says a `Budget`; where memory runs out, `with_halving` tries the halves.
"""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from locheads.models.adapters import PreparedInput

log = logging.getLogger(__name__)

T = TypeVar("T")

TOKENS_ON_CUDA = 16_384
"""Enough to fill a large GPU with a 7B model."""
TOKENS_OF_ONE_IMAGE = 4096
POINTING = "image_token_pooling"
"""Molmo 2's: it counts the patches of its own image, so nothing can be joined to that."""
TOKENS_OF_A_QUERY = 24
"""What a query token counts besides itself, for the rows that it leaves on the device until the pass ends: in float32
some 2.4 MB over 1,024 heads and 576 cells, as much as a layer of a 7B model works with for 24 tokens (100 KB each)."""


@dataclass(frozen=True)
class Strip:
    """One row of a batch: an image with some of its expressions."""

    image: PreparedInput
    suffixes: tuple[int, ...]
    """Which of the image's, in order."""

    def lengths(self) -> list[int]:
        """Tokens of each suffix."""
        return [len(self.image.suffixes[i]) for i in self.suffixes]

    def ends(self) -> Int[Tensor, "suffix"]:
        """Where the last token of each suffix stands in the row."""
        return len(self.image.prefix) + torch.tensor(self.lengths()).cumsum(0) - 1

    def n_queries(self) -> int:
        """Query tokens of all its suffixes."""
        return sum(end - first for first, end in (self.image.spans[i] for i in self.suffixes))

    def __len__(self) -> int:
        """Tokens of the row."""
        return len(self.image.prefix) + sum(self.lengths())


@dataclass(frozen=True)
class Batch:
    """What one forward pass takes, besides the images: B strips, padded on the right to T tokens."""

    input_ids: Int[Tensor, "batch token"]
    position_ids: Int[Tensor, "batch token"] | Int[Tensor, "axis batch token"] | None
    """None where the family counts for itself."""
    mask: Bool[Tensor, "batch 1 token token"] | Int[Tensor, "batch token"]
    """Block mask, True where a token may attend; or, where nothing is shared, 1 for tokens and 0 for padding."""
    queries: Int[Tensor, "batch query"]
    """Query tokens of all suffixes in order; shorter rows repeat their last."""
    counts: tuple[int, ...]
    """How many query tokens each strip has."""
    keys: Int[Tensor, "batch key"]
    """Image tokens; shorter rows repeat their last."""
    token_types: dict[str, Int[Tensor, "batch token"]]
    images: tuple[PreparedInput, ...]
    """Each once, in order."""
    copies: tuple[int, ...]
    """How many strips in a row each image has."""
    causal_prefix: int | None
    """Length of the prefix of every strip, under block masks; None where they differ, or there are no such masks."""

    def tensors(self, once: bool = False) -> dict[str, Tensor]:
        """The images' tensors, one after the other along the first axis: for every strip, or each `once`."""
        copies = [1] * len(self.images) if once else self.copies
        parts = [image.tensors for image, n in zip(self.images, copies, strict=True) for _ in range(n)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def whole(image: PreparedInput) -> list[Strip]:
    """All expressions of the image in one strip."""
    return [Strip(image, tuple(range(len(image.suffixes))))]


def single(image: PreparedInput) -> list[Strip]:
    """A strip per expression."""
    return [Strip(image, (i,)) for i in range(len(image.suffixes))]


def halves(strips: Sequence[Strip]) -> tuple[list[Strip], list[Strip]] | None:
    """The first and second half of the expressions; None where a single one is left."""
    if len(strips) > 1:
        return list(strips[: len(strips) // 2]), list(strips[len(strips) // 2 :])
    strip = strips[0]
    middle = len(strip.suffixes) // 2
    if middle == 0:
        return None
    return [Strip(strip.image, strip.suffixes[:middle])], [Strip(strip.image, strip.suffixes[middle:])]


def fit_together(one: PreparedInput, other: PreparedInput) -> bool:
    """Whether the tensors of two images can lie in one batch."""
    if POINTING in one.tensors:
        return False
    return one.tensors.keys() == other.tensors.keys() and all(
        tensor.shape[1:] == other.tensors[name].shape[1:] for name, tensor in one.tensors.items()
    )


def collate(strips: Sequence[Strip], shared: bool) -> Batch:
    """The batch of some strips. `shared`: with block masks; else each strip must hold one suffix."""
    ids = [torch.cat([s.image.prefix, *(s.image.suffixes[i] for i in s.suffixes)]) for s in strips]
    length = max(len(row) for row in ids)
    queries = [_queries(strip) for strip in strips]
    images = [strip.image for strip in strips]
    types = [_pad(_types(strip), length, 0) for strip in strips if strip.image.token_types is not None]
    runs = [list(run) for _, run in groupby(images, key=id)]
    own_positions = not shared and images[0].prefix_positions is None
    return Batch(
        # Padded with a word: an image token would ask for features.
        input_ids=torch.stack([_pad(row, length, int(row[-1])) for row in ids]),
        position_ids=None if own_positions else torch.stack([_pad(_positions(s), length, 0) for s in strips], dim=-2),
        mask=_block_masks(strips, length)
        if shared
        else torch.stack([_pad(torch.ones_like(i), length, 0) for i in ids]),
        queries=_aligned(queries),
        counts=tuple(map(len, queries)),
        keys=_aligned([image.image_tokens for image in images]),
        token_types={} if not types else {images[0].token_types_name: torch.stack(types)},
        images=tuple(run[0] for run in runs),
        copies=tuple(len(run) for run in runs),
        causal_prefix=_common_prefix(images) if shared else None,
    )


def _common_prefix(images: Sequence[PreparedInput]) -> int | None:
    lengths = {len(image.prefix) for image in images}
    return lengths.pop() if len(lengths) == 1 else None


def _types(strip: Strip) -> Int[Tensor, "token"]:
    image = strip.image
    assert image.token_types is not None
    types = image.suffix_types or [torch.zeros_like(suffix) for suffix in image.suffixes]
    return torch.cat([image.token_types, *(types[i] for i in strip.suffixes)])


def _pad(row: Int[Tensor, "*n token"], length: int, value: int) -> Int[Tensor, "*n length"]:
    return torch.nn.functional.pad(row, (0, length - row.shape[-1]), value=value)


def _aligned(rows: Sequence[Int[Tensor, "n"]]) -> Int[Tensor, "batch longest"]:
    longest = max(len(row) for row in rows)
    return torch.stack([_pad(row, longest, int(row[-1])) for row in rows])


def _positions(strip: Strip) -> Int[Tensor, "token"] | Int[Tensor, "axis token"]:
    prefix = strip.image.prefix_positions
    if prefix is None:
        prefix = torch.arange(len(strip.image.prefix))
    start = int(prefix.max()) + 1
    suffixes = [torch.arange(start, start + n).expand(*prefix.shape[:-1], n) for n in strip.lengths()]
    return torch.cat([prefix, *suffixes], dim=-1)


def _queries(strip: Strip) -> Int[Tensor, "query"]:
    """Where the query tokens of the suffixes stand in the strip."""
    parts, start = [], len(strip.image.prefix)
    for i, length in zip(strip.suffixes, strip.lengths(), strict=True):
        first, end = strip.image.spans[i]
        parts.append(torch.arange(start + first, start + end))
        start += length
    return torch.cat(parts)


def _block_masks(strips: Sequence[Strip], length: int) -> Bool[Tensor, "batch 1 token token"]:
    # Padding sees itself: a row that sees nothing would be NaN.
    mask = torch.eye(length, dtype=torch.bool).repeat(len(strips), 1, 1)[:, None]
    for row, strip in zip(mask[:, 0], strips, strict=True):
        size = len(strip)
        # Segment 0 is the prefix, segment i the i-th suffix.
        counts = torch.tensor([len(strip.image.prefix), *strip.lengths()])
        segment = torch.repeat_interleave(torch.arange(len(counts)), counts)
        visible = (segment[None, :] == 0) | (segment[:, None] == segment[None, :])
        row[:size, :size] = visible.tril()
    return mask


@dataclass
class Budget:
    """The tokens of one forward pass, padding and query rows included. A single strip always passes, however long."""

    tokens: int
    one_image: int = TOKENS_OF_ONE_IMAGE
    """Where several strips of one image may share a pass, because it is then looked at once."""

    @classmethod
    def of(cls, setting: int | None, device: torch.device) -> "Budget":
        """What `engine.token_budget` says; without a word one image at a time on a CPU, where more is no faster."""
        return cls(setting or (TOKENS_ON_CUDA if device.type == "cuda" else 1))

    def admits(self, strips: Sequence[Strip]) -> bool:
        """Whether these may share a forward pass."""
        size = size_of(strips)
        one_image = all(strip.image is strips[0].image for strip in strips)
        return len(strips) <= 1 or size <= self.tokens or (one_image and size <= self.one_image)

    def shrink(self, size: int) -> None:
        """No later pass takes more."""
        self.tokens, self.one_image = (max(1, min(limit, size)) for limit in (self.tokens, self.one_image))


def tokens_of(strips: Sequence[Strip]) -> int:
    """Tokens of the batch, padding included."""
    return len(strips) * max(len(strip) for strip in strips)


def size_of(strips: Sequence[Strip]) -> int:
    """What the batch takes of a budget: its tokens, and what its query rows count."""
    return tokens_of(strips) + TOKENS_OF_A_QUERY * sum(strip.n_queries() for strip in strips)


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
    budget.shrink(size_of(strips) // 2)
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
