"""The attend stage of one of many workers: shards are taken under a lease, filled into the one store, and reported."""

import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from locheads.config import Config
from locheads.errors import StoreError
from locheads.geometry import Preprocess
from locheads.models.adapters.base import Sharing
from locheads.models.load import ModelIdentity, adapter_of
from locheads.pipeline.mistakes import log_file
from locheads.pipeline.signals import undisturbed
from locheads.sharding.config import ShardConfig
from locheads.sharding.deal import TokenCost, deal_images
from locheads.sharding.lease import Lease, Record, State, file_time, read, take
from locheads.store.attention_store import AttentionStore
from locheads.store.digest import json_digest
from locheads.store.need import Need
from locheads.store.store_files import Stored
from locheads.types import ImageGroup

log = logging.getLogger(__name__)

Fill = Callable[[list[ImageGroup]], int]
"""Brings some images' attention into the store -> how many of their samples failed."""


@dataclass(frozen=True)
class Pass:
    """One attention pass over some images, to be dealt out."""

    name: str
    groups: list[ImageGroup]
    need: Need | None
    """What is needed of every sample; None where that is known only once the heads are found."""


class Dealer:
    """Deals the passes of one run, and keeps their leases beside the store."""

    def __init__(self, store: AttentionStore, config: ShardConfig, cost: TokenCost) -> None:
        self.store, self.config, self.cost = store, config, cost

    def folder(self, work: Pass) -> Path:
        """Of the leases: another for other samples, another need or another number of shards."""
        ids = [[group.image_id, *(sample.sample_id for sample in group.samples)] for group in work.groups]
        digest = json_digest([work.name, ids, repr(work.need), self.config.count])
        return self.store.folder / "work" / f"{work.name}-{self.config.count}-{digest[:12]}"

    def shards(self, work: Pass) -> list[list[ImageGroup]]:
        """Per shard its images."""
        return deal_images(work.groups, self.config.count, self.cost)

    def records(self, work: Pass) -> list[Record]:
        """Per shard its newest lease."""
        folder = self.folder(work)
        now = file_time(folder)
        return [read(folder, shard, self.config.lease_s, now) for shard in range(self.config.count)]

    def work(self, work: Pass, fill: Fill) -> bool:
        """Fills what is this worker's to fill. -> whether now every shard of the pass is done.

        Raises:
            StoreError: the shard that was asked for is with another worker, or was taken over by one.
        """
        folder, shards = self.folder(work), self.shards(work)

        def again(shard: int, record: Record) -> bool:
            """What is stored may have been damaged or deleted since."""
            self.store.refresh()
            lacking = 0 if work.need is None else _count(self.store.missing(shards[shard], work.need))
            return lacking > record.content.get("failed", 0)

        for lease in take(folder, self._mine(), self.config.lease_s, again):
            log.info("%s, shard %d of %d: taken.", work.name, lease.shard, self.config.count)
            self.store.refresh()  # what an earlier owner stored
            _under(lease, partial(self._fill, lease, work, shards[lease.shard], fill))
        self.store.refresh()
        records = self.records(work)
        self._refuse_double(records)
        states = [record.state for record in records]
        log.info("%s: %s.", work.name, summary(states))
        return all(state == State.done for state in states)

    def _mine(self) -> list[int]:
        if self.config.index is not None:
            return [self.config.index]
        # Workers that start together begin at different places.
        first = array_position() % self.config.count
        return [*range(first, self.config.count), *range(first)]

    def _fill(self, lease: Lease, work: Pass, part: list[ImageGroup], fill: Fill) -> None:
        missing = part if work.need is None else self.store.missing(part, work.need)
        meter = _Meter(lease, {group.image_id: self.cost.of(group) for group in part}, missing, len(part))
        self.store.appended = meter
        failed = fill(part) if part else 0
        lease.tell(failed=failed)

    def _refuse_double(self, records: list[Record]) -> None:
        index = self.config.index
        if index is not None and records[index].state == State.running:
            raise StoreError(
                f"Shard {index} of {self.config.count} is with another worker ({records[index].owner()}): nothing to "
                "do here. Follow it with stage=status."
            )


class _Meter:
    """Called with what was stored; tells it to the lease."""

    def __init__(self, lease: Lease, costs: dict[str, float], missing: list[ImageGroup], images: int) -> None:
        self._lease, self._costs, self._start = lease, costs, time.monotonic()
        self._tokens, self._done = 0.0, 0
        total = sum(costs[group.image_id] for group in missing)
        lease.measure = lambda: {"memory_mib": peak_memory_mib()}
        lease.tell(images=images, images_todo=len(missing), images_done=0, tokens_todo=total, tokens_done=0.0)
        lease.tell(log=log_file())

    def __call__(self, stored: Sequence[Stored]) -> None:
        self._tokens += sum(self._costs[one.image_id] for one in stored)
        self._done += len(stored)
        seconds = time.monotonic() - self._start
        self._lease.tell(images_done=self._done, tokens_done=self._tokens, seconds=round(seconds, 3))


def token_cost(config: Config, identity: ModelIdentity) -> TokenCost:
    """What an image costs this model, guessed without its processor."""
    sharing = getattr(adapter_of(config.model, identity.model_type, identity.source), "sharing", Sharing.packed)
    return TokenCost(
        shared=sharing == Sharing.packed,
        native=config.model.preprocess == Preprocess.native,
        template=len(config.prompt.template),
    )


def summary(states: Sequence[State]) -> str:
    """As "3 done, 1 running"."""
    return ", ".join(f"{states.count(state)} {state}" for state in State if state in states)


def array_position() -> int:
    """Which of the workers that a job array started this is; 0 outside one."""
    task, rank, ranks = (
        int(os.environ.get(name, default))
        for name, default in (("SLURM_ARRAY_TASK_ID", 0), ("SLURM_PROCID", 0), ("SLURM_NTASKS", 1))
    )
    return task * ranks + rank


def peak_memory_mib() -> int:
    """Of the GPU where torch uses one, else of the process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated()) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _under(lease: Lease, action: Callable[[], Any]) -> None:
    """Does it, and lets the lease say how it went."""
    try:
        action()
    except Exception as error:
        lease.close(State.failed, str(error) or type(error).__name__)
        raise
    except BaseException as stop:
        with undisturbed():
            lease.close(State.stopped, str(stop) or type(stop).__name__)
        raise
    lease.close(State.done)


def _count(groups: Sequence[ImageGroup]) -> int:
    return sum(len(group.samples) for group in groups)
