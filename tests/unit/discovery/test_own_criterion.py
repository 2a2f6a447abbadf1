"""A criterion of a user's own, outside the package: it ranks by a number of its own, which the store keeps, too."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import own_criterion
import pytest

from locheads.config import Config
from locheads.discovery.config import CriterionConfig
from locheads.discovery.criteria import CRITERIA, Criterion
from locheads.discovery.frequencies import discover, top_heads
from locheads.discovery.rank import rank_values
from locheads.discovery.scores import score, score_all
from locheads.errors import ConfigError, DiscoveryError
from locheads.map_numbers import Number
from locheads.pipeline.attention_pass import to_store
from locheads.pipeline.receipt import receipt_key
from locheads.store.attention_store import AttentionStore
from locheads.store.needed_maps import NeededMaps
from locheads.store.packed_maps import PackedMaps
from locheads.types import HeadIndex, ImageGroup, Sample

OWN = CriterionConfig(score="own_criterion:narrow", tau=0.0, skip_layers=0)


def test_heads_are_ranked_by_the_number_of_ones_own(attentions) -> None:
    images = attentions(6, planted=True)
    scores = score_all(images, OWN)
    for row, image in enumerate(images):  # worked out cell by cell
        for layer, head in ((0, 0), (2, 1), (3, 3)):
            weights = {at: float(a) for at, a in np.ndenumerate(image.maps[0, layer, head])}
            total = sum(weights.values())
            centre = [sum(at[axis] * a for at, a in weights.items()) / total for axis in (0, 1)]
            square = sum(a * ((r - centre[0]) ** 2 + (c - centre[1]) ** 2) for (r, c), a in weights.items()) / total
            assert scores["spread"][row, layer, head] == pytest.approx(square**0.5, abs=1e-6)
    np.testing.assert_array_equal(rank_values(scores, np.full((4, 4), True), OWN), scores["spread"])
    found = discover(scores, [np.arange(6)], replace(OWN, candidates=1))
    assert top_heads(found, 1) == [HeadIndex(2, 1)]
    # Another criterion ranks otherwise, and the number is worked out for the criterion that reads it only.
    plain = replace(OWN, score="s_img")
    assert top_heads(discover(scores, [np.arange(6)], replace(plain, candidates=1)), 1) != [HeadIndex(2, 1)]
    assert set(score(images[0], plain).numbers) == {"sums", "entropy", "bottom_row"}
    with pytest.raises(DiscoveryError, match="hold no spread: score the attention maps by the criterion"):
        rank_values(score_all(images, plain), np.full((4, 4), True), OWN)


def test_the_store_keeps_the_number_under_a_key_that_an_edited_module_changes(
    attentions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = attentions(1, planted=True)
    need = NeededMaps(frozenset(), scored_by=OWN.numbers_key())
    packed = PackedMaps.of(image.maps)
    part, _ = to_store(replace(image, maps=packed.unpacked()), packed, need, OWN)
    store = AttentionStore(tmp_path, {"model": "m"})
    store.write([part])
    sample = Sample(image.sample_ids[0], "r", "cup", (0.0, 0.0, 1.0, 1.0), {}, "cup")
    group = ImageGroup(image.image_id, tmp_path / "absent.jpg", 96, 96, (sample,))
    (found,) = AttentionStore(tmp_path, {"model": "m"}).read([group], OWN.numbers_key())
    assert set(found.scores.numbers) == {"sums", "entropy", "bottom_row", "spread"}
    for name, values in part.scores.numbers.items():
        np.testing.assert_array_equal(found.scores[name], values)
    assert store.missing([group], need) == []
    assert store.missing([group], NeededMaps(frozenset(), scored_by=CriterionConfig().numbers_key())) == [group]
    inputs: Any = SimpleNamespace(images_digest=None)
    receipts = [receipt_key(Config(criterion=criterion), "d", inputs) for criterion in (OWN, CriterionConfig())]
    edited = tmp_path / "own_criterion.py"
    edited.write_text(Path(own_criterion.__file__).read_text() + "\n# edited\n")
    monkeypatch.setattr(sys.modules["own_criterion"], "__file__", str(edited))
    assert store.missing([group], NeededMaps(frozenset(), scored_by=OWN.numbers_key())) == [group]
    again = [receipt_key(Config(criterion=criterion), "d", inputs) for criterion in (OWN, CriterionConfig())]
    assert [one == other for one, other in zip(receipts, again, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("score", "said"),
    [
        ("narow", r"There is no criterion.score=narow: use one of s_img, entropy, "),
        ("own_criterion:Number", "neither a subclass nor an instance of locheads.discovery.criteria.Criterion"),
        ("own_criterion:Criterion", "is a class"),
        ("own_criterion:broad", "holds no broad"),
    ],
)
def test_what_is_no_criterion_is_refused_with_the_settings(score: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CriterionConfig(score=score)


def test_a_number_that_would_hide_another_or_has_another_shape_is_refused(
    attentions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="two numbers with the name entropy"):
        Criterion(lambda scores: scores["entropy"], numbers=(Number("entropy", own_criterion.spread),))
    with pytest.raises(DiscoveryError, match=r"number peak of 16 attention maps has the shape \(\)"):
        Number("peak", lambda maps: maps.max()).of(attentions(1, planted=True)[0].maps, OWN)
    monkeypatch.setitem(CRITERIA, "flat", Criterion(lambda scores: scores["sums"].mean(axis=0)))
    scores = score_all(attentions(3, planted=True), OWN)
    with pytest.raises(DiscoveryError, match=r"criterion.score=flat gives values of the shape \(4, 4\)"):
        rank_values(scores, np.full((4, 4), True), CriterionConfig(score="flat"))
