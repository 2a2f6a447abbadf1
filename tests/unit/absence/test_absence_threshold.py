"""The rules on six samples of each kind, and against a search over every threshold."""

import numpy as np
import pytest

from locheads.absence.config import AbsenceConfig
from locheads.absence.threshold import rates, threshold_of

TARGETED, ABSENT = [0.1, 0.2, 0.2, 0.3, 0.6, 0.7], [0.2, 0.5, 0.6, 0.8, 0.9, 0.9]
SCORES = np.array(TARGETED + ABSENT)
IS_ABSENT = np.array([False] * 6 + [True] * 6)


def test_rates_count_what_reaches_a_threshold() -> None:
    found = rates(SCORES, IS_ABSENT)
    at = dict(zip(found.thresholds.round(9).tolist(), zip(found.n_acc, found.false_alarm, strict=True), strict=True))
    assert at[0.1] == (1, 1)
    assert at[0.6] == (pytest.approx(4 / 6), pytest.approx(2 / 6))
    assert found.n_acc[-1] == found.false_alarm[-1] == 0


@pytest.mark.parametrize(
    ("settings", "threshold"),
    [
        ({"rule": "equal_error"}, 0.6),  # 2 of 6 wrong on either side
        ({"rule": "youden"}, 0.8),  # 3/6 - 0 equals 5/6 - 2/6 at 0.5: the one that says "none" less
        ({"rule": "false_alarm", "false_alarm": 0.34}, 0.5),  # 2 of 6 targeted ones, 5 of 6 absent ones
        ({"rule": "false_alarm", "false_alarm": 0.1}, 0.8),
    ],
)
def test_rules_by_hand(settings: dict, threshold: float) -> None:
    assert threshold_of(SCORES, IS_ABSENT, AbsenceConfig(**settings)) == pytest.approx(threshold)


def test_where_every_threshold_alarms_too_often_nothing_is_none() -> None:
    scores, absent = np.array([0.9, 0.1]), np.array([False, True])
    found = threshold_of(scores, absent, AbsenceConfig(rule="false_alarm", false_alarm=0.05))
    assert found > 0.9


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_is_better_than_the_one_of_the_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, absent = rng.integers(0, 12, 40) / 12, rng.random(40) < 0.4
    tried = [*np.unique(scores), 2.0]

    def error(t: float) -> tuple[float, float]:
        miss = sum(s < t for s, a in zip(scores, absent, strict=True) if a) / absent.sum()
        alarm = sum(s >= t for s, a in zip(scores, absent, strict=True) if not a) / (~absent).sum()
        return miss, alarm

    for rule, badness in {
        "equal_error": lambda t: abs(error(t)[0] - error(t)[1]),
        "youden": lambda t: sum(error(t)),
        "false_alarm": lambda t: error(t)[0] + (9 if error(t)[1] > 0.05 else 0),
    }.items():
        found = threshold_of(scores, absent, AbsenceConfig(rule=rule))
        assert badness(found) == pytest.approx(min(map(badness, tried)), abs=1e-9)
