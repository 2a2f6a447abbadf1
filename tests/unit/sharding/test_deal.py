"""Shards are even by tokens, and together the whole."""

import json
import random
from collections import defaultdict
from pathlib import Path

import pytest

from locheads.sharding.deal import TokenCost, deal, deal_images
from locheads.types import ImageGroup, Sample

SOURCE = Path(__file__).parents[4] / "shared" / "data" / "refcoco_unc_val.json"
COST = TokenCost(shared=True, template=220)


def make_image(image_id: str, expressions: list[str], size: tuple[int, int] = (640, 480)) -> ImageGroup:
    samples = tuple(Sample(f"{image_id}-{i}", "r", text, (0, 0, 1, 1), {}, "") for i, text in enumerate(expressions))
    return ImageGroup(image_id, Path(f"{image_id}.jpg"), *size, samples)


@pytest.fixture(scope="module")
def refcoco_val() -> list[ImageGroup]:
    """All 1,500 images with their 10,834 expressions."""
    if not SOURCE.is_file():
        pytest.skip(f"{SOURCE} is not there: the shared test data is needed")
    texts, sizes = defaultdict(list), {}
    for record in json.loads(SOURCE.read_text()):
        texts[record["image_id"]] += record["sentences"]
        sizes[record["image_id"]] = (record["width"], record["height"])
    return [make_image(str(image_id), texts[image_id], sizes[image_id]) for image_id in texts]


def with_discovery(val: list[ImageGroup]) -> list[ImageGroup]:
    """And discovery's five trials of 1,000, which hardly ever meet an image of train (17,000) twice."""
    texts = [s.expression for group in val for s in group.samples]
    rng = random.Random(0)
    drawn = sorted({i for _ in range(5) for i in rng.sample(range(len(texts)), 1000)})
    return [make_image(f"train-{i}", [texts[i]]) for i in drawn] + val


def loads(groups: list[ImageGroup], count: int, cost: TokenCost) -> list[float]:
    return [sum(map(cost.of, shard)) for shard in deal_images(groups, count, cost)]


def test_the_pass_over_refcoco_val_is_even_to_5_percent_for_1_to_256_workers(refcoco_val: list[ImageGroup]) -> None:
    groups = with_discovery(refcoco_val)
    total = sum(map(COST.of, groups))
    for count in range(1, 257):
        assert max(loads(groups, count, COST)) <= 1.05 * total / count, count


@pytest.mark.parametrize("shared", [True, False])
def test_val_alone_is_as_even_as_whole_images_can_be(refcoco_val: list[ImageGroup], shared: bool) -> None:
    # 249 workers: 1,500 images of 600 tokens and more leave one of them 7, whoever deals; even would be 6.02.
    cost = TokenCost(shared=shared, template=220)
    costs = sorted(map(cost.of, refcoco_val))
    for count in range(1, 257):
        fewest = -(-len(costs) // count)
        at_least = max(sum(costs) / count, costs[-1], sum(costs[:fewest]))
        assert max(loads(refcoco_val, count, cost)) <= 1.06 * at_least, count
        if count <= 80:
            assert max(loads(refcoco_val, count, cost)) <= 1.05 * sum(costs) / count, count


def test_dealing_by_count_would_not_be_even(refcoco_val: list[ImageGroup]) -> None:
    # The control: every 32nd image to the same worker, without shared images.
    cost = TokenCost(shared=False)
    by_count = [sum(map(cost.of, refcoco_val[i::32])) for i in range(32)]
    assert max(by_count) > 1.1 * sum(by_count) / 32
    assert max(loads(refcoco_val, 32, cost)) < 1.01 * sum(by_count) / 32


@pytest.mark.parametrize("count", [1, 3, 7, 50])
def test_every_image_is_in_one_shard_in_its_order(count: int) -> None:
    groups = [make_image(str(i), ["a cup"] * (1 + i % 5)) for i in range(20)]
    shards = deal_images(groups, count, COST)
    assert len(shards) == count
    assert sorted(group.image_id for shard in shards for group in shard) == sorted(group.image_id for group in groups)
    for shard in shards:
        ids = [int(group.image_id) for group in shard]
        assert ids == sorted(ids)


def test_the_dearest_first_to_the_least_loaded() -> None:
    # 5 | 3; 5 | 3+2; 5+2 | 3+2; 5+2 | 3+2+1.
    assert deal([3, 1, 5, 2, 2], 2) == [1, 1, 0, 1, 0]
    assert deal([], 3) == []
    assert deal([1, 1, 1], 3) == [0, 1, 2]


def test_tokens_of_a_image() -> None:
    group = make_image("a", ["x" * 8, "x" * 12], (560, 280))
    assert TokenCost(shared=True).of(group) == 576 + (2 + 2) + (3 + 2)
    assert TokenCost(shared=False).of(group) == 2 * 576 + 9
    assert TokenCost(shared=True, native=True, template=40).of(group) == 20 * 10 + 10 + 9
