"""Shards are even by tokens and together the whole, and any number of workers fill one store with the same content."""

import json
import os
import random
import signal
from collections import defaultdict
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from locheads.errors import ConfigError
from locheads.geometry import Preprocess, square_geometry
from locheads.store.attention_store import AttentionStore
from locheads.store.needed_maps import EVERYTHING
from locheads.types import Attention, ImageGroup, Sample
from locheads.workers.config import ShardConfig
from locheads.workers.shard_progress import ShardState, read_progress
from locheads.workers.split_work import Pass, TokenCost, deal, fill_shards, own_shard, split

SOURCE = Path(__file__).parents[4] / "shared" / "data" / "refcoco_unc_val.json"
COST = TokenCost(shared=True, template=220)


def image(image_id: str, expressions: list[str], size: tuple[int, int] = (640, 480)) -> ImageGroup:
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
    return [image(str(image_id), texts[image_id], sizes[image_id]) for image_id in texts]


def with_discovery(val: list[ImageGroup]) -> list[ImageGroup]:
    """And discovery's five trials of 1,000, which hardly ever meet an image of train (17,000) twice."""
    texts = [s.expression for group in val for s in group.samples]
    rng = random.Random(0)
    drawn = sorted({i for _ in range(5) for i in rng.sample(range(len(texts)), 1000)})
    return [image(f"train-{i}", [texts[i]]) for i in drawn] + val


def loads(groups: list[ImageGroup], count: int, cost: TokenCost) -> list[float]:
    return [sum(map(cost.of, shard)) for shard in split(groups, count, cost)]


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
    groups = [image(str(i), ["a cup"] * (1 + i % 5)) for i in range(20)]
    shards = split(groups, count, COST)
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


def test_tokens_of_an_image() -> None:
    group = image("a", ["x" * 8, "x" * 12], (560, 280))
    assert TokenCost(shared=True).of(group) == 576 + (2 + 2) + (3 + 2)
    assert TokenCost(shared=False).of(group) == 2 * 576 + 9
    assert TokenCost(shared=True, native=True, template=40).of(group) == 20 * 10 + 10 + 9


# ---- one store, many workers ----


GROUPS = [image(f"i{i}", ["a cup"] * (1 + i % 3)) for i in range(12)]
WORK = Pass("all", GROUPS, EVERYTHING)
TWO = ShardConfig(count=2, index=1)


def attention(group: ImageGroup) -> Attention:
    """The same numbers for an image whoever makes them."""
    rng = np.random.default_rng([*group.image_id.encode()])
    names = tuple(sample.sample_id for sample in group.samples)
    maps = rng.random((len(names), 2, 3, 4, 4), np.float32)
    geometry = square_geometry(640, 480, 16, 4, Preprocess.pad)
    return Attention(group.image_id, names, maps, maps.sum(axis=(-2, -1)), geometry)


def opened(folder: Path) -> AttentionStore:
    return AttentionStore(folder, {"model": "m"})


def filled(store: AttentionStore, config: ShardConfig, before: Callable[[ImageGroup], Any] = bool) -> bool:
    """A worker that stores two images per file, and calls `before` with each image."""

    def fill(part: list[ImageGroup]) -> int:
        missing = store.missing(part)
        for start in range(0, len(missing), 2):
            two = missing[start : start + 2]
            for group in two:
                before(group)
            store.write([attention(group) for group in two])
        return 0

    return fill_shards(store, WORK, config, COST, fill)


def content(store: AttentionStore) -> list[tuple[str, tuple[str, ...], bytes, bytes]]:
    """Everything that a reader gets, in order."""
    return [(one.image_id, one.sample_ids, one.maps.tobytes(), one.sums.tobytes()) for one in store.read(GROUPS)]


@pytest.fixture
def expected(tmp_path: Path) -> list[Any]:
    """What one worker stores of everything."""
    store = opened(tmp_path / "one")
    store.write([attention(group) for group in GROUPS])
    found = content(store)
    assert len(found) == len(GROUPS)
    return found


def test_two_writers_of_one_shard_count_once(tmp_path: Path, expected: list[Any]) -> None:
    context = get_context("fork")
    both = context.Barrier(2)

    def work() -> None:
        waited: list[int] = []
        # Neither begins to store before the other has found that everything is missing.
        filled(opened(tmp_path), TWO, lambda _: waited or waited.append(both.wait(60)))

    workers = [context.Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    store = opened(tmp_path)
    shard = split(GROUPS, 2, COST)[1]
    listings = list(store.folder.glob("*.shard.json"))
    stored = [one["image_id"] for path in listings for one in json.loads(path.read_text())["pictures"]]
    assert sorted(stored) == sorted(2 * [group.image_id for group in shard])  # each twice
    assert content(store) == [one for one in expected if one[0] in stored]  # and read once
    assert store.missing(shard) == []
    # Merged once more, and by another order of the files, nothing changes.
    before = content(store)
    store.refresh()
    assert content(store) == before
    for number, path in enumerate(sorted(listings, reverse=True)):
        for file in (path, path.with_name(path.name.replace(".shard.json", ".safetensors"))):
            file.rename(file.with_name(f"{number:032x}.{file.name.partition('.')[2]}"))
    assert content(opened(tmp_path)) == before
    assert filled(store, ShardConfig(count=2, index=0)) and content(store) == expected


def test_a_killed_worker_started_again_goes_on(tmp_path: Path, expected: list[Any]) -> None:
    def die_at_the_fourth(group: ImageGroup) -> None:
        seen.append(group.image_id)
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    seen: list[str] = []
    worker = get_context("fork").Process(target=lambda: filled(opened(tmp_path), TWO, die_at_the_fourth))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    store = opened(tmp_path)
    file = WORK.progress_files(store, 2)[1]
    assert read_progress(file).state is ShardState.running
    shard = [group.image_id for group in split(GROUPS, 2, COST)[1]]
    # The other shard's worker leaves the pass open, then the second life of the first completes it.
    assert not filled(store, ShardConfig(count=2, index=0))
    assert filled(store, TWO, lambda group: seen.append(group.image_id))
    assert seen == shard[2:]
    assert read_progress(file).content["images_done"] == len(shard) - 2
    assert content(store) == expected
    assert filled(store, TWO, lambda _: pytest.fail("done is done"))


def test_a_shard_that_another_run_stored_needs_no_worker(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write([attention(group) for group in split(GROUPS, 2, COST)[1]])
    assert filled(store, ShardConfig(count=2, index=0))


# ---- whose is which ----


@pytest.mark.parametrize(
    ("environment", "index", "shard"),
    [
        ({}, 2, 2),
        ({"ARRAY_TASK_ID": "3", "NTASKS": "1", "PROCID": "0"}, 2, 2),
        ({"ARRAY_TASK_ID": "3", "NTASKS": "1", "PROCID": "0"}, None, 3),
        ({"ARRAY_TASK_ID": "1", "NTASKS": "2", "PROCID": "1"}, None, 3),
        ({"NTASKS": "4", "PROCID": "2"}, None, 2),
    ],
)
def test_the_launcher_tells_whose_shard_is_which(
    environment: dict[str, str], index: int | None, shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert own_shard(ShardConfig(count=4, index=index)) == shard


def test_without_a_launcher_one_sentence_asks_for_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    four = ShardConfig(count=4)
    says = r"Nothing says which of the 4 shards .* shard.index, from 0 to 3, .* -m 'shard.index=range\(0,4\)'\.$"
    with pytest.raises(ConfigError, match=says):
        own_shard(four)
    monkeypatch.setenv("SLURM_NTASKS", "1")  # a shell in an allocation
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(ConfigError, match=says):
        own_shard(four)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    with pytest.raises(ConfigError, match=r"This is task 4 of the job array, and shard.count=4"):
        own_shard(four)
    # A sweep's array counts its runs.
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode.MULTIRUN))
    with pytest.raises(ConfigError, match=says):
        own_shard(four)


def test_the_setting_that_leases_had_is_accepted_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ShardConfig(count=2)
    assert caplog.text == ""
    assert ShardConfig(count=2, lease_s=90).count == 2
    assert "shard.lease_s has no effect any more" in caplog.text
