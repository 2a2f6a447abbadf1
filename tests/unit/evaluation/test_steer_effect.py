"""Effects of steering against a computation by hand, and what is said of them."""

import re

import numpy as np
import pytest
from scipy import stats

from locheads.evaluation.steer_effect import Change, Kind, Mode, SteerEffect, mean_change, sentences, steer_effects

TREATMENTS = [(Mode.move, kind, 3, [], None) for kind in Kind]


def test_means_leads_and_shares_are_those_by_hand() -> None:
    changes = np.array([[2.0, 1.0, 0.5], [4.0, 1.0, -0.5], [0.0, 3.0, 0.0], [6.0, 3.0, 1.0]])
    becomes = np.array([[True, False, False], [True, True, False], [False, False, False], [True, False, False]])
    chosen, random, least = steer_effects(TREATMENTS, changes, becomes, np.array([0, 0, 1, 2]))
    assert (chosen.change.value, random.change.value, least.change.value) == (3.0, 2.0, 0.25)
    assert (chosen.becomes, random.becomes, least.becomes) == (0.75, 0.25, 0.0)
    assert chosen.lead is None and random.lead is not None and least.lead is not None
    assert (random.lead.value, least.lead.value) == (1.0, 2.75)
    assert random.lead.low is not None and random.lead.high is not None
    assert random.lead.low < 1.0 < random.lead.high


def test_each_control_is_compared_with_the_chosen_of_its_own_mode_and_k() -> None:
    treatments = [(mode, kind, k, [], None) for mode in Mode for k in (1, 2) for kind in (Kind.random, Kind.chosen)]
    changes = np.array([[0.0, 1.0, 0.0, 2.0, 0.0, 4.0, 0.0, 8.0]] * 3)
    found = steer_effects(treatments, changes, changes > 0, np.arange(3))
    assert [effect.lead.value for effect in found if effect.lead] == [1.0, 2.0, 4.0, 8.0]


def test_the_interval_is_over_images_and_not_over_expressions() -> None:
    rng = np.random.default_rng(3)
    of_images = rng.normal(1, 1, 40)
    each = np.repeat(of_images, 8)
    over_images = mean_change(each, np.repeat(np.arange(40), 8), 0.95)
    as_if_apart = mean_change(each, np.arange(320), 0.95)
    expected = stats.ttest_1samp(of_images, 0).confidence_interval(0.95)
    assert over_images.low is not None and as_if_apart.low is not None
    # Ours is a little wider: the most unusual image counts half once more.
    assert expected.low - 0.1 < over_images.low < expected.low
    assert as_if_apart.low > over_images.low + 0.1


def test_one_image_tells_nothing_of_others() -> None:
    assert mean_change(np.array([1.0, 2.0]), np.zeros(2, dtype=int), 0.95) == Change(1.5, None, None)


def effect(low: float | None, high: float | None, kind: Kind = Kind.chosen, lead: float = 1.0) -> SteerEffect:
    value = 0.0 if low is None or high is None else (low + high) / 2
    ahead = None if kind == Kind.chosen else Change(lead, lead - 0.5, lead + 0.5)
    return SteerEffect(Mode.move, kind, 3, [], None, Change(value, low, high), 0.24, ahead)


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        ([effect(0.2, 0.6), effect(0, 0, Kind.random), effect(0, 0, Kind.least)],
         r"^Made to look at another object, the 3 chosen heads move the answer towards another object's .*"
         r"0\.40 \[0\.20, 0\.60\], 24% become it; random heads of the same layers 0\.00.*\)\.$"),
        ([effect(0.2, 0.6), effect(0, 0, Kind.random, 0.1), effect(0, 0, Kind.least)],
         r"That is not clearly more than random heads do\.$"),
        ([effect(-0.1, 0.3), effect(0, 0, Kind.random)], r"^No effect on the answer is seen when the 3 chosen heads"),
        ([effect(-0.4, -0.2), effect(0, 0, Kind.random, -1)], r"move the answer away from another object's .*\)\.$"),
        ([effect(None, None)], r"is not known: there are too few images\.$"),
    ],
)  # fmt: skip
def test_sentences(effects: list[SteerEffect], said: str) -> None:
    (sentence,) = sentences(effects)
    assert re.search(said, sentence), sentence
