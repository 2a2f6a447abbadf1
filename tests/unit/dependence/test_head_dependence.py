"""Dependence, peak gap and AUC, against a plain loop over the pairs."""

import numpy as np
import pytest

from locheads.dependence.head_dependence import head_dependence
from locheads.dependence.overlaps import PairTable


def by_a_loop(table: PairTable, layer: int, head: int) -> dict[str, float]:
    same, other, lex_same, lex_other, stays = [], [], [], [], {True: [], False: []}
    for i in range(len(table.image)):
        if not table.same_token[i]:
            continue
        overlap = float(table.overlap[i, layer, head])
        (same if table.same[i] else other).append(overlap)
        stays[bool(table.same[i])].append(bool(table.stays[i, layer, head]))
        if table.same[i] and not table.shares_word[i]:
            lex_same.append(overlap)
        if not table.same[i] and table.shares_word[i]:
            lex_other.append(overlap)
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    wins = [(a > b) + 0.5 * (a == b) for a in same for b in other]
    return {
        "dependence": 1 - mean(other) / mean(same),
        "lex": 1 - mean(lex_other) / mean(lex_same),
        "auc": mean(wins),
        "stays_same": mean(stays[True]),
        "stays_other": mean(stays[False]),
    }


def test_every_number_equals_a_plain_loop(random_table) -> None:
    table = random_table()
    found = head_dependence(table)
    for layer, head in np.ndindex(2, 3):
        expected = by_a_loop(table, layer, head)
        for name, value in expected.items():
            assert getattr(found, name)[layer, head] == pytest.approx(value, abs=1e-6), name
        assert found.gap[layer, head] == pytest.approx(expected["stays_same"] - expected["stays_other"], abs=1e-6)


def test_the_order_of_the_pairs_and_their_repetition_change_nothing(random_table) -> None:
    table = random_table()
    found = head_dependence(table).arrays()
    shuffled = table.only(np.random.default_rng(3).permutation(len(table.image)))
    twice = table.only(np.repeat(np.arange(len(table.image)), 2))
    for other in (shuffled, twice):
        for name, values in head_dependence(other).arrays().items():
            np.testing.assert_allclose(values, found[name], rtol=0, atol=1e-12)
    # And what should change something does.
    flipped = PairTable(**{**vars(table), "same": ~table.same})
    assert np.abs(head_dependence(flipped).dependence - found["dependence"]).min() > 1e-3


def test_a_sink_has_no_dependence_and_a_head_that_moves_has_all_of_it(random_table) -> None:
    table = random_table(heads=(3,))
    table.overlap[:, 0] = 0.9  # the same map whatever is asked
    table.overlap[:, 1] = np.where(table.same, 1, 0)
    table.overlap[:, 2] = 0  # empty maps
    found = head_dependence(table)
    assert found.dependence.tolist() == [0, 1, 0]
    assert found.auc.tolist() == [0.5, 1, 0.5]


@pytest.mark.parametrize("kind", [True, False])
def test_without_pairs_of_a_kind_nothing_is_known(random_table, kind: bool) -> None:
    table = random_table()
    found = head_dependence(table.only(table.same == kind))
    for name in ("dependence", "lex", "auc"):
        assert np.isnan(getattr(found, name)).all()
    assert np.isnan(found.stays_other if kind else found.stays_same).all()
    assert np.isfinite(found.stays_same if kind else found.stays_other).all()
