"""The greedy search by REC: against all sets, on planted maps, and where there is nothing to search."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from locheads.evaluation import best_heads as ceiling
from locheads.evaluation.best_heads import search_heads, searched_groups, single_hits
from locheads.evaluation.metrics import box_iou
from locheads.geometry import stretched
from locheads.grounding.config import BoxRule, Component, GroundingConfig, Resolution, Rounding
from locheads.grounding.ground_maps import ground_maps
from locheads.types import Attention, HeadIndex, ImageGroup, Sample

PLAIN = GroundingConfig(sigma=0.0)
SIDE = 6
ALL = [HeadIndex(layer, head) for layer in range(2) for head in range(3)]


def _scene(number: int) -> tuple[ImageGroup, Attention]:
    """Noise, in which L0H1 finds the left half of the object and L1H2 its right half; L1H0 is not a number."""
    rng = np.random.default_rng(number)
    x, y = rng.integers(0, SIDE - 2, 2)
    maps = rng.random((1, 2, 3, SIDE, SIDE)).astype(np.float32) * (0.05, 0.5)[number % 2]
    maps[0, 0, 1, y : y + 2, x] += 3
    maps[0, 1, 2, y : y + 2, x + 1] += 3
    maps[0, 1, 0, 0, 0] = np.nan
    whole = coco.encode(np.ones((SIDE, SIDE), dtype=np.uint8, order="F"))
    sample = Sample(f"s{number}", "r", "x", (float(x), float(y), x + 2.0, y + 2.0), whole, "thing")
    group = ImageGroup(f"p{number}", Path("none"), SIDE, SIDE, (sample,))
    attention = Attention(group.image_id, (sample.sample_id,), maps, maps.sum(axis=(-2, -1)),
                          stretched(SIDE, SIDE, SIDE, SIDE))  # fmt: skip
    return group, attention


SCENES = [_scene(number) for number in range(24)]
STORED = {group.image_id: attention for group, attention in SCENES}


def _read(groups: list[ImageGroup], heads: Sequence[HeadIndex] | None = None) -> list[Attention]:
    found = [STORED[group.image_id] for group in groups]
    if heads is None:
        return found
    layers, columns = [head.layer for head in heads], [head.head for head in heads]
    return [replace(one, maps=one.maps[:, layers, columns], sums=None, heads=tuple(heads)) for one in found]


def _search(read: ceiling.Read, groups: list[ImageGroup], k: int, config: GroundingConfig) -> tuple[HeadIndex, ...]:
    def each(work: Any, images: list[ImageGroup]) -> list[Any]:
        return [work(read([image], None), image) for image in images]

    return search_heads(read, single_hits(each, groups, config), groups, k, config)


def _accuracy(heads: tuple[HeadIndex, ...]) -> float:
    """As the pipeline grounds: one sample at a time."""
    hits = []
    for group, attention in SCENES:
        maps = np.nan_to_num(attention.chosen(0, heads))
        box = ground_maps(maps, attention.geometry, PLAIN).box
        hits.append(box is not None and box_iou([box], [group.samples[0].box])[0] >= 0.5)
    return float(np.mean(hits))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_each_step_takes_the_head_that_raises_it_most(k: int) -> None:
    found = _search(_read, [group for group, _ in SCENES], k, PLAIN)
    assert len(found) == k
    for step in range(k):
        best = max(_accuracy((*found[:step], head)) for head in ALL if head not in found[:step])
        assert _accuracy(found[: step + 1]) == best


def test_it_finds_the_pair_that_belongs_together() -> None:
    found = _search(_read, [group for group, _ in SCENES], 2, PLAIN)
    assert set(found) == {HeadIndex(0, 1), HeadIndex(1, 2)}
    assert _accuracy(found) == max(_accuracy(pair) for pair in permutations(ALL, 2))


def test_without_all_maps_there_is_nothing_to_search() -> None:
    groups = [group for group, _ in SCENES]
    one = SCENES[0][1]
    few = replace(one, maps=one.maps[:, 0, :2], sums=None, heads=tuple(ALL[:2]))
    assert _search(lambda *_: [few], groups, 2, PLAIN) == ()
    assert _search(lambda *_: [one, few], groups, 2, PLAIN) == ()
    assert _search(lambda *_: [], groups, 2, PLAIN) == ()


def test_so_many_expressions_evenly_spaced(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [group for group, _ in SCENES]
    assert searched_groups(groups) == groups
    monkeypatch.setattr(ceiling, "SEARCHED", 3)
    assert [group.image_id for group in searched_groups(groups)] == ["p0", "p12", "p23"]


@pytest.mark.parametrize("component", Component)
@pytest.mark.parametrize("box_rule", BoxRule)
@pytest.mark.parametrize("resolution", [Resolution.grid, Resolution.image])
def test_maps_that_cannot_hit_are_left_out_without_a_change(
    component: Component, box_rule: BoxRule, resolution: Resolution
) -> None:
    """Against each map grounded by itself, every rule that makes a box of it."""
    config = GroundingConfig(component=component, box=box_rule, resolution=resolution, rounding=Rounding.truncated)
    rng, geometry = np.random.default_rng(5), stretched(97, 61, 8, 8)
    truth = (20.0, 10.0, 70.0, 50.0)
    blob = np.zeros((8, 8), dtype=np.float32)
    blob[1:6, 2:6] = 1
    maps = (rng.gamma(0.5, size=(40, 8, 8)) + np.linspace(0, 3, 40)[:, None, None] * blob).astype(np.float32)
    maps[7] = 0.5
    boxes = [ground_maps(map_[None], geometry, config).box for map_ in maps]
    expected = [box is not None and box_iou([box], [truth])[0] >= 0.5 for box in boxes]
    fused = ceiling._fused(maps, None, config)
    assert ceiling._hits(fused, geometry, truth, config).tolist() == expected
    if box_rule != BoxRule.mass_quantiles and component != Component.all_cells:
        assert 0 < sum(expected) < len(maps)
