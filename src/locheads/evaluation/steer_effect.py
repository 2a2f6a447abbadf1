"""Does the answer change when heads look elsewhere? The change in log-odds, against other heads of the same layers."""

from collections.abc import Sequence
from enum import StrEnum
from math import isnan

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import ConfigDict, StrictFloat, StrictInt
from pydantic.dataclasses import dataclass

from locheads.evaluation.intervals import ratio_interval


class Mode(StrEnum):
    """What is done to the heads."""

    move = "move"
    """Made to look at another object."""
    hide = "hide"
    """Kept from looking at the image."""


class Kind(StrEnum):
    """Which heads it is done to."""

    chosen = "chosen"
    random = "random"
    """Others of the same layers, drawn anew for every expression; heads that follow the words may be among them."""
    least = "least dependent"
    """The others of the same layers that depend least on the words."""


_OF_A_FILE = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_OF_A_FILE)
class Change:
    """A mean over expressions with the ends of its interval over images; None where nothing is known of them."""

    value: StrictFloat
    low: StrictFloat | None
    high: StrictFloat | None

    def __str__(self) -> str:
        ends = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{ends}"


@dataclass(frozen=True, config=_OF_A_FILE)
class SteerEffect:
    """What became of the answers under one treatment."""

    mode: Mode
    kind: Kind
    k: StrictInt
    """How many heads were chosen."""
    heads: list[str]
    """Those that were steered; none for a draw per expression."""
    dependence: StrictFloat | None
    """Their mean dependence on the words."""
    change: Change
    """Of log p(B) - log p(A): A is the first token of the expression's own answer, B that of the other's."""
    becomes: StrictFloat
    """Share of the expressions whose most probable first token is then B."""
    lead: Change | None = None
    """By how much the change of the chosen heads is larger; None for these themselves."""


def mean_change(
    values: Float[np.ndarray, "expression"], images: Int[np.ndarray, "expression"], confidence: float
) -> Change:
    """The mean with its interval over images."""
    found = ratio_interval(values, np.ones(len(values)), images, confidence=confidence, bounded=False)
    return Change(found.value, *(None if isnan(end) else end for end in (found.low, found.high)))


def steer_effects(
    treatments: Sequence[tuple[Mode, Kind, int, list[str], float | None]],
    changes: Float[np.ndarray, "expression treatment"],
    becomes: Bool[np.ndarray, "expression treatment"],
    images: Int[np.ndarray, "expression"],
    confidence: float = 0.95,
) -> list[SteerEffect]:
    """Of every treatment (mode, kind, k, heads, their dependence); there must be an expression.

    Each control is compared, expression by expression, with the chosen heads of its mode and k.
    """
    chosen = {treatment[::2][:2]: i for i, treatment in enumerate(treatments) if treatment[1] == Kind.chosen}
    found = []
    for i, (mode, kind, k, heads, dependence) in enumerate(treatments):
        change = mean_change(changes[:, i], images, confidence)
        ahead = changes[:, chosen[mode, k]] - changes[:, i]
        lead = None if kind == Kind.chosen else mean_change(ahead, images, confidence)
        found.append(SteerEffect(mode, kind, k, heads, dependence, change, float(becomes[:, i].mean()), lead))
    return found


def sentences(effects: Sequence[SteerEffect]) -> list[str]:
    """What the chosen heads do, a sentence for every mode and k."""
    return [
        _sentence(chosen, [one for one in effects if one.lead and (one.mode, one.k) == (chosen.mode, chosen.k)])
        for chosen in effects
        if chosen.kind == Kind.chosen
    ]


_DONE = {Mode.move: "made to look at another object", Mode.hide: "kept from looking at the image"}


def _sentence(effect: SteerEffect, controls: Sequence[SteerEffect]) -> str:
    change, done, these = effect.change, _DONE[effect.mode], f"the {effect.k} chosen heads"
    if change.low is None or change.high is None:
        return f"Whether {these} decide the answer is not known: there are too few images."
    numbers = f"change of the log-odds of the other object's answer {change}, {effect.becomes:.0%} become it"
    if change.low <= 0 <= change.high:
        return f"No effect on the answer is seen when {these} are {done} ({numbers})."
    where = "towards" if change.low > 0 else "away from"
    beside = "".join(f"; {other.kind.value} heads of the same layers {other.change}" for other in controls)
    moved = f"{done.capitalize()}, {these} move the answer {where} another object's ({numbers}{beside})."
    equal = [other.kind.value for other in controls if other.lead and (other.lead.low is None or other.lead.low <= 0)]
    if change.low > 0 and equal:
        return f"{moved} That is not clearly more than {' and '.join(equal)} heads do."
    return moved
