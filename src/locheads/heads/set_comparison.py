"""Two head sets side by side: the heads that both have, how far their rankings agree, and how each was found."""

from dataclasses import dataclass
from math import isfinite

import numpy as np
from scipy.stats import weightedtau

from locheads.discovery.headset import HeadSet
from locheads.errors import ConfigError
from locheads.types import HeadIndex

UNKNOWN = "not known"


@dataclass(frozen=True)
class SetComparison:
    """What is the same, and what is not, in two sets `a` and `b`."""

    shared: tuple[HeadIndex, ...]
    """Heads of both sets, in the order of a."""
    first: tuple[int, ...]
    """How many of the first 1, 2, ... heads they share, as far as the shorter set goes."""
    agreement: float | None
    """See `rank_agreement`."""
    ranks: dict[HeadIndex, tuple[int | None, int | None]]
    """Of every head of either set: its rank in a and in b; None where the source does not tell one."""
    differs: dict[str, tuple[str, str]]
    """What was done differently, or is not known, for a and for b."""


def compare_sets(a: HeadSet, b: HeadSet) -> SetComparison:
    """Raises ConfigError where their models have different shapes, so that a head of one is none of the other."""
    shapes = [f"{each.layers} layers of {each.heads_per_layer} heads" for each in (a, b)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"{a.name} is of a model with {shapes[0]}, {b.name} of one with {shapes[1]}: a head of one means nothing "
            "in the other, so compare sets of one model."
        )
    named = dict.fromkeys([*a.heads, *b.heads])
    facts = how_found(a), how_found(b)
    return SetComparison(
        shared=tuple(head for head in a.heads if head in b.heads),
        first=tuple(len({*a.heads[:n]} & {*b.heads[:n]}) for n in range(1, min(len(a.heads), len(b.heads)) + 1)),
        agreement=rank_agreement(a, b),
        ranks={head: (a.ranks.get(head), b.ranks.get(head)) for head in named},
        differs={name: (facts[0][name], facts[1][name]) for name in facts[0]
                 if facts[0][name] != facts[1][name] or facts[0][name] == UNKNOWN},
    )  # fmt: skip


def rank_agreement(a: HeadSet, b: HeadSet) -> float | None:
    """Weighted Kendall's tau (Vigna 2015, scipy's `weightedtau`): 1 for the same order, -1 for the reverse; the first
    heads count most. Over all heads whose rank either set tells; those that one does not rank tie behind its last.
    None where there is nothing to order."""
    heads = sorted(a.ranks.keys() | b.ranks.keys())
    if len(heads) < 2:
        return None
    last = [1 + max(each.ranks.values()) for each in (a, b)]
    x, y = (np.array([-each.ranks.get(head, n) for head in heads]) for each, n in zip((a, b), last, strict=True))
    tau = float(weightedtau(x, y).statistic)
    return tau if isfinite(tau) else None


def how_found(found: HeadSet) -> dict[str, str]:
    """What identifies a set, in words, for people."""
    how, model = found.how, found.model or UNKNOWN
    whose = {True: "yes", False: "no", None: UNKNOWN}
    facts = {
        "model": model,
        "revision": found.revision,
        "layers x heads": f"{found.layers} x {found.heads_per_layer}",
        "row": how and how.row,
        "prompt": how and how.prompt,
        "data": how and how.data,
        "criterion": how and how.criterion,
        "samples": how and how.n_samples and f"{how.n_samples:,}",
        "measured": how and ", ".join(f"{name} {value:g}" for name, value in how.measured.items()),
        "source": found.source,
        "date": how and how.date,
        "found by us": whose[how.by_us if how else None],
    }
    return {name: UNKNOWN if value in (None, "") else str(value) for name, value in facts.items()}
