"""What of the explorer's records goes into one file of limited size."""

from dataclasses import dataclass

import numpy as np

from locheads.records.explorer_file import ExplorerFile, ExplorerSample

LIMIT = 30_000_000
"""Bytes of the self-contained page. Browsers open larger files, but mail and chat refuse them."""
SHELL = 80_000
"""Bytes kept for markup, style and script."""
PER_CELL = 48
"""Bytes of the grid's numbers for each head of the model."""
LINE = 700
"""Bytes of a sample's own record beside its expression and its heads."""
PER_HEAD = 24
"""Bytes that a head costs in a sample's record: its name and its scale."""
MIN_HEADS = 8
"""Samples are left out before fewer heads than this are left of each."""


@dataclass(frozen=True)
class Shown:
    """One sample on the page."""

    sample: ExplorerSample
    n_heads: int
    """Its first heads; the rest of its maps stays in the run folder."""


def fit(record: ExplorerFile, limit: int = LIMIT) -> list[Shown]:
    """As many samples as possible with MIN_HEADS heads, evenly spaced; then as many heads as possible."""
    n = len(record.samples)
    while n > 0:
        chosen = [record.samples[i] for i in np.unique(np.linspace(0, len(record.samples) - 1, n).round().astype(int))]
        room = limit - SHELL - PER_CELL * record.layers * record.heads_per_layer - _fixed(record, chosen)
        least = sum(min(MIN_HEADS, len(s.heads)) * _head_cost(s) for s in chosen)
        if least <= room:
            return _shared_out(chosen, room)
        n = min(n - 1, int(n * 0.95))
    return []


def _shared_out(samples: list[ExplorerSample], room: float) -> list[Shown]:
    """The most heads per sample, the same number for all where their grids are equal, that fit into `room` bytes."""
    low, high = min(MIN_HEADS, _most(samples)), _most(samples)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(middle, len(s.heads)) * _head_cost(s) for s in samples) <= room:
            low = middle
        else:
            high = middle - 1
    return [Shown(s, min(low, len(s.heads))) for s in samples]


def _most(samples: list[ExplorerSample]) -> int:
    return max((len(s.heads) for s in samples), default=0)


def _fixed(record: ExplorerFile, samples: list[ExplorerSample]) -> float:
    """Bytes of the images (each counted once), expressions and samples' own lines."""
    numbers = {s.image for s in samples if s.image is not None}
    # 6: an odd character becomes \uXXXX.
    texts = sum(6 * len(s.expression) + 6 * len(s.error or "") + LINE for s in samples)
    return sum(4 / 3 * len(record.image(number)) + 100 for number in numbers) + texts


def _head_cost(sample: ExplorerSample) -> float:
    return 4 / 3 * sample.cells + PER_HEAD
