"""Contrast by hand, against a plain loop, and on heads that look at one place whatever is asked."""

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locheads.data.image_groups import merged
from locheads.geometry import stretched
from locheads.grounding.config import Contrast, GroundingConfig
from locheads.grounding.contrast import PROBES, contrast, contrast_asked, probes_of, read_maps, uncontrasted
from locheads.grounding.ground_maps import ground_maps
from locheads.types import Attention, HeadIndex, ImageGroup, Sample

A, B, C = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (0.0, 20.0, 10.0, 30.0)
HEADS = (HeadIndex(0, 1), HeadIndex(1, 0))


def sample(sample_id: str, ref_id: str, box: tuple = A) -> Sample:
    return Sample(sample_id, ref_id, f"the {sample_id}", box, {}, "thing")


GROUP = ImageGroup(
    "7",
    Path("7.jpg"),
    30,
    30,
    # Two expressions of one ref, one of another, one of a third, and a ref of its own for the first one's box.
    (sample("a1", "a"), sample("a2", "a"), sample("b", "b", B), sample("c", "c", C), sample("a3", "again")),
)
OTHERS = {"a1": "bc", "a2": "bc", "b": ("a1", "a2", "c", "a3"), "c": ("a1", "a2", "b", "a3"), "a3": "bc"}


def attention(group: ImageGroup = GROUP, side: int = 3, seed: int = 0) -> Attention:
    """Of 2 layers x 2 heads."""
    ids = tuple(one.sample_id for one in group.samples)
    maps = np.random.default_rng(seed).gamma(0.5, size=(len(ids), 2, 2, side, side)).astype(np.float32)
    return Attention(
        group.image_id, ids, maps, maps.sum(axis=(-2, -1)), stretched(group.width, group.height, side, side)
    )


def one_by_one(whole: Attention, heads: Collection[HeadIndex] = HEADS) -> list[Attention]:
    """As samples come that are stored in parts."""
    rows = range(len(whole.sample_ids))
    maps = [np.stack([whole.maps[[i], head.layer, head.head] for head in heads], axis=1) for i in rows]
    means = [whole.maps[[i]].mean(axis=(1, 2)) for i in rows]
    parts = zip(whole.sample_ids, maps, means, strict=True)
    return [replace(whole, sample_ids=(i,), maps=m, heads=tuple(heads), mean=mean, sums=None) for i, m, mean in parts]


def reads(*stored: Attention) -> Any:
    """`AttentionStore.read` of these."""

    def read(groups: list[ImageGroup], heads: Any = None) -> Iterator[Attention]:
        ids = {one.sample_id for group in groups for one in group.samples}
        for found in stored:
            rows = [i for i, sample_id in enumerate(found.sample_ids) if sample_id in ids]
            kept = tuple(found.sample_ids[i] for i in rows)
            if rows:
                mean = None if found.mean is None else found.mean[rows]
                yield replace(found, sample_ids=kept, maps=found.maps[rows], mean=mean)

    return read


def plain(maps: np.ndarray, references: list[np.ndarray]) -> np.ndarray:
    """Cell by cell; maps [row, col] of one head."""
    found = np.zeros(maps.shape)
    for row in range(maps.shape[0]):
        for col in range(maps.shape[1]):
            others = [float(one[row, col]) for one in references if np.isfinite(one).all()]
            found[row, col] = max(float(maps[row, col]) - (math.fsum(others) / len(others) if others else 0.0), 0.0)
    return found


def test_by_hand() -> None:
    own = np.array([[9, 1, 0], [0, 5, 0], [0, 0, 2]], np.float32)
    others = np.array([[[7, 1, 0], [0, 1, 0], [0, 0, 8]], [[9, 3, 0], [0, 3, 0], [4, 0, 0]]], np.float32)
    found = contrast(own[None, None], others[:, None], np.ones((1, 2), bool))
    np.testing.assert_array_equal(found[0, 0], [[1, 0, 0], [0, 3, 0], [0, 0, 0]])


@pytest.mark.parametrize("in_parts", [False, True])
def test_every_map_is_less_the_mean_of_those_of_other_objects(in_parts: bool) -> None:
    whole = attention()
    stored = one_by_one(whole) if in_parts else [whole]
    (found,) = read_maps(reads(*stored), GROUP, Contrast.others)
    assert found.sample_ids == whole.sample_ids
    places = {sample_id: i for i, sample_id in enumerate(whole.sample_ids)}
    mean = whole.maps.mean(axis=(1, 2))
    for row, sample_id in enumerate(found.sample_ids):
        others = [places[other] for other in OTHERS[sample_id]]
        for head, contrasted in zip(HEADS, found.chosen(row, HEADS), strict=True):
            of_head = whole.maps[:, head.layer, head.head]
            np.testing.assert_allclose(contrasted, plain(of_head[row], [of_head[i] for i in others]), atol=1e-6)
        expected = plain(mean[row], [mean[i] for i in others])
        np.testing.assert_allclose(found.mean_map(row), expected, atol=1e-6)
        # The mean is a map of its own, not the mean of the heads' contrasted maps.
        assert np.abs(whole.maps[row] - whole.maps[others].mean(axis=0)).clip(0).mean() > expected.mean()
    assert found.sums is found.scores is found.cells is None


def test_expressions_of_the_same_object_take_nothing_from_each_other() -> None:
    whole = attention()
    group = replace(GROUP, samples=(*GROUP.samples[:2], GROUP.samples[4]))  # one ref twice, and its box again
    (found,) = read_maps(reads(whole), group, Contrast.others)
    np.testing.assert_array_equal(found.maps, whole.maps[[0, 1, 4]])
    assert uncontrasted([GROUP, group], Contrast.others, ()) == ["a1", "a2", "a3"]
    # Of one image only b and c are other objects; where both failed, nothing is left to contrast with.
    assert uncontrasted([GROUP], Contrast.others, {"b", "c"}) == ["a1", "a2", "a3"]
    assert uncontrasted([GROUP], Contrast.others, {"b"}) == []


def test_a_map_that_is_not_finite_spoils_no_other_and_stays_so() -> None:
    whole = attention()
    whole.maps[2, 0, 1, 1, 1] = np.nan  # of b
    (found,) = read_maps(reads(whole), GROUP, Contrast.others)
    head, other = whole.maps[:, 0, 1], whole.maps[:, 1, 0]
    np.testing.assert_allclose(found.maps[0, 0, 1], plain(head[0], [head[3]]), atol=1e-6)
    np.testing.assert_allclose(found.maps[0, 1, 0], plain(other[0], [other[2], other[3]]), atol=1e-6)
    assert np.isnan(found.maps[2, 0, 1, 1, 1])
    alone = contrast(whole.maps[:1, 0, 1], np.full((1, 3, 3), np.nan, np.float32), np.ones((1, 1), bool))
    np.testing.assert_array_equal(alone, whole.maps[:1, 0, 1])


def test_one_sample_and_some_heads_are_what_all_together_give() -> None:
    whole = attention()
    (together,) = read_maps(reads(whole), GROUP, Contrast.others)
    for row, sample_id in enumerate(whole.sample_ids):
        (alone,) = read_maps(reads(whole), GROUP, Contrast.others, only=sample_id)
        assert alone.sample_ids == (sample_id,)
        np.testing.assert_array_equal(alone.maps[0], together.maps[row])
    parts = list(read_maps(reads(*one_by_one(whole, HEADS[1:])), GROUP, Contrast.others))
    np.testing.assert_array_equal(parts[0].maps[:, 0], together.maps[:, 1, 0])


def test_heads_that_some_sample_lacks_are_left_out() -> None:
    whole = attention()
    first, *rest = one_by_one(whole)
    mixed = [first, *one_by_one(whole, HEADS[1:])[1:]]
    (found,) = read_maps(reads(*mixed), GROUP, Contrast.others)
    assert found.heads == HEADS[1:]
    np.testing.assert_array_equal(
        found.maps, next(iter(read_maps(reads(first, *rest), GROUP, Contrast.others))).maps[:, 1:]
    )
    assert list(read_maps(reads(), GROUP, Contrast.others)) == []


def test_probes_are_taken_from_every_sample_and_are_none() -> None:
    probes = probes_of(GROUP)
    assert [one.expression for one in probes.samples] == list(PROBES)
    assert not {one.sample_id for one in probes.samples} & {one.sample_id for one in GROUP.samples}
    whole = attention(*merged([probes, GROUP]))  # as the store has them, in any order
    whole.maps[1, 0, 0] = np.inf  # of the second probe
    for gone in (0, 2):  # a probe that failed is missed by nobody
        kept = replace(whole, sample_ids=whole.sample_ids[gone:], maps=whole.maps[gone:])
        (found,) = read_maps(reads(kept), GROUP, Contrast.probes)
        assert found.sample_ids == tuple(one.sample_id for one in GROUP.samples)
        for row, own in enumerate(whole.maps[4:]):
            expected = [plain(own[head], list(whole.maps[gone:4, *head])) for head in ((0, 0), (0, 1))]
            np.testing.assert_allclose(found.maps[row, 0], expected, atol=1e-6)
    ids = {one.sample_id for one in probes.samples}
    assert uncontrasted([GROUP], Contrast.probes, ids) == [one.sample_id for one in GROUP.samples]
    assert uncontrasted([GROUP], Contrast.probes, {"a1", *list(ids)[1:]}) == []
    (alone,) = read_maps(
        reads(replace(whole, maps=whole.maps[4:], sample_ids=whole.sample_ids[4:])), GROUP, Contrast.probes
    )
    np.testing.assert_array_equal(alone.maps, whole.maps[4:])


def test_maps_of_one_call_are_contrasted_with_each_other_or_with_the_probes() -> None:
    maps = attention().maps[:, 0]  # of two expressions and three others, or of three that mean three objects
    np.testing.assert_array_equal(contrast_asked(maps[:2], 2, Contrast.none), maps[:2])
    probed, others = contrast_asked(maps, 2, Contrast.probes), contrast_asked(maps[:3], 3, Contrast.others)
    for head in range(2):
        for row in range(2):
            expected = plain(maps[row, head], list(maps[2:, head]))
            np.testing.assert_allclose(probed[row, head], expected, atol=1e-6)
        for row in range(3):
            expected = plain(maps[row, head], [maps[i, head] for i in range(3) if i != row])
            np.testing.assert_allclose(others[row, head], expected, atol=1e-6)


def test_without_contrast_the_store_is_read_as_it_is() -> None:
    whole = attention()
    (found,) = read_maps(reads(whole), GROUP, Contrast.none)
    np.testing.assert_array_equal(found.maps, whole.maps)
    (found,) = read_maps(reads(whole), GROUP, Contrast.none, only="b")
    np.testing.assert_array_equal(found.maps, whole.maps[2:3])


def test_a_blob_that_is_always_there_goes() -> None:
    """Two objects, and a head with four times as much weight in a fixed place: only contrast finds the objects."""
    samples = sample("a", "a", (0.0, 0.0, 40.0, 40.0)), sample("b", "b", (60.0, 50.0, 100.0, 90.0))
    group = replace(GROUP, samples=samples, width=120, height=120)
    maps = np.full((2, 1, 1, 12, 12), 0.001, np.float32)
    maps[0, ..., 0:4, 0:4] = maps[1, ..., 5:9, 6:10] = 0.02
    maps[..., 6:12, 0:4] = 0.08
    whole = Attention("7", ("a", "b"), maps, None, stretched(120, 120, 12, 12))
    for how, right in ((Contrast.none, False), (Contrast.others, True)):
        (found,) = read_maps(reads(whole), group, how)
        grounded = [ground_maps(one[:, 0], whole.geometry, GroundingConfig(sigma=0)) for one in found.maps]
        assert [one.box == own.box for one, own in zip(grounded, samples, strict=True)] == [right, right]
        assert (found.maps[..., 6:12, 0:4].max() == 0) == right
