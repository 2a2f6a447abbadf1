"""Splits one attention pass into shards, even by the tokens that the model will read, and fills the shard of this task.

A shard belongs to one task of the launcher (a job array, a sweep), and the scheduler starts a task again that was lost.
Two tasks with the same shard do no harm: each adds whole files of equal content to the store, which takes an image
from one of them.
"""

import heapq
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from locheads.errors import ConfigError
from locheads.geometry import Preprocess
from locheads.models.config import ModelConfig, PromptConfig
from locheads.store.attention_store import AttentionStore, count
from locheads.store.digest import json_digest
from locheads.store.needed_maps import NeededMaps
from locheads.store.store_files import Part
from locheads.types import ImageGroup
from locheads.workers.config import ShardConfig
from locheads.workers.shard_progress import ShardProgress, ShardState, read_progress, reported, summary

if TYPE_CHECKING:
    from locheads.models.adapters import Sharing

log = logging.getLogger(__name__)

IMAGE_TOKENS = 576
"""Of a square image: 24 x 24 patches."""
PIXELS_PER_TOKEN = 28 * 28
"""Where the model sees the image in its own size (Qwen-VL)."""
CHARACTERS_PER_TOKEN = 4
AFTER_EXPRESSION = 2
"""Full stop, end of turn."""


@dataclass(frozen=True)
class TokenCost:
    """Expected tokens of an image. Only relative sizes matter: a wrong guess costs balance, never correctness."""

    shared: bool
    """Whether the image is read once for all its expressions, or once for each."""
    native: bool = False
    """Whether the model sees the image in its own size."""
    template: int = 0
    """Characters of the prompt around image and expression."""

    def of(self, group: ImageGroup) -> float:
        """Tokens of all forward passes for the image."""
        image = group.width * group.height / PIXELS_PER_TOKEN if self.native else IMAGE_TOKENS
        prefix = image + self.template / CHARACTERS_PER_TOKEN
        suffixes = [len(s.asked) / CHARACTERS_PER_TOKEN + AFTER_EXPRESSION for s in group.samples]
        return (prefix if self.shared else prefix * len(suffixes)) + sum(suffixes)


def token_cost(sharing: "Sharing", model: ModelConfig, prompt: PromptConfig) -> TokenCost:
    """What an image costs this model, guessed without its processor."""
    return TokenCost(sharing == "packed", model.preprocess == Preprocess.native, len(prompt.template))


def deal(costs: Sequence[float], n_shards: int) -> list[int]:
    """Which of the shards gets which item: the dearest first, each to the shard with the least so far.

    Depends on nothing but its arguments. The fullest shard exceeds the best possible by a third at most (Graham 1969).
    """
    loads = [(0.0, shard) for shard in range(n_shards)]
    result = [0] * len(costs)
    for item in sorted(range(len(costs)), key=lambda item: (-costs[item], item)):
        load, shard = heapq.heappop(loads)
        result[item] = shard
        heapq.heappush(loads, (load + costs[item], shard))
    return result


def split(groups: Sequence[ImageGroup], n_shards: int, cost: TokenCost) -> list[list[ImageGroup]]:
    """Per shard its images, whole, in their order: so every image has the same forward pass for any number."""
    shards: list[list[ImageGroup]] = [[] for _ in range(n_shards)]
    for group, shard in zip(groups, deal([cost.of(group) for group in groups], n_shards), strict=True):
        shards[shard].append(group)
    return shards


@dataclass(frozen=True)
class Pass:
    """One attention pass over some images, to be split."""

    name: str
    groups: list[ImageGroup]
    need: NeededMaps | None
    """What is needed of every sample; None where that is known only once the heads are found."""

    def progress_files(self, store: AttentionStore, n_shards: int) -> list[Path]:
        """One per shard, beside the store: others for other samples, another need or another number of shards."""
        ids = [[group.image_id, *(sample.sample_id for sample in group.samples)] for group in self.groups]
        digest = json_digest([self.name, ids, repr(self.need), n_shards])
        folder = store.folder / "work" / f"{self.name}-{n_shards}-{digest[:12]}"
        return [folder / f"{shard:04d}.json" for shard in range(n_shards)]

    def missing(self, store: AttentionStore, part: list[ImageGroup], progress: ShardProgress) -> list[ImageGroup]:
        """What the store lacks of a shard. Samples that failed are missing for good, and a worker tells how many."""
        done = progress.state == ShardState.done
        if self.need is None:
            return [] if done else part
        missing = store.missing(part, self.need)
        return [] if done and count(missing) <= progress.content["failed"] else missing


def own_shard(config: ShardConfig) -> int:
    """The shard of this process: shard.index, else the number of its task in a job array of SLURM.

    Raises:
        ConfigError: nothing tells it, or there are more tasks than shards.
    """
    if config.index is not None:
        return config.index
    remedy = (
        f"start each worker with its own shard.index, from 0 to {config.count - 1}, or all of them with -m "
        f"'shard.index=range(0,{config.count})'."
    )
    # The array of a sweep counts the sweep's runs, which may differ in more than their shards.
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    task, rank, n_ranks = (os.environ.get(f"SLURM_{name}") for name in ("ARRAY_TASK_ID", "PROCID", "NTASKS"))
    if sweeping or (task is None and int(n_ranks or 1) == 1):
        raise ConfigError(f"Nothing says which of the {config.count} shards is this worker's: {remedy}")
    number = int(task or 0) * int(n_ranks or 1) + int(rank or 0)
    if number >= config.count:
        raise ConfigError(f"This is task {number} of the job array, and shard.count={config.count}: {remedy}")
    return number


def fill_shards(
    store: AttentionStore,
    work: Pass,
    config: ShardConfig,
    cost: TokenCost,
    fill: Callable[[list[ImageGroup]], int],
    log_file: str | None = None,
) -> bool:
    """Fills this task's shard of the pass. -> whether now every shard of it is done.

    `fill` brings some images' attention into the store -> how many of their samples failed. Raises ConfigError as
    `own_shard`, and StoreError where the store cannot be written.
    """
    index, files = own_shard(config), work.progress_files(store, config.count)
    parts = split(work.groups, config.count, cost)
    store.refresh()  # what an earlier worker stored
    before = read_progress(files[index])
    missing = work.missing(store, parts[index], before)
    if missing or before.state != ShardState.done:
        log.info("%s, shard %d of %d: begun.", work.name, index, config.count)
        facts = {"images": len(parts[index]), "images_missing": len(missing), "images_done": 0, "tokens_done": 0.0}
        with reported(files[index], **facts, seconds=0.0, failed=0, log=log_file) as update:
            store.appended = _meter(update, {group.image_id: cost.of(group) for group in missing})
            update(failed=fill(parts[index]) if parts[index] else 0)
    store.refresh()
    found = [read_progress(path) for path in files]
    log.info("%s: %s.", work.name, summary([progress.state for progress in found]))
    # A shard that another run has stored, or that holds no image, may have had no worker.
    return not any(progress.state == ShardState.running for progress in found) and not any(
        work.missing(store, part, progress)
        for part, progress in zip(parts, found, strict=True)
        if progress.state != ShardState.done
    )


def _meter(update: Callable[..., None], costs: dict[str, float]) -> Callable[[Sequence[Part]], None]:
    """Called with what was stored; records it in the shard's file."""
    start, images, tokens = time.monotonic(), set[str](), 0.0

    def note(stored: Sequence[Part]) -> None:
        nonlocal tokens
        tokens += sum(costs.get(one.image_id, 0.0) for one in stored)
        images.update(costs.keys() & {one.image_id for one in stored})
        update(images_done=len(images), tokens_done=tokens, seconds=round(time.monotonic() - start, 3))

    return note
