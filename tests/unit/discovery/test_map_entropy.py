"""The entropy of the normalised map as a criterion."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from locheads.discovery.config import CriterionConfig
from locheads.discovery.frequencies import discover, top_heads
from locheads.discovery.rank import rank_values
from locheads.discovery.scores import score, score_all
from locheads.types import HeadIndex

CONF = Path(__file__).resolve().parents[3] / "conf" / "criterion" / "map_entropy.yaml"


@pytest.fixture
def criterion() -> CriterionConfig:
    return CriterionConfig(**yaml.safe_load(CONF.read_text()) | {"tau": 0.0, "skip_layers": 0, "candidates": 1})


def test_it_is_shannons_entropy_of_the_normalised_map_in_nats(attentions, criterion: CriterionConfig) -> None:
    (image,) = attentions(1, planted=True)
    found = score(image, criterion)["map_entropy"]
    flat = image.maps.astype(np.float64).reshape(1, 4, 4, -1)
    np.testing.assert_allclose(found, stats.entropy(flat, axis=-1), rtol=0, atol=1e-12)
    assert found[0, 2, 1] == pytest.approx(math.log(9), abs=1e-6)  # a block of nine equal cells
    unnormalised = -(flat * np.log(np.where(flat > 0, flat, 1))).sum(axis=-1)
    assert np.abs(found - unnormalised).min() > 1e-3


def test_it_ranks_the_heads_above_the_threshold_and_finds_the_planted_one(
    attentions, criterion: CriterionConfig
) -> None:
    scores = score_all(attentions(10, planted=True), criterion)
    values = rank_values(scores, np.full((4, 4), True), criterion)
    np.testing.assert_array_equal(values, scores["map_entropy"])
    assert np.abs(values - scores["entropy"]).min() > 0.1  # another number than the spatial entropy
    assert top_heads(discover(scores, [np.arange(10)], criterion), 1) == [HeadIndex(2, 1)]
    noise = score_all(attentions(10, planted=False), criterion)
    assert discover(noise, [np.arange(10)], criterion).frequency_mean[2, 1] < 0.5


def test_a_map_without_attention_or_that_is_flat_is_never_chosen(attentions, criterion: CriterionConfig) -> None:
    (image,) = attentions(1, planted=True)
    image.maps[0, 2, 1] = 0
    image.maps[0, 3, 3] = 1e-3
    values = rank_values(score(image, criterion), np.full((4, 4), True), criterion)
    assert np.isfinite(values).sum() == 14
    assert not np.isfinite(values[0, [2, 3], [1, 3]]).any()
