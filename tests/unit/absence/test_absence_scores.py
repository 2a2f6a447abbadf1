"""Every score on maps worked by hand, against plain loops from its definition, and on maps that tell nothing."""

from itertools import combinations
from math import hypot, log

import numpy as np
import pytest

from locheads.absence import absence_scores as scores
from locheads.absence.config import AbsenceScore

FLAT = np.full((1, 2, 3, 4), 1 / 24)
SPIKES = np.zeros((1, 2, 3, 4))
SPIKES[0, 0, 0, 0], SPIKES[0, 1, 2, 3] = 0.5, 0.5
ONE_PLACE = np.zeros((1, 2, 3, 4))
ONE_PLACE[0, :, 1, 2] = 0.5


@pytest.fixture
def maps() -> np.ndarray:
    """Of 5 samples and 3 heads, each with a sum below 1."""
    found = np.random.default_rng(0).gamma(0.4, size=(5, 3, 4, 6))
    return found / (found.sum(axis=(2, 3), keepdims=True) * np.random.default_rng(1).uniform(1, 3, (5, 3, 1, 1)))


def own(maps: np.ndarray) -> dict[str, list[float]]:
    return {str(k): v.tolist() for k, v in scores.own_scores(maps, maps, maps.sum(axis=1)).items()}


def test_maps_that_tell_nothing_and_maps_that_point() -> None:
    assert own(FLAT) == {
        "peak": [pytest.approx(1)], "entropy": [pytest.approx(1)], "mass": [pytest.approx(0.5)],
        "agreement": [pytest.approx(0)], "scatter": [0],
    }  # fmt: skip
    # Two heads that point at opposite corners; a peak of 1/2 over a mean of 1/12, two equal cells of twelve.
    assert own(SPIKES) == {
        "peak": [pytest.approx(1 / 6)], "entropy": [pytest.approx(log(2) / log(12))], "mass": [pytest.approx(0.5)],
        "agreement": [1], "scatter": [1],
    }  # fmt: skip
    assert own(ONE_PLACE) == {
        "peak": [pytest.approx(1 / 12)], "entropy": [0], "mass": [0.5], "agreement": [0], "scatter": [0],
    }  # fmt: skip


def test_zeros_tell_nothing() -> None:
    """A map without weight speaks for nothing there, and is no NaN."""
    assert own(np.zeros((1, 2, 3, 4))) == {"peak": [1], "entropy": [1], "mass": [1], "agreement": [1], "scatter": [0]}


def test_one_head_has_no_pairs() -> None:
    assert set(own(FLAT[:, :1])) == {"peak", "entropy", "mass"}


def test_the_scores_agree_with_plain_loops(maps: np.ndarray) -> None:
    found = own(maps)
    for i, heads in enumerate(maps):
        fused = [sum(float(head[r, c]) for head in heads) for r in range(4) for c in range(6)]
        total, pairs = sum(fused), list(combinations(heads, 2))
        assert found["peak"][i] == pytest.approx(total / 24 / max(fused), abs=1e-12)
        nats = -sum(v / total * log(v / total) for v in fused if v > 0)
        assert found["entropy"][i] == pytest.approx(nats / log(24), abs=1e-12)
        assert found["mass"][i] == pytest.approx(1 - sum(float(head.sum()) for head in heads) / 3, abs=1e-12)
        overlaps = [
            sum(min(a[r, c] / a.sum(), b[r, c] / b.sum()) for r in range(4) for c in range(6)) for a, b in pairs
        ]
        assert found["agreement"][i] == pytest.approx(1 - sum(overlaps) / 3, abs=1e-12)
        at = [[divmod(int(one.argmax()), 6) for one in pair] for pair in pairs]
        away = [hypot(a[0] - b[0], a[1] - b[1]) / hypot(3, 5) for a, b in at]
        assert found["scatter"][i] == pytest.approx(sum(away) / 3, abs=1e-12)


def test_what_is_shared_with_other_questions(maps: np.ndarray) -> None:
    """1 - the share of the weight that is above the mean of the references, cell by cell."""
    fused, against = maps.sum(axis=1), scores.other_refs(["a", "a", "b", "c", "c"])
    found = scores.shared(fused, fused, against)
    for i, own_map in enumerate(fused):
        others = [fused[j] for j in range(5) if against[i, j]]
        mean = sum(others) / len(others)
        left = sum(max(own_map[r, c] - mean[r, c], 0) for r in range(4) for c in range(6))
        assert found[i] == pytest.approx(1 - left / own_map.sum(), abs=1e-12)
    assert against.tolist()[0] == [False, False, True, True, True]


def test_the_same_map_whatever_is_asked_is_shared_wholly() -> None:
    same = np.repeat(np.random.default_rng(0).random((1, 3, 4)), 3, axis=0)
    assert scores.shared(same, same, scores.other_refs(["a", "b", "c"])).tolist() == pytest.approx([1, 1, 1])


def test_without_others_it_is_as_if_the_object_were_there() -> None:
    alone = np.random.default_rng(0).random((2, 3, 4))
    assert scores.shared(alone, alone, scores.other_refs(["a", "a"])).tolist() == [0, 0]


def test_every_score_has_a_number() -> None:
    """A member of AbsenceScore that nothing works out would be a setting without effect."""
    made = set(own(FLAT)) | {AbsenceScore.others, AbsenceScore.probes}
    assert made == set(AbsenceScore) - {AbsenceScore.off, AbsenceScore.calibrated}
